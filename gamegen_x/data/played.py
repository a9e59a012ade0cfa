"""PlayedCache: latents that a trained model made where it played records along, once each and memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gamegen_x.data.array_cache import ArrayCache, Damaged
from gamegen_x.data.frame_cache import FrameReader, open_parts, write_missing
from gamegen_x.data.records import DamagedRecord, RecordHeader, RecordSource
from gamegen_x.world.facts import Facts


@dataclass(frozen=True)
class WholeRecord:
    """All that happened in a record."""

    header: RecordHeader
    video: UInt8[np.ndarray, "p t h w 3"]
    actions: UInt8[np.ndarray, "t p k"]
    state: Facts


@runtime_checkable
class PlaysAlong(Protocol):
    """Who makes latents of its own under the keys, the sentences and the truth of records."""

    temporal_factor: int
    batch_size: int  # records played at once

    def made_with(self) -> Mapping[str, Any]:
        """All that decides what is made, as JSON."""
        ...

    def fault_beside(self, vae: Path) -> str | None:
        """Why what is played cannot stand beside latents of this weights folder; None where it can."""
        ...

    def fault(self, record: WholeRecord) -> str | None:
        """Why a record cannot be played along; None where it can."""
        ...

    def rest(self) -> None:
        """Lets go of what only playing needs."""
        ...

    def play(self, records: Sequence[WholeRecord]) -> list[Float[Tensor, "p t c h w"]]:
        """Normalised latents of every whole latent frame of each record."""
        ...


class PlayedCache:
    """Latents `[p t c h w]` in float16 of every record, as a model plays it."""

    def __init__(
        self,
        source: RecordSource,
        reader: FrameReader,
        folder: Path,
        plays: PlaysAlong,
        size: tuple[int, int],
        records: Sequence[int],
    ) -> None:
        self.source = source
        self.damage: dict[str, str] = {}
        self._reader = reader
        self._plays = plays
        self._records = records
        settings = {**plays.made_with(), "height": size[0], "width": size[1]}
        self._cache = ArrayCache(folder / "played", "float16", settings)

    def prepare(self) -> None:
        """Plays the parts that are not there yet."""
        write_missing(self._cache, self.source, self._records, "playing", self._play)
        self._plays.rest()

    def open(self) -> None:
        self.damage = open_parts(self._cache, self.source, self._records)

    def window(self, index: int, views: Sequence[int], first: int, num_frames: int) -> Float[Tensor, "p t c h w"]:
        """The latents of these video frames; both numbers are multiples of the temporal factor."""
        factor = self._plays.temporal_factor
        begin = first // factor
        array = torch.from_numpy(self._cache.array(self.source.headers[index].key))
        return array[list(views), begin : begin + num_frames // factor].float()

    def _play(self, keys: Mapping[str, int]) -> Iterator[tuple[str, npt.NDArray[Any] | Damaged]]:
        """Neighbours of equal length and as many players are played at once; records come out in their order."""
        waiting: list[tuple[str, WholeRecord | Damaged]] = []
        for key, index in keys.items():
            try:
                record = self._whole(index)
            except DamagedRecord as damage:
                waiting.append((key, Damaged(damage.reason)))
                continue
            records = [one for _, one in waiting if isinstance(one, WholeRecord)]
            if records and (len(records) == self._plays.batch_size or records[0].video.shape != record.video.shape):
                yield from self._played(waiting)
                waiting = []
            waiting.append((key, record))
        yield from self._played(waiting)

    def _played(
        self, waiting: Sequence[tuple[str, WholeRecord | Damaged]]
    ) -> Iterator[tuple[str, npt.NDArray[Any] | Damaged]]:
        records = [one for _, one in waiting if isinstance(one, WholeRecord)]
        made = iter(self._plays.play(records)) if records else iter(())
        for key, one in waiting:
            yield key, one if isinstance(one, Damaged) else next(made).to(torch.float16).cpu().numpy()

    def _whole(self, index: int) -> WholeRecord:
        header = self.source.headers[index]
        views = [self._reader.frames(index, view, 0, header.num_frames) for view in range(header.num_players)]
        record = WholeRecord(header, np.stack(views), self.source.actions(index), self.source.state(index))
        reason = self._plays.fault(record)
        if reason is not None:
            raise DamagedRecord(header.key, reason)
        return record
