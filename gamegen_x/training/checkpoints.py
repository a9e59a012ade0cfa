"""Checkpoints of a run: whole or absent, checked by digest, the newest good one found again."""

# ruff: noqa: ARG002  (a hook takes what Lightning hands over)

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import CheckpointIO

from gamegen_x.schema.files import atomic_file, sync_folder
from gamegen_x.training.metrics_file import MetricsFile

MANIFEST = ".json"  # beside each checkpoint; written last, so that a checkpoint without one was never finished


@dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint: a file, or a folder of shards, and what its manifest says."""

    path: Path
    step: int
    score: float | None  # what the run monitors, if it was measured at this step
    digests: dict[str, str]  # of every file, by its place below `path` ("" is the file itself)

    def fault(self) -> str | None:
        """What is wrong with the files, or None."""
        for place, digest in self.digests.items():
            file = self.path / place if place else self.path
            if not file.is_file():
                return f"{file} is missing"
            if _digest(file) != digest:
                return f"{file} is not what was written (truncated or changed)"
        return None

    def remove(self) -> None:
        _manifest(self.path).unlink(missing_ok=True)
        _remove(self.path)


def finish(path: Path, step: int, score: float | None) -> Checkpoint:
    """Makes what was written at `path` a finished checkpoint."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    digests = {}
    for file in files:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
        digests[str(file.relative_to(path)) if path.is_dir() else ""] = _digest(file)
    for folder in {file.parent for file in files}:
        sync_folder(folder)
    with atomic_file(_manifest(path)) as temporary:
        temporary.write_text(json.dumps({"step": step, "score": score, "digests": digests}, indent=2) + "\n")
    return Checkpoint(path, step, score, digests)


def finished(folder: str | Path) -> list[Checkpoint]:
    """The finished checkpoints of a folder, oldest first. Their files are not looked at."""
    found = []
    for manifest in Path(folder).glob(f"step-*{MANIFEST}"):
        told = json.loads(manifest.read_text())
        found.append(Checkpoint(manifest.with_suffix(""), told["step"], told["score"], told["digests"]))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def newest(folder: str | Path) -> Checkpoint | None:
    """The newest checkpoint whose files are as they were written; says which newer ones are damaged."""
    for checkpoint in reversed(finished(folder)):
        fault = checkpoint.fault()
        if fault is None:
            return checkpoint
        print(
            f"warning: checkpoint of step {checkpoint.step} is damaged: {fault}; trying an older one", file=sys.stderr
        )
    return None


class TensorCheckpointIO(CheckpointIO):
    """Writes to a temporary name, fsyncs and renames. Reads tensors and plain values only: never a pickled object."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        with atomic_file(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        _remove(Path(path))


class StoppedBySignal(Exception):  # noqa: N818
    """Training was asked to stop (SIGTERM or Ctrl-C) and has saved where it stood."""

    def __init__(self, number: int, step: int) -> None:
        self.number = number
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} after step {step}; the checkpoint is saved, continue with resume=true")


class Checkpoints(L.Callback):
    """Saves every `every_n_steps`, at each validation, at the end, and when a signal asks to stop.

    Keeps the `num_kept` newest, so that a damaged one has a predecessor, and the one with the lowest `monitor`.
    A checkpoint that falls on a validation is saved after it. Add this callback last: it saves what the others know.
    """

    def __init__(self, *, folder: str, every_n_steps: int, num_kept: int, monitor: str) -> None:
        if every_n_steps < 1 or num_kept < 1:
            raise ValueError(f"every_n_steps and num_kept are at least 1, got {every_n_steps} and {num_kept}")
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.num_kept = num_kept
        self.monitor = monitor
        self._saved_step: int | None = None
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_step = trainer.global_step
        self._handlers = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step == self._saved_step or _is_between_steps(trainer):
            return
        is_asked = trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)
        if is_asked:
            _write_metrics(trainer)
            self._save(trainer, score=None)
            raise StoppedBySignal(self._signal or signal.SIGTERM, step)
        if step % self.every_n_steps == 0 and not _is_validated_next(trainer):
            _write_metrics(trainer)
            self._save(trainer, score=None)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and trainer.global_step != self._saved_step:
            score = trainer.callback_metrics.get(self.monitor)
            self._save(trainer, None if score is None else float(score))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step != self._saved_step:
            self._save(trainer, score=None)
        self._restore_handlers()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: stop at once
        self._signal = number

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _save(self, trainer: L.Trainer, score: float | None) -> None:
        step = trainer.global_step
        path = self.folder / f"step-{step:08d}"
        if trainer.is_global_zero:
            _remove(path)  # left unfinished by a run that was killed here
        trainer.strategy.barrier()
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            finish(path, step, score)
            self._tidy()
        self._saved_step = step

    def _tidy(self) -> None:
        checkpoints = finished(self.folder)
        scored = [checkpoint for checkpoint in checkpoints if checkpoint.score is not None]
        best = min(scored, key=lambda checkpoint: checkpoint.score or 0.0, default=None)
        for checkpoint in checkpoints[: -self.num_kept]:
            if checkpoint != best:
                checkpoint.remove()


def _write_metrics(trainer: L.Trainer) -> None:
    """Writes the step's row before Lightning's turn: a kill right after the checkpoint must not lose it."""
    connector = trainer._logger_connector
    for logger in trainer.loggers:
        if isinstance(logger, MetricsFile) and connector.should_update_logs:
            values = {name: float(value) for name, value in connector.metrics["log"].items()}
            logger.log_metrics(values, trainer.global_step - 1)


def _is_between_steps(trainer: L.Trainer) -> bool:
    return bool(trainer.fit_loop.epoch_loop._should_accumulate())


def _is_validated_next(trainer: L.Trainer) -> bool:
    loop = trainer.fit_loop
    return bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher))


def _manifest(path: Path) -> Path:
    return path.with_name(path.name + MANIFEST)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
