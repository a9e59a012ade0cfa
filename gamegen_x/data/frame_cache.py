"""Frames of records at the size of training: decoded anew each time, or once into a memory-mapped cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from gamegen_x.data.array_cache import ArrayCache, Damaged
from gamegen_x.data.decode import resize_and_crop
from gamegen_x.data.progress import Progress
from gamegen_x.data.records import DamagedRecord, Part, RecordSource

Frames = UInt8[np.ndarray, "t h w 3"]


@runtime_checkable
class FrameReader(Protocol):
    def frames(self, index: int, view: int, start: int, stop: int) -> Frames:
        """Pixels of one view of a record, at the size of training. Raises DamagedRecord."""
        ...


class DecodedFrames:
    """Decodes what is asked for, each time."""

    def __init__(self, source: RecordSource, height: int, width: int) -> None:
        self.source = source
        self.size = (height, width)

    def frames(self, index: int, view: int, start: int, stop: int) -> Frames:
        return resize_and_crop(self.source.frames(index, view, start, stop), *self.size)


class FrameCache:
    """Decodes every record once; windows are then slices of a mapped file. 100,000 frames of 64x64 are 1.2 GB."""

    def __init__(self, source: RecordSource, folder: Path, height: int, width: int, records: Sequence[int]) -> None:
        self.source = source
        self.damage: dict[str, str] = {}
        self._decoded = DecodedFrames(source, height, width)
        self._records = records
        self._cache = ArrayCache(folder / "frames", "uint8", {"height": height, "width": width})

    def prepare(self) -> None:
        """Decodes the parts that are not there yet."""
        write_missing(self._cache, self.source, self._records, "decoding", self._decode)

    def open(self) -> None:
        self.damage = open_parts(self._cache, self.source, self._records)

    def open_what_is_there(self) -> None:
        """For who reads frames once: what is not cached is decoded and not kept."""
        for part, keys in keys_by_part(self.source, self._records):
            self._cache.open(part.name, part.made_from, list(keys))

    def frames(self, index: int, view: int, start: int, stop: int) -> Frames:
        key = self.source.headers[index].key
        if key not in self._cache:
            return self._decoded.frames(index, view, start, stop)
        return self._cache.array(key)[view, start:stop]

    def _decode(self, keys: Mapping[str, int]) -> Iterator[tuple[str, npt.NDArray[Any] | Damaged]]:
        for key, index in keys.items():
            header = self.source.headers[index]
            try:
                views = range(header.num_players)
                yield key, np.stack([self._decoded.frames(index, view, 0, header.num_frames) for view in views])
            except DamagedRecord as damage:
                yield key, Damaged(damage.reason)


def keys_by_part(source: RecordSource, records: Sequence[int]) -> Iterator[tuple[Part, dict[str, int]]]:
    """The chosen records of each part: key -> place in the dataset. Parts without any are left out."""
    chosen = set(records)
    for part in source.parts:
        keys = {source.headers[index].key: index for index in part.records if index in chosen}
        if keys:
            yield part, keys


def write_missing(
    cache: ArrayCache,
    source: RecordSource,
    records: Sequence[int],
    verb: str,
    make: Callable[[Mapping[str, int]], Iterator[tuple[str, npt.NDArray[Any] | Damaged]]],
) -> None:
    """Makes and writes the parts that are not there yet, with progress by record."""
    missing = [
        (part, keys)
        for part, keys in keys_by_part(source, records)
        if cache.open(part.name, part.made_from, list(keys)) is None
    ]
    progress = Progress(f"{verb} clips of {source.name}", sum(len(keys) for _, keys in missing))
    for part, keys in missing:
        cache.write(part.name, part.made_from, list(keys), progress.through(make(keys)))


def open_parts(cache: ArrayCache, source: RecordSource, records: Sequence[int]) -> dict[str, str]:
    """Makes all parts readable and gives what was damaged. Raises FileNotFoundError where one is missing."""
    damage: dict[str, str] = {}
    for part, keys in keys_by_part(source, records):
        damaged = cache.open(part.name, part.made_from, list(keys))
        if damaged is None:
            raise FileNotFoundError(f"{cache.folder} lacks {part.name} of {source.name}; its data changed, start again")
        damage.update(damaged)
    return damage
