"""ArrayCache: one array a record, in memory-mapped files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.schema.files import atomic_file

FORMAT = 1


@dataclass(frozen=True)
class Damaged:
    """A record that could not be read, and why."""

    reason: str


class ArrayCache:
    """One file of raw numbers and one of JSON for each part of a dataset (a shard).

    The JSON comes last and names what the numbers were made from: a part whose name, settings or records differ
    is not found and made anew; killed at any moment, finished parts stay. Arrays are opened in the process that
    asks first, so an ArrayCache can be handed to workers.
    """

    def __init__(self, folder: Path, dtype: str, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.dtype = np.dtype(dtype)
        self.settings = dict(settings)
        self._places: dict[str, tuple[Path, int, tuple[int, ...]]] = {}
        self._opened: dict[Path, npt.NDArray[Any]] = {}

    def open(
        self, name: str, made_from: str, records: Sequence[str], but: Container[str] = ()
    ) -> dict[str, str] | None:
        """Makes a finished part readable and gives its damaged records with their reasons; None if there is none.

        Records in `but` stay those of another part.
        """
        path = self._path(name, made_from, records)
        try:
            index = json.loads(path.with_suffix(".json").read_text())
            if path.stat().st_size != index["num_bytes"]:
                return None
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            return None
        for record, place in index["records"].items():
            if record not in but:
                self._places[record] = (path, place["offset"], tuple(place["shape"]))
        return dict(index["damaged"])

    def write(
        self,
        name: str,
        made_from: str,
        records: Sequence[str],
        arrays: Iterable[tuple[str, npt.NDArray[Any] | Damaged]],
    ) -> None:
        """Writes a part: an array, or what is wrong, for each of its records."""
        path = self._path(name, made_from, records)
        places: dict[str, Any] = {}
        damaged: dict[str, str] = {}
        offset = 0
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            for record, array in arrays:
                if isinstance(array, Damaged):
                    damaged[record] = array.reason
                    continue
                places[record] = {"offset": offset, "shape": list(array.shape)}
                offset += file.write(np.ascontiguousarray(array, dtype=self.dtype).data)
        with atomic_file(path.with_suffix(".json")) as temporary:
            temporary.write_text(
                json.dumps(
                    {
                        "format": FORMAT,
                        "made_from": made_from,
                        "settings": self.settings,
                        "dtype": self.dtype.name,
                        "num_bytes": offset,
                        "records": places,
                        "damaged": damaged,
                    }
                )
            )

    def array(self, record: str) -> npt.NDArray[Any]:
        """The array of a record, mapped and not yet read."""
        path, offset, shape = self._places[record]
        numbers = self._opened.get(path)
        if numbers is None:
            has_numbers = path.stat().st_size > 0  # mode "c": what is written stays in this process
            numbers = np.asarray(np.memmap(path, self.dtype, mode="c")) if has_numbers else np.empty(0, self.dtype)
            self._opened[path] = numbers
        start = offset // self.dtype.itemsize
        return numbers[start : start + int(np.prod(shape))].reshape(shape)

    def __contains__(self, record: str) -> bool:
        return record in self._places

    def _path(self, name: str, made_from: str, records: Sequence[str]) -> Path:
        described = json.dumps([FORMAT, made_from, self.settings, self.dtype.name, list(records)], sort_keys=True)
        return self.folder / f"{name}.{hashlib.sha256(described.encode()).hexdigest()[:16]}.bin"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}
