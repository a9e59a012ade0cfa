"""Locks on the folder of a dataset, so that two runs never write to it at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: there, take care not to start two runs on one folder
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_run(folder: Path, patience_s: float) -> Iterator[None]:
    """Held by the one run that writes to this folder. Raises ValueError when another one does.

    It waits for the workers of a killed run, which end with the clip that they are at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".run.lock").open("w") as run, (folder / ".workers.lock").open("w") as workers:
        for file in (run, workers):
            if not _lock(file, patience_s):
                raise ValueError(f"another run is writing to {folder}; wait for it or choose another output")
        _unlock(workers)
        yield


@dataclass(frozen=True)
class AtWork:
    """Held by every worker of a run while it lives; travels to it by pickle."""

    folder: Path

    def __enter__(self) -> None:
        file = (self.folder / ".workers.lock").open("w")
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_SH)
        object.__setattr__(self, "_file", file)

    def __exit__(self, *_: object) -> None:
        self._file.close()  # type: ignore[attr-defined]


def _lock(file: IO[str], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            break
    return True


def _unlock(file: IO[str]) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_UN)
