"""The only door between YAML and objects: entry points, checks before anything is built, build(node)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
USER_MISTAKE = 2  # exit status


def entry_point(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Makes a function of a composed config a command. A user's mistake ends it with one message and status 2."""

    def decorate(main: Callable[[DictConfig], None]) -> Callable[[], None]:
        def run() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the message is ours
            try:
                hydra.main(config_path=str(CONFIGS), config_name=config_name, version_base="1.3")(main)()
            except (HydraException, OmegaConfBaseException, ValueError, FileNotFoundError) as mistake:
                print(f"error: {mistake}", file=sys.stderr)
                sys.exit(USER_MISTAKE)

        return run

    return decorate


def build(node: DictConfig, **kwargs: Any) -> Any:
    """The object that a node with a `_target_` describes; nested nodes first."""
    return instantiate(node, _convert_="all", **kwargs)


def to_dict(node: DictConfig) -> dict[str, Any]:
    """Plain, resolved values: what is written beside results so that they can be made again."""
    return OmegaConf.to_container(node, resolve=True)  # type: ignore[return-value]
