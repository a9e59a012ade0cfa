"""Pictures of one block -> bytes, once for each view and tier, however many people look."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import simplejpeg

from gamegen_x.games.door import Frame

_LENGTH = struct.Struct("<I")  # before each picture of a payload


@dataclass(frozen=True, kw_only=True)
class Tier(ABC):
    """One quality that a player may ask for. Every block stands alone, so that any may be skipped."""

    name: str
    every: int = 1  # of the blocks: 2 sends every second one
    shrink: int = 1  # 2 sends pictures of half the width and height; the page scales them up
    is_slow: ClassVar[bool]  # a millisecond of a core and more: `encode` runs in a thread

    def __post_init__(self) -> None:
        if min(self.every, self.shrink) < 1:
            raise ValueError(f"a tier has every and shrink of at least 1, got {self.every} and {self.shrink}")

    @property
    @abstractmethod
    def codec(self) -> str:
        """`jpeg`, or how WebCodecs calls it."""

    def fault(self) -> str | None:
        """Why this cannot be offered here; None where it can."""
        return None

    @abstractmethod
    def encode(self, pictures: Sequence[Frame]) -> list[bytes]:
        """One piece of bytes for each of the pictures `[h w 3]` of a block."""

    def halved(self) -> Self:
        """The same quality at half the width and height."""
        return replace(self, name=f"{self.name}, halved", shrink=2 * self.shrink)


@dataclass(frozen=True, kw_only=True)
class Jpeg(Tier):
    """Each picture alone. `subsampling` is that of colour: 444 keeps single pixels crisp."""

    quality: int
    subsampling: str
    is_slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.quality <= 100 or self.subsampling not in ("444", "422", "420", "440", "411"):
            raise ValueError(
                f"a tier has a quality from 1 to 100 and a JPEG subsampling such as '420', "
                f"got {self.quality} and {self.subsampling!r}"
            )

    @property
    def codec(self) -> str:
        return "jpeg"

    def encode(self, pictures: Sequence[Frame]) -> list[bytes]:
        return [self.encode_one(picture) for picture in pictures]

    def encode_one(self, picture: Frame) -> bytes:
        """One picture `[h w 3]`."""
        return simplejpeg.encode_jpeg(
            np.ascontiguousarray(shrunk(picture, self.shrink)),
            quality=self.quality,
            colorspace="RGB",
            colorsubsampling=self.subsampling,
        )


def shrunk(picture: Frame, factor: int) -> Frame:
    """A picture whose pixels are the means of `factor` x `factor` pixels; what is left over at the edge is cut off."""
    if factor == 1:
        return picture
    height, width = (size // factor for size in picture.shape[:2])
    tiles = picture[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return np.rint(tiles.mean((1, 3))).astype(np.uint8)


def join_pictures(pictures: Sequence[bytes]) -> bytes:
    """The payload of a Frame: each picture after four bytes, little-endian, that say its length."""
    return b"".join(_LENGTH.pack(len(picture)) + picture for picture in pictures)


def split_pictures(payload: bytes) -> list[bytes]:
    """The inverse of `join_pictures`. Raises ValueError where the payload is cut short."""
    found, place = [], 0
    while place < len(payload):
        if place + _LENGTH.size > len(payload):
            raise ValueError(f"a payload of {len(payload)} bytes ends inside a length")
        (length,) = _LENGTH.unpack_from(payload, place)
        place += _LENGTH.size
        if place + length > len(payload):
            raise ValueError(f"a payload of {len(payload)} bytes ends inside a picture of {length}")
        found.append(payload[place : place + length])
        place += length
    return found


class EncodedBlock:
    """The pictures `[t][p]` of one block. A view and tier is encoded when it is first asked for, and once."""

    def __init__(self, pictures: Sequence[Sequence[Frame]]) -> None:
        self.pictures = pictures
        self._payloads: dict[tuple[int, Tier], bytes] = {}

    def payload(self, view: int, tier: Tier) -> bytes:
        key = view, tier
        if key not in self._payloads:
            self._payloads[key] = join_pictures(tier.encode([views[view] for views in self.pictures]))
        return self._payloads[key]
