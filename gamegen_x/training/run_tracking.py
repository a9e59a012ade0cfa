"""Where runs can be watched: TensorBoard, and wandb, which stays offline unless you are logged in."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger

from gamegen_x.training.checks import is_first_process

WANDB_HOST = "api.wandb.ai"


def wandb_logger(*, project: str, name: str, folder: str) -> WandbLogger:
    """A wandb run that a resumed training continues. Offline runs lie in `folder`/wandb; `wandb sync` uploads them."""
    identity = Path(folder) / "wandb" / "id.txt"
    identity.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    if is_first_process() and not identity.is_file():
        identity.write_text(secrets.token_hex(4))
    return WandbLogger(
        project=project,
        name=name,
        save_dir=folder,
        offline=not is_logged_in(),
        id=identity.read_text() if identity.is_file() else None,
        resume="allow" if is_logged_in() else None,
    )


def finish_wandb(loggers: Sequence[Logger]) -> None:
    """Ends the wandb run, where there is one: another training may follow in this process."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        wandb.finish()


def tensorboard_logger(*, folder: str) -> TensorBoardLogger:
    return TensorBoardLogger(folder, name="tensorboard", version="")


def is_logged_in() -> bool:
    """Whether wandb knows who you are, by WANDB_API_KEY or ~/.netrc, and was not told to stay offline."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators(WANDB_HOST) is not None
    except (FileNotFoundError, NetrcParseError):
        return False
