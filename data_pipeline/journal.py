"""Journal: what is finished of one source, written as it happens, so that a killed run goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from data_pipeline.ledger import Fate


class Journal:
    """Two files that only grow: `<source>.jsonl` (one fate a line) and `<source>.tar` (the records of kept clips).

    A line is written after the bytes it names. What a kill cut short (half a line, bytes without a line, bytes that do
    not match their hash) is cut away when the journal is opened again. A journal of another version of the source
    (`stamp`) starts over.
    """

    def __init__(self, folder: Path, source: str, stamp: str) -> None:
        self.lines_path = folder / f"{source}.jsonl"
        self.bytes_path = folder / f"{source}.tar"
        self.fates: dict[str, Fate] = {}
        self.is_done = False
        self._recover(stamp)

    def __enter__(self) -> Self:
        self._lines = self.lines_path.open("a")
        self._bytes = self.bytes_path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._bytes.close()

    def append(self, fate: Fate, data: bytes = b"") -> Fate:
        """Writes a clip's fate and, when it is kept, its record."""
        if data:
            fate = replace(fate, offset=self._bytes.tell(), size=len(data), sha256=hashlib.sha256(data).hexdigest())
            self._bytes.write(data)
            self._bytes.flush()
        self._write({"type": "fate", **fate.to_dict()})
        self.fates[fate.clip] = fate
        return fate

    def finish(self) -> None:
        """Nothing more will come of this source."""
        for file in (self._bytes, self._lines):
            file.flush()
            os.fsync(file.fileno())
        self._write({"type": "done"})
        self.is_done = True

    def read(self, fate: Fate) -> bytes:
        """The record of a kept clip. Raises ValueError when the bytes are not those that were written."""
        with self.bytes_path.open("rb") as file:
            file.seek(fate.offset)
            data = file.read(fate.size)
        if hashlib.sha256(data).hexdigest() != fate.sha256:
            raise ValueError(
                f"{self.bytes_path} has changed since it was written (clip {fate.clip}); delete {self.lines_path} and "
                "run the same command again"
            )
        return data

    def _write(self, line: dict[str, Any]) -> None:
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()

    def _recover(self, stamp: str) -> None:
        lines = self.lines_path.read_bytes().split(b"\n")[:-1] if self.lines_path.exists() else []
        self.is_done = bool(lines) and _parsed(lines[-1]) == {"type": "done"}  # its bytes were synced: trusted unread
        data = b"" if self.is_done or not self.bytes_path.exists() else self.bytes_path.read_bytes()
        good_lines, good_bytes = 0, 0
        for number, text in enumerate(lines):
            line = _parsed(text)
            if number == 0:
                if line != {"type": "source", "stamp": stamp}:
                    self.is_done = False
                    break
            elif line.get("type") == "done":
                pass
            elif line.get("type") == "fate":
                fate = Fate.from_dict(line)
                written = data[fate.offset : fate.offset + fate.size]
                if fate.is_kept and not self.is_done and hashlib.sha256(written).hexdigest() != fate.sha256:
                    break
                self.fates[fate.clip] = fate
                good_bytes = max(good_bytes, fate.offset + fate.size)
            else:
                break
            good_lines += len(text) + 1
        if good_lines == 0:
            self.lines_path.parent.mkdir(parents=True, exist_ok=True)
            self.bytes_path.write_bytes(b"")
            self.lines_path.write_text(json.dumps({"type": "source", "stamp": stamp}) + "\n")
            return
        os.truncate(self.lines_path, good_lines)
        if self.bytes_path.exists():
            os.truncate(self.bytes_path, good_bytes)


def stamp_of(files: Iterable[Path]) -> str:
    """Names a version of a source by its files' names, sizes and times of change."""
    lines = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()[:16]


def size_of(files: Iterable[Path]) -> int:
    """Bytes of a source, at least 1: how much work it is, roughly."""
    return 1 + sum(file.stat().st_size for file in files)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
