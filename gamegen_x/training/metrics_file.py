"""metrics.csv: one row a logged step, appended and flushed; after a kill it is cut back to the checkpoint's step."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from gamegen_x.schema.files import atomic_file

STEP = "step"  # finished optimizer steps
Row = dict[str, str]


class MetricsFile(Logger):
    """Writes what Lightning logs to a table that grows by rows and, when a new name appears, by columns.

    A row that comes twice in a row is written once: it may be asked for before Lightning's own turn.
    """

    def __init__(self, *, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] | None = None
        self._last: Row = {}

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's config lies beside the table."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self._columns is None:
            self._columns = _columns(self.path)
        row = {STEP: str((step or 0) + 1)} | {name: repr(value) for name, value in metrics.items() if name != "epoch"}
        if row == self._last:
            return
        self._last = row
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns = self._columns + new
            _write(self.path, self._columns, read_metrics(self.path))
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)


def read_metrics(path: str | Path) -> list[Row]:
    """The whole rows of a metrics file; a last row that a kill cut short is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(whole.splitlines()))


def rewind(path: str | Path, step: int) -> None:
    """Cuts a metrics file back to `step`: what came later will be trained, and logged, again."""
    path = Path(path)
    if path.is_file():
        _write(path, _columns(path), [row for row in read_metrics(path) if int(row[STEP]) <= step])


def _columns(path: Path) -> list[str]:
    if not path.is_file():
        return [STEP]
    with path.open(newline="") as file:
        return next(csv.reader(file), [STEP])


def _write(path: Path, columns: list[str], rows: list[Row]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
