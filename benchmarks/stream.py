"""A step of a stream beside regenerating its window at every pass; its parts, its frames a second, its undo log."""

from __future__ import annotations

from dataclasses import replace

import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.measuring import Rounds, Rule, run_in_turn
from benchmarks.rows import Row, compared
from gamegen_x.config import to_dict
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
    stream = sampler.start(settings.prompt, rule.seed, settings.num_players)
    keys = torch.zeros(stream.num_slots, networks.vae.temporal_factor, networks.action_space.num_keys)
    for _ in range(max(sampler.settings.window, sampler.undo_ticks + 1)):  # until ring and log are full
        sampler.step([stream], [keys])
    undone = undo_ratio(stream)  # now: the parts below commit without ending a tick
    batch = StreamBatch([stream], sampler.layout)
    conditions = batch.conditions(batch.gather([keys]), has_actions=True, told=[None])
    latents = sampler.denoise(batch, conditions)

    def cached() -> None:
        now = StreamBatch([stream], sampler.layout)
        sampler.commit(now, sampler.denoise(now, conditions), conditions)

    asked = replace(
        conditions,
        actions=conditions.actions.expand(-1, -1, sampler.settings.window, -1, -1),
        is_instructed=conditions.is_instructed.expand(-1, sampler.settings.window),
    )
    window = torch.randn(1, settings.num_players, sampler.settings.window, *sampler.latent_shape)

    def regenerated() -> Tensor:
        """The window's last frame, all frames anew at every pass; its keys are those of the step, over and over."""
        time = torch.ones(window.shape[:3])

        def velocity(new: Tensor, now: float) -> Tensor:
            everything = torch.cat([window[:, :, :-1], new[:, :, None]], dim=2).to(sampler.layout.dtype)
            time[:, :, -1] = now
            return sampler.model(everything, time, asked)[:, :, -1].float()

        return sampler.solve(velocity, window[:, :, -1], sampler.times)

    rounds = run_in_turn(
        {
            CACHED: cached,
            WINDOW: regenerated,
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
        Row(PART, "frames_per_player", "frames/s", ours=rate, target=settings.targets.frames, note=rounds.note()),
        *_parts(rounds),
        Row(PART, "snapshot_over_undo", "times", ours=undone, target=settings.targets.snapshot_over_undo),
    ]


def _parts(rounds: Rounds) -> list[Row]:
    return [Row(PART, name, "ms", ours=1e3 * rounds.median(name)) for name in (PACK, DENOISE, COMMIT, DECODE)]


def undo_ratio(stream: Stream) -> float:
    """How many times larger a copy of the stream is than what the log keeps of one step."""
    return stream.snapshot_bytes() / (stream.undo_bytes() / stream.undo_depth)
