"""A step of a stream beside regenerating its window at every pass; its parts, its frames a second, its undo log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.measuring import Rounds, Rule, run_in_turn
from benchmarks.rows import Row, compared
from gamegen_x.config import to_dict
from gamegen_x.models.gamegen import Conditions
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.stream import Stream
from gamegen_x.sampling.stream_batch import StreamBatch
from gamegen_x.sampling.stream_sampler import StreamSampler

PART = "stream"
CACHED, WINDOW, STEP, PACK, DENOISE, COMMIT, DECODE = "cached", "window", "step", "pack", "denoise", "commit", "decode"


@torch.inference_mode()
def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    networks = Networks.load(settings.weights)
    sampler = StreamSampler(networks, networks.sampler_settings, **to_dict(settings.live))
    [stream] = streams = _full_streams(sampler, 1, settings, rule)
    undone = undo_ratio(stream)  # now: the parts below commit without ending a tick
    keys = _no_keys(sampler)
    batch, conditions = _packed(sampler, streams)
    latents = sampler.denoise(batch, conditions)
    rounds = run_in_turn(
        {
            **_two_ways(sampler, streams, rule),
            STEP: lambda: sampler.step([stream], [keys]),
            PACK: lambda: StreamBatch([stream], sampler.layout),
            DENOISE: lambda: sampler.denoise(batch, conditions),
            COMMIT: lambda: sampler.commit(batch, latents, conditions),
            DECODE: lambda: sampler.decode(batch, latents),
        },
        rule,
    )
    ratio = settings.targets.of_window * sampler.settings.window
    rate = networks.vae.temporal_factor / rounds.median(STEP)
    return [
        compared(PART, "cached_step", rounds, WINDOW, rule, ratio, ours=CACHED),
        *(_of_load(load, networks, settings, rule) for load in settings.loads),
        Row(PART, "frames_per_player", "frames/s", ours=rate, target=settings.targets.frames, note=rounds.note()),
        *_parts(rounds),
        Row(PART, "snapshot_over_undo", "times", ours=undone, target=settings.targets.snapshot_over_undo),
    ]


@torch.inference_mode()
def _of_load(load: DictConfig, networks: Networks, settings: DictConfig, rule: Rule) -> Row:
    """The cached step of several streams at once, with so many steps of the solver."""
    sampling = replace(networks.sampler_settings, num_steps=load.num_steps)
    sampler = StreamSampler(networks, sampling, **to_dict(settings.live))
    rounds = run_in_turn(_two_ways(sampler, _full_streams(sampler, load.num_streams, settings, rule), rule), rule)
    name = f"cached_step_streams_{load.num_streams}_steps_{load.num_steps}"
    target = None if load.of_window is None else load.of_window * sampling.window
    return compared(PART, name, rounds, WINDOW, rule, target, ours=CACHED)


def _full_streams(sampler: StreamSampler, num_streams: int, settings: DictConfig, rule: Rule) -> list[Stream]:
    """Streams whose rings and logs are full."""
    streams = [sampler.start(settings.prompt, rule.seed + i, settings.num_players) for i in range(num_streams)]
    for _ in range(max(sampler.settings.window, sampler.undo_ticks + 1)):
        sampler.step(streams, [_no_keys(sampler)] * num_streams)
    return streams


def _no_keys(sampler: StreamSampler) -> Tensor:
    networks = sampler.networks
    return torch.zeros(sampler.num_slots, networks.vae.temporal_factor, networks.action_space.num_keys)


def _packed(sampler: StreamSampler, streams: list[Stream]) -> tuple[StreamBatch, Conditions]:
    """Streams as the networks take them, and what a step without keys is told."""
    batch = StreamBatch(streams, sampler.layout)
    keys = batch.gather([_no_keys(sampler)] * len(streams))
    return batch, batch.conditions(keys, has_actions=True, told=[None] * len(streams))


def _two_ways(sampler: StreamSampler, streams: list[Stream], rule: Rule) -> dict[str, Callable[[], object]]:
    """A latent frame of all streams from what the ring remembers, and from the frames of their windows."""
    batch, conditions = _packed(sampler, streams)

    def cached() -> None:
        now = StreamBatch(streams, sampler.layout)
        sampler.commit(now, sampler.denoise(now, conditions), conditions)

    num_latents = sampler.settings.window
    asked = replace(
        conditions,
        actions=conditions.actions.expand(-1, -1, num_latents, -1, -1),
        is_instructed=conditions.is_instructed.expand(-1, num_latents),
    )
    shape = (len(streams), batch.num_columns, num_latents, *sampler.latent_shape)
    window = torch.randn(shape, generator=torch.Generator().manual_seed(rule.seed))

    def regenerated() -> Tensor:
        """The window's last frame, all frames anew at every pass; its keys are those of the step, over and over."""
        time = torch.ones(window.shape[:3])

        def velocity(new: Tensor, now: float) -> Tensor:
            everything = torch.cat([window[:, :, :-1], new[:, :, None]], dim=2).to(sampler.layout.dtype)
            time[:, :, -1] = now
            return sampler.model(everything, time, asked)[:, :, -1].float()

        return sampler.solve(velocity, window[:, :, -1], sampler.times)

    return {CACHED: cached, WINDOW: regenerated}


def _parts(rounds: Rounds) -> list[Row]:
    return [Row(PART, name, "ms", ours=1e3 * rounds.median(name)) for name in (PACK, DENOISE, COMMIT, DECODE)]


def undo_ratio(stream: Stream) -> float:
    """How many times larger a copy of the stream is than what the log keeps of one step."""
    return stream.snapshot_bytes() / (stream.undo_bytes() / stream.undo_depth)
