"""LatentCache: every record encoded once by the VAE, normalised and memory-mapped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from gamegen_x.data.array_cache import ArrayCache, Damaged
from gamegen_x.data.frame_cache import FrameReader, Frames, open_parts, write_missing
from gamegen_x.data.records import DamagedRecord, RecordSource
from gamegen_x.models.coding import Coding

Draw = Callable[[RecordSource, FrameReader, int, int], Frames]  # what is encoded, of a record and a view


@runtime_checkable
class Encodes(Protocol):
    """What is asked of a VAE: `gamegen_x.models.vae.VideoVAE` is one."""

    temporal_factor: int
    chunk_frames: int | None

    def encode(self, video: Any) -> Any: ...


@dataclass(frozen=True)
class LatentKind:
    """What cached latents were made by: enough to know whether they can be used again, and how their rows run."""

    weights: str  # hash of the VAE's weights and of how they are used
    temporal_factor: int
    chunk_frames: int | None
    shift: float
    scale: float
    dtype: str  # float16 or bfloat16

    @property
    def coding(self) -> Coding:
        return Coding(self.temporal_factor, self.chunk_frames)


@dataclass(frozen=True)
class Encoder:
    """A VAE and how to run it. `batch_size` views at once; bf16 autocast is faster and good to about 1e-2."""

    vae: Encodes
    kind: LatentKind
    batch_size: int
    is_autocast: bool
    device: str

    @torch.inference_mode()
    def encode(self, videos: Sequence[Frames]) -> Float[Tensor, "b t_latent c h_latent w_latent"]:
        """Normalised latents of clips of equal length."""
        pixels = torch.from_numpy(np.stack(videos)).to(self.device)
        video = rearrange(pixels, "b t h w c -> b t c h w").float() / 127.5 - 1
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.is_autocast):
            mean = self.vae.encode(video).mean.float()
        return (mean - self.kind.shift) * self.kind.scale


class LatentCache:
    """Latents `[p t c h w]` of every record, or of a video prompt made from its frames."""

    def __init__(
        self,
        source: RecordSource,
        reader: FrameReader,
        folder: Path,
        kind: LatentKind,
        size: tuple[int, int],
        records: Sequence[int],
        draw: Draw,
        name: str,
        settings: Mapping[str, Any],
    ) -> None:
        self.source = source
        self.kind = kind
        self.damage: dict[str, str] = {}
        self._reader = reader
        self._records = records
        self._draw = draw
        self._cache = ArrayCache(
            folder / name,
            "uint16" if kind.dtype == "bfloat16" else "float16",
            {**asdict(kind), "height": size[0], "width": size[1], **settings},
        )

    def prepare(self, encoder: Encoder) -> None:
        """Encodes the parts that are not there yet."""
        write_missing(self._cache, self.source, self._records, "encoding", partial(self._encode, encoder))

    def is_complete(self) -> bool:
        try:
            open_parts(self._cache, self.source, self._records)
        except FileNotFoundError:
            return False
        return True

    def open(self) -> None:
        self.damage = open_parts(self._cache, self.source, self._records)

    def __contains__(self, index: int) -> bool:
        return self.source.headers[index].key in self._cache

    def latents(self, index: int) -> Float[Tensor, "p t c h w"]:
        """All views of a record, mapped and not yet read."""
        array = torch.from_numpy(self._cache.array(self.source.headers[index].key))
        return array.view(torch.bfloat16) if self.kind.dtype == "bfloat16" else array

    def _encode(self, encoder: Encoder, keys: Mapping[str, int]) -> Iterator[tuple[str, npt.NDArray[Any] | Damaged]]:
        """Neighbours of one shape share a batch; records come out in their order."""
        waiting: list[tuple[str, list[Frames] | Damaged]] = []
        for key, index in keys.items():
            views: list[Frames] | Damaged
            try:
                num_players = self.source.headers[index].num_players
                views = [self._draw(self.source, self._reader, index, view) for view in range(num_players)]
            except DamagedRecord as damage:
                views = Damaged(damage.reason)
            waiting.append((key, views))
            if sum(len(v) for _, v in waiting if isinstance(v, list)) >= encoder.batch_size:
                yield from self._encode_waiting(waiting, encoder)
                waiting = []
        yield from self._encode_waiting(waiting, encoder)

    def _encode_waiting(
        self, waiting: Sequence[tuple[str, list[Frames] | Damaged]], encoder: Encoder
    ) -> Iterator[tuple[str, npt.NDArray[Any] | Damaged]]:
        views = [view for _, videos in waiting if isinstance(videos, list) for view in videos]
        latents: dict[int, Tensor] = {}
        for shape in {view.shape for view in views}:
            alike = [number for number, view in enumerate(views) if view.shape == shape]
            for start in range(0, len(alike), encoder.batch_size):
                chosen = alike[start : start + encoder.batch_size]
                latents.update(zip(chosen, encoder.encode([views[number] for number in chosen]).cpu(), strict=True))
        number = 0
        for key, videos in waiting:
            if isinstance(videos, Damaged):
                yield key, videos
                continue
            stacked = torch.stack([latents[number + view] for view in range(len(videos))])
            number += len(videos)
            yield key, self._to_numbers(stacked)

    def _to_numbers(self, latents: Tensor) -> npt.NDArray[Any]:
        if self.kind.dtype == "bfloat16":
            return latents.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
        return latents.to(torch.float16).numpy()


def whole_view(source: RecordSource, reader: FrameReader, index: int, view: int) -> Frames:
    """The frames themselves: what ordinary latents are made of."""
    return reader.frames(index, view, 0, source.headers[index].num_frames)


def hash_file(path: Path, *also: Any) -> str:
    """A hash of a file's bytes and of some settings."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(also, sort_keys=True).encode())
    return digest.hexdigest()


def choose_device(device: str) -> str:
    """A device as torch names it; "auto" takes a GPU if there is one."""
    if device != "auto":
        return device
    return str(torch.accelerator.current_accelerator(check_available=True) or "cpu")
