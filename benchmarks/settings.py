"""The project's own configurations, composed for a benchmark: what is measured is what is trained."""

from __future__ import annotations

from contextlib import nullcontext

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from gamegen_x.config import CONFIGS


def composed(root: str, *overrides: str) -> DictConfig:
    """A root file of configs/ with its groups, as a command line would compose it."""
    is_open = GlobalHydra.instance().is_initialized()
    with nullcontext() if is_open else initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg: DictConfig = compose(root, list(overrides))
    return cfg
