"""Progress: where training stands and how long it will still take; one line on a terminal, plain lines elsewhere."""

# ruff: noqa: ARG002  (a hook takes what Lightning hands over)

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning as L
from torch import Tensor


class Progress(L.Callback):
    """Prints step, loss, speed and time left every `every_seconds`, at most."""

    def __init__(self, *, every_seconds: float, smoothing: float) -> None:
        self.every_seconds = every_seconds
        self.smoothing = smoothing  # weight of the newest interval in the speed
        self._printed_at = 0.0
        self._printed_step = 0
        self._seconds_per_step: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._printed_at = time.monotonic()
        self._printed_step = trainer.global_step
        self._seconds_per_step = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        now = time.monotonic()
        seconds = now - self._printed_at
        num_steps = trainer.global_step - self._printed_step
        total = trainer.estimated_stepping_batches
        if not trainer.is_global_zero or num_steps == 0:
            return
        if seconds < self.every_seconds and trainer.global_step < total:
            return
        newest = seconds / num_steps
        before = self._seconds_per_step if self._seconds_per_step is not None else newest
        self._seconds_per_step = before + self.smoothing * (newest - before)
        self._printed_at, self._printed_step = now, trainer.global_step
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        value = f"  loss {loss.item():.4f}" if isinstance(loss, Tensor) else ""
        of, left = "", ""
        if math.isfinite(total):  # a run may have no end of its own
            of = f"/{total:.0f}"
            left = f"  {format_seconds((total - trainer.global_step) * self._seconds_per_step)} left"
        line = f"step {trainer.global_step}{of}{value}  {1 / self._seconds_per_step:.2f} steps/s{left}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if sys.stderr.isatty() and trainer.is_global_zero:
            print(file=sys.stderr)


def format_seconds(seconds: float) -> str:
    """`75` as `1:15`, `3700` as `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
