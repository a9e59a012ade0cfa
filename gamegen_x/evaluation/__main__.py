"""Measures a model: `python -m gamegen_x.evaluation suite=control checkpoint=weights/snowglobe-tiny`."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig

from gamegen_x.config import build, check, entry_point, has_rules, to_dict
from gamegen_x.evaluation.checks import check_recordings, holds_recordings
from gamegen_x.schema.weights_folder import check_files, read_config

if TYPE_CHECKING:
    from gamegen_x.evaluation.generation import Sampler, Telling
    from gamegen_x.evaluation.meetings import LiveModel
    from gamegen_x.evaluation.recordings import Recording
    from gamegen_x.models.vae import VideoVAE
    from gamegen_x.sampling.networks import Networks
    from gamegen_x.sampling.settings import SamplerSettings


@entry_point(
    "evaluate",
    {"recordings": str, "game": dict, "sampler": "gamegen_x.sampling.settings.SamplerSettings"},
)
def main(cfg: DictConfig) -> None:
    started = time.monotonic()
    if cfg.recordings is not None:  # what can be wrong with paths is said before anything heavy is loaded
        check_recordings(cfg.recordings)
    if cfg.judges_only:
        prepare_judges(cfg)
        return
    weights = read_config(cfg.checkpoint)
    check_files(cfg.checkpoint, weights["networks"])
    if cfg.recordings is None:
        check_game(cfg, weights)

    import torch

    from gamegen_x.evaluation.recordings import read_recordings
    from gamegen_x.evaluation.suite import Result, Suite
    from gamegen_x.sampling.settings import SamplerSettings

    settings = SamplerSettings.of(weights, cfg.sampler)
    suite: Suite = build(cfg.suite)
    vae, sampler, live = load_model(cfg, weights, settings)
    telling = load_telling(cfg, weights, vae)
    recordings = read_recordings(find_recordings(cfg), **to_dict(cfg.reading))
    check_fit(weights, recordings.val[0])
    result: Result = suite.run(
        checkpoint=str(cfg.checkpoint),
        vae=vae,
        sampler=sampler,
        recordings=recordings,
        device=torch.device(cfg.device),
        live=live,
        telling=telling,
    )
    figures = {**result.figures, "seconds_total": round(time.monotonic() - started, 1)}
    result = replace(result, figures=figures)
    print(f"report: {result.write(cfg.output)}")
    for reason in result.not_learned:
        print(f"not learned: {reason}")
    print(json.dumps(figures), flush=True)
    if result.not_learned:
        sys.exit(1)


def prepare_judges(cfg: DictConfig) -> None:
    """Trains the judges before there is a model, so that evaluations find them in their folder."""
    import torch

    from gamegen_x.evaluation.commands import Commands
    from gamegen_x.evaluation.recordings import read_recordings
    from gamegen_x.evaluation.suite import Suite

    suite: Suite = build(cfg.suite)
    recordings = read_recordings(find_recordings(cfg), **to_dict(cfg.reading))
    commands = Commands(suite.command_names, recordings.action_space)
    judges = suite.judges.judges(recordings, commands, torch.device(cfg.device))
    print(json.dumps({"suite": suite.name, "data_id": recordings.data_id, "ceilings": judges.ceilings}), flush=True)


def load_model(
    cfg: DictConfig, weights: dict[str, Any], settings: SamplerSettings
) -> tuple[VideoVAE, Sampler | None, LiveModel | None]:
    """The VAE, a sampler where the weights hold more than a VAE, and one of running worlds where a suite has such."""
    from gamegen_x.models.vae import VideoVAE
    from gamegen_x.models.weights import load_network
    from gamegen_x.sampling.clip_sampler import ClipSampler
    from gamegen_x.sampling.networks import Networks

    if "msdit" not in weights["networks"]:
        print(f"{cfg.checkpoint} has no msdit: only its VAE is measured", flush=True)
        return cast(VideoVAE, load_network(cfg.checkpoint, "vae").to(cfg.device)), None, None
    networks = Networks.load(cfg.checkpoint, cfg.device)
    return networks.vae, ClipSampler(networks, settings), load_live(cfg, networks, settings)


def load_live(cfg: DictConfig, networks: Networks, settings: SamplerSettings) -> LiveModel | None:
    if cfg.suite.meetings is None:
        return None
    from gamegen_x.data.state import drawing_of
    from gamegen_x.evaluation.meetings import LiveModel
    from gamegen_x.sampling.stream_sampler import StreamSampler

    streams = StreamSampler(networks, settings, **to_dict(cfg.live))
    return LiveModel(streams, drawing_of(networks.config, networks.vae.spatial_factor))


def load_telling(cfg: DictConfig, weights: dict[str, Any], vae: VideoVAE) -> Telling | None:
    """How clips of recordings that go on under fresh keys are told of their world; None: the model is told nothing."""
    is_learned = cfg.dynamics is not None and not has_rules(cfg)
    if cfg.suite.meetings is not None:  # those are worlds of their own
        if is_learned:
            raise ValueError(f"suite={cfg.suite.name} begins worlds by a game's rules; set dynamics=rules")
        return None
    from gamegen_x.data.state import drawing_of
    from gamegen_x.evaluation.generation import Telling

    drawing = drawing_of(weights, vae.spatial_factor)
    if drawing is None:
        return None
    if cfg.dynamics is None:
        print(
            f"{cfg.checkpoint} may be told what is true of its world; with dynamics=none it is told nothing", flush=True
        )
        return None
    theirs = [str(key) for key in weights["action_space"]["keys"]]
    if not is_learned and theirs != list(cfg.game["keys"]["keys"]):
        raise ValueError(f"dynamics=rules step a game of other keys than {theirs}; set dynamics=learned or none")
    return Telling(build(cfg.dynamics), drawing, vae.coding)


def find_recordings(cfg: DictConfig) -> Path:
    """The folder named by `recordings`; else the usual one, if it is there; else clips that are recorded now."""
    if cfg.recordings is not None:
        return Path(cfg.recordings)
    if holds_recordings(cfg.recording.unless_found):
        return Path(cfg.recording.unless_found)
    print(f"no recordings in {cfg.recording.unless_found}: playing the game to make some", flush=True)
    return record(cfg.recording)


def record(settings: DictConfig) -> Path:
    """Plays the suite's game and returns the folder of traces. What an earlier call recorded is not recorded again."""
    from hydra import compose

    from gamegen_x.games.record import record as record_traces

    num_episodes = {"train": settings.num_train_episodes, "val": settings.num_val_episodes}
    overrides = list(settings.overrides)
    name = hashlib.sha256(json.dumps([overrides, num_episodes]).encode()).hexdigest()[:16]
    folder = Path(settings.folder) / name
    for split, count in num_episodes.items():
        composed = compose(
            "record", [*overrides, f"split={split}", f"output={folder / split}", f"num_episodes={count}"]
        )
        check(composed, root="record")
        record_traces(composed)
    return folder


def check_game(cfg: DictConfig, weights: dict[str, Any]) -> None:
    """Raises ValueError, before anything is loaded, where the suite's game has other keys than the weights."""
    from hydra import compose

    game = compose("record", [*cfg.recording.overrides, "split=val", f"output={cfg.recording.folder}"]).game
    check_keys(weights, list(game["keys"]["keys"]))


def check_keys(weights: dict[str, Any], recorded: list[str]) -> None:
    theirs = [str(key) for key in weights["action_space"]["keys"]]
    if theirs != recorded:
        raise ValueError(
            f"the weights know the keys {theirs}, the recordings have {recorded}; "
            "evaluate on recordings of the game they were trained on: recordings=<folder>, or suite=<another>"
        )


def check_fit(weights: dict[str, Any], recording: Recording) -> None:
    """Raises ValueError where a model was trained for other keys or another size than the recordings have."""
    check_keys(weights, list(recording.action_space.keys))
    height, width = recording.video.shape[-2:]
    if (height, width) != (weights["height"], weights["width"]):
        raise ValueError(
            f"the weights make {weights['height']}x{weights['width']} video, the recordings are {height}x{width}; "
            "evaluate on recordings of the same size: recordings=<folder>"
        )


if __name__ == "__main__":
    main()
