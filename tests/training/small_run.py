"""Runs of seconds inside a test's own process."""

from __future__ import annotations

from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from gamegen_x.config import CONFIGS, build
from gamegen_x.data.batch import Batch
from gamegen_x.training.task import Task
from tests.training.train_command import SMALLEST


def first_batch(folder: Path, *overrides: str) -> Batch:
    """What a training with this config sees first."""
    data = build(configure(folder, *overrides).data)
    data.prepare_data()
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def stirred_task(folder: Path, *overrides: str) -> Task:
    """A task whose model is shaken: an untrained one predicts nothing."""
    torch.manual_seed(0)
    task = build(configure(folder, *overrides).task)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return task


def configure(folder: Path, *overrides: str) -> DictConfig:
    """A composed config at the smallest size. Overrides win."""
    places = [f"output={folder / 'run'}", f"data.dataset.cache_folder={folder / 'cache'}", "callbacks.progress=null"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*SMALLEST, *places, *overrides])
