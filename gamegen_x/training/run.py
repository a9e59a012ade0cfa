"""One training run: fill the networks, train, export. What happens between a config and its weights folder."""

# ruff: noqa: ARG002  (a hook takes what Lightning hands over)

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers.logger import Logger
from omegaconf import DictConfig, OmegaConf, open_dict

from gamegen_x.config import build, to_dict
from gamegen_x.data.datamodule import VideoDataModule
from gamegen_x.models.weights import fill
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.weights_folder import MOST_SENTENCES, is_of_others, read_config
from gamegen_x.training.checkpoints import Checkpoint, newest
from gamegen_x.training.checks import CHECKPOINTS, FEWER_BLOCKS, NEW_PARTS, differences, is_first_process
from gamegen_x.training.ema import EMA
from gamegen_x.training.export import RUN_CONFIG, RUN_FACTS, describe, write_weights
from gamegen_x.training.metrics_file import rewind
from gamegen_x.training.run_tracking import finish_wandb
from gamegen_x.training.task import Task

METRICS = "metrics.csv"
WEIGHTS = "weights"


def run(cfg: DictConfig, command: str) -> Path:
    """Trains as configured and gives the weights folder. `command` is written beside the weights."""
    quieten()
    L.seed_everything(cfg.seed, verbose=False)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    output = Path(cfg.output)
    take_normalisation(cfg)
    task: Task = build(cfg.task)
    names = fill_task(task, cfg.weights)
    task.weights_loaded(names)
    data: VideoDataModule = build(cfg.data)
    checkpoint = find_start(cfg, output)
    callbacks: dict[str, L.Callback] = {name: build(node) for name, node in cfg.callbacks.items() if node is not None}
    loggers: list[Logger] = [build(node) for node in cfg.logger.values() if node is not None]
    trainer: L.Trainer = build(
        cfg.trainer, callbacks=[BeginRun(cfg, checkpoint is not None), *callbacks.values()], logger=loggers
    )
    try:
        trainer.fit(task, data, ckpt_path=None if checkpoint is None else checkpoint.path)
    finally:
        finish_wandb(loggers)
    return export(cfg, command, task, data, trainer, next((c for c in callbacks.values() if isinstance(c, EMA)), None))


def take_normalisation(cfg: DictConfig) -> None:
    """Stages that stand on a trained autoencoder take over the scale of its latents, unless told by hand."""
    if cfg.weights is None or "latent_scale" not in cfg.task or cfg.task.latent_scale is not None:
        return
    described = read_config(cfg.weights)
    with open_dict(cfg.task):
        cfg.task.latent_scale = described["latent_scale"]
        cfg.task.latent_shift = described["latent_shift"]


def fill_task(task: Task, weights: str | None) -> set[str]:
    """Fills the task's networks from a weights folder, those that it has; gives their names."""
    if weights is None:
        return set()
    networks = task.networks()
    described = read_config(weights)["networks"]
    names = {name for name in networks.keys() & described.keys() if not is_of_others(described[name])}
    for name in names:
        may_leave = ("blocks",) if name == FEWER_BLOCKS else ()
        left = fill(networks[name], Path(weights) / f"{name}.safetensors", NEW_PARTS, may_leave)
        if left and is_first_process():
            print(f"{name} of {weights} has more blocks than this run's: {len(left)} tensors left out", file=sys.stderr)
    return names


def find_start(cfg: DictConfig, output: Path) -> Checkpoint | None:
    """The checkpoint to go on from, None for a fresh start, whose config is written."""
    checkpoint = newest(output / CHECKPOINTS) if cfg.resume and output.is_dir() else None
    if not is_first_process():
        return checkpoint
    if cfg.resume and (output / RUN_CONFIG).is_file():
        say_what_differs(cfg, output / RUN_CONFIG)
        where = "the beginning: no checkpoint is whole" if checkpoint is None else f"step {checkpoint.step}"
        print(f"resuming {output} from {where}", file=sys.stderr, flush=True)
    if checkpoint is None:
        begin(cfg, output, 0)
        say_what_is_told_differently(cfg)
        say_who_teaches_little(cfg)
    return checkpoint


def begin(cfg: DictConfig, output: Path, step: int) -> None:
    """Cuts the metrics back to the step that the run goes on from, and writes its config."""
    if cfg.resume:
        rewind(output / METRICS, step)
    with atomic_file(output / RUN_CONFIG) as path:
        path.write_text(OmegaConf.to_yaml(cfg, resolve=True))


def say_what_differs(cfg: DictConfig, path: Path) -> None:
    """A resumed run may be changed on purpose; it is never changed in silence."""
    if not path.is_file():
        return
    before = OmegaConf.to_container(OmegaConf.load(path))
    now = {**to_dict(cfg), "resume": before.get("resume") if isinstance(before, Mapping) else None}
    for line in differences(before, now):
        print(f"warning: resumed with another setting: {line}", file=sys.stderr)


def say_what_is_told_differently(cfg: DictConfig) -> None:
    """Weights may go on with another drawing of the world on purpose; they never do so in silence."""
    before = {} if cfg.weights is None else read_config(cfg.weights)
    drawn, draws = before.get("drawn_state"), to_dict(cfg.data).get("state")
    for line in differences(drawn, draws, "data.state") if drawn and draws else ():
        print(f"warning: {cfg.weights} learned from another setting than this run's: {line}", file=sys.stderr)


def say_who_teaches_little(cfg: DictConfig) -> None:
    """A teacher that looks once a frame itself may be wanted; nobody should wonder why nothing came of it."""
    if cfg.stage == "distill" and cfg.weights is not None and read_config(cfg.weights)["sampler"]["num_steps"] == 1:
        print(
            f"warning: {cfg.weights} look once at a frame already, and learned for it; a teacher that looks more often "
            "(weights/snowglobe-tiny) has more to teach",
            file=sys.stderr,
        )


def export(
    cfg: DictConfig, command: str, task: Task, data: VideoDataModule, trainer: L.Trainer, ema: EMA | None
) -> Path:
    """Writes the weights folder of a finished run."""
    output = Path(cfg.output)
    if trainer.is_global_zero:
        facts = data_facts(data)
        made_by = {
            "command": command,
            "step": trainer.global_step,
            "seed": cfg.seed,
            "data": data.sources["train"].name,
        }
        config = describe(cfg, task, facts, made_by)
        if ema is None:
            write_weights(task, output / WEIGHTS, config, cfg.export_dtype, cfg.weights)
        else:
            with ema.applied(task):
                write_weights(task, output / WEIGHTS, config, cfg.export_dtype, cfg.weights)
    trainer.strategy.barrier()
    return output / WEIGHTS


class BeginRun(L.Callback):
    """Writes into the run's folder what its checkpoints are exported with: its config, and what only the data can tell.

    Of a run that goes on nothing is touched before its checkpoint was loaded: it may be refused.
    """

    def __init__(self, cfg: DictConfig, goes_on: bool) -> None:
        self.cfg, self.output, self.goes_on = cfg, Path(cfg.output), goes_on

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if self.goes_on:
            begin(self.cfg, self.output, trainer.global_step)
        data: VideoDataModule = trainer.datamodule
        with atomic_file(self.output / RUN_FACTS) as path:
            path.write_text(json.dumps(data_facts(data)) + "\n")


def data_facts(data: VideoDataModule) -> dict[str, Any]:
    """What the videos are: frames a second, pixels of the bucket seen most, most players of a sample, what was said.

    The sentences are None where there are more than MOST_SENTENCES.
    """
    headers = data.sources["train"].headers
    sentences = sorted({said.text for header in headers for said in header.instructions})
    rates = [header.fps for header in headers]
    split = data._splits["train"]
    bucket = max(split.buckets.values(), key=lambda one: one.share)
    return {
        "fps": max(set(rates), key=rates.count),
        "height": bucket.height,
        "width": bucket.width,
        "num_players": max(header.num_players for header in headers) if data.settings.views == "all" else 1,
        "sentences": sentences if len(sentences) <= MOST_SENTENCES else None,
    }


def quieten() -> None:
    """Lightning's advice is for people who write training loops."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
