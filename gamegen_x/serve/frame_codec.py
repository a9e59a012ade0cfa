"""Pictures of one block -> bytes: JPEG, once for each view and tier, however many people look."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg

from gamegen_x.games.door import Frame

CODEC = "jpeg"
_LENGTH = struct.Struct("<I")  # before each picture of a payload


@dataclass(frozen=True)
class Tier:
    """One quality that a player may ask for. `subsampling` is JPEG's for colour: 444 keeps single pixels crisp."""

    name: str
    quality: int
    subsampling: str
    every: int = 1  # of the blocks: 2 sends every second one
    shrink: int = 1  # 2 sends pictures of half the width and height; the page scales them up

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100 or self.subsampling not in ("444", "422", "420", "440", "411"):
            raise ValueError(
                f"a tier has a quality from 1 to 100 and a JPEG subsampling such as '420', "
                f"got {self.quality} and {self.subsampling!r}"
            )
        if min(self.every, self.shrink) < 1:
            raise ValueError(f"a tier has every and shrink of at least 1, got {self.every} and {self.shrink}")

    def halved(self) -> Tier:
        """The same quality at half the width and height."""
        return replace(self, name=f"{self.name}, halved", shrink=2 * self.shrink)


def encode_picture(picture: Frame, tier: Tier) -> bytes:
    """One picture `[h w 3]` as JPEG."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(shrunk(picture, tier.shrink)),
        quality=tier.quality,
        colorspace="RGB",
        colorsubsampling=tier.subsampling,
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
        self._payloads: dict[tuple[int, str], bytes] = {}

    def payload(self, view: int, tier: Tier) -> bytes:
        key = view, tier.name
        if key not in self._payloads:
            self._payloads[key] = join_pictures([encode_picture(views[view], tier) for views in self.pictures])
        return self._payloads[key]
