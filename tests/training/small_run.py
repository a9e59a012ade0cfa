"""Runs of seconds inside a test's own process."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from gamegen_x.config import CONFIGS
from tests.training.train_command import SMALLEST


def configure(folder: Path, *overrides: str) -> DictConfig:
    """A composed config at the smallest size. Overrides win."""
    places = [f"output={folder / 'run'}", f"data.dataset.cache_folder={folder / 'cache'}", "callbacks.progress=null"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*SMALLEST, *places, *overrides])
