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
class Score:
    """What a player is given of a record: all that happened."""

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

    def play(self, scores: Sequence[Score]) -> list[Float[Tensor, "p t c h w"]]:
        """Normalised latents of every whole latent frame of each record."""
        ...


class PlayedCache:
    """Latents `[p t c h w]` in float16 of every record, as a model plays it."""

    def __init__(
        self,
        source: RecordSource,
        reader: FrameReader,
        folder: Path,
        player: PlaysAlong,
        size: tuple[int, int],
        records: Sequence[int],
    ) -> None:
        self.source = source
        self.damage: dict[str, str] = {}
        self._reader = reader
        self._player = player
        self._records = records
        settings = {**player.made_with(), "height": size[0], "width": size[1]}
        self._cache = ArrayCache(folder / "played", "float16", settings)

    def prepare(self) -> None:
        """Plays the parts that are not there yet."""
        write_missing(self._cache, self.source, self._records, "playing", self._play)

    def open(self) -> None:
        self.damage = open_parts(self._cache, self.source, self._records)

    def window(self, index: int, views: Sequence[int], first: int, num_frames: int) -> Float[Tensor, "p t c h w"]:
        """The latents of these video frames; both numbers are multiples of the player's temporal factor."""
        factor = self._player.temporal_factor
        begin = first // factor
        array = torch.from_numpy(self._cache.array(self.source.headers[index].key))
        return array[list(views), begin : begin + num_frames // factor].float()

    def _play(self, keys: Mapping[str, int]) -> Iterator[tuple[str, npt.NDArray[Any] | Damaged]]:
        """Neighbours of equal length and as many players are played at once; records come out in their order."""
        waiting: list[tuple[str, Score | Damaged]] = []
        for key, index in keys.items():
            try:
                score = self._score(index)
            except DamagedRecord as damage:
                waiting.append((key, Damaged(damage.reason)))
                continue
            scores = [one for _, one in waiting if isinstance(one, Score)]
            if scores and (len(scores) == self._player.batch_size or scores[0].video.shape != score.video.shape):
                yield from self._played(waiting)
                waiting = []
            waiting.append((key, score))
        yield from self._played(waiting)

    def _played(
        self, waiting: Sequence[tuple[str, Score | Damaged]]
    ) -> Iterator[tuple[str, npt.NDArray[Any] | Damaged]]:
        scores = [one for _, one in waiting if isinstance(one, Score)]
        made = iter(self._player.play(scores)) if scores else iter(())
        for key, one in waiting:
            yield key, one if isinstance(one, Damaged) else next(made).to(torch.float16).cpu().numpy()

    def _score(self, index: int) -> Score:
        header = self.source.headers[index]
        views = [self._reader.frames(index, view, 0, header.num_frames) for view in range(header.num_players)]
        return Score(header, np.stack(views), self.source.actions(index), self.source.state(index))
