"""The `.ggxlog`: everything that is needed to play a session again, bit for bit. Append-only; a torn end is left out.

A record is its length, its CRC-32 (four bytes each, little-endian) and that many bytes of MessagePack: an array whose
first item says what it is. The first record is the header, with the state that the log begins after.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

MAGIC = b"GGXLOG1\n"
SUFFIX = ".ggxlog"
_HEAD = struct.Struct("<II")
_MOST_BYTES = 1 << 26  # of one record: a longer one is damage


class Header(msgspec.Struct, tag=0, array_like=True, frozen=True):
    """Which world was played, as plain values that build it again."""

    game: dict[str, Any]  # a node with a `_target_`
    seed: int
    fps: float
    first_tick: int
    start: bytes  # keyframe of the state before that tick
    world: str  # truth, model: who made the pictures that the players saw
    weights: str = ""


class TickRecord(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """One tick that is final: the keys of each seat as bits, what was said, and the hash of the state after it."""

    tick: int
    keys: tuple[int, ...]
    texts: tuple[tuple[int, str], ...]
    hash: int


class SeatRecord(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """Who plays a seat from a tick on: a keyed hash, or nothing."""

    tick: int
    seat: int
    player: str


class PictureRecord(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """What a player saw at a tick, as JPEG. Kept where no renderer could make it again."""

    tick: int
    seat: int
    jpeg: bytes


Record = Header | TickRecord | SeatRecord | PictureRecord
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Record)


@dataclass(frozen=True)
class Session:
    """A log that was read: the ticks are in order and without gaps."""

    header: Header
    ticks: tuple[TickRecord, ...]
    seats: tuple[SeatRecord, ...]
    pictures: dict[tuple[int, int], bytes]  # by tick and seat
    torn_bytes: int  # at the end, of a record that a crash cut short


def packed(record: Record) -> bytes:
    body = _ENCODER.encode(record)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def read_session(path: str | Path) -> Session:
    """Raises FileNotFoundError, or ValueError that says what is wrong; a torn end is not wrong."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no session {path}; the server writes them to its `sessions` folder")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path} is no session log: it does not begin with {MAGIC!r}")
        records = list(_records(file, path))
        torn = path.stat().st_size - file.tell()
    if not records or not isinstance(records[0], Header):
        raise ValueError(f"{path} has no header: nothing was played, or its beginning is damaged")
    ticks = tuple(each for each in records if isinstance(each, TickRecord))
    first = records[0].first_tick
    if [each.tick for each in ticks] != list(range(first, first + len(ticks))):
        raise ValueError(f"{path} leaves out ticks after {first}; a session is played again only as a whole")
    return Session(
        header=records[0],
        ticks=ticks,
        seats=tuple(each for each in records if isinstance(each, SeatRecord)),
        pictures={(each.tick, each.seat): each.jpeg for each in records if isinstance(each, PictureRecord)},
        torn_bytes=torn,
    )


def _records(file: BinaryIO, path: Path) -> Iterator[Record]:
    """Whole records; leaves the file at the first byte of what is torn."""
    while True:
        place = file.tell()
        head = file.read(_HEAD.size)
        if len(head) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            body = file.read(length) if length <= _MOST_BYTES else b""
            if len(body) == length and zlib.crc32(body) == checksum:
                try:
                    yield _DECODER.decode(body)
                except msgspec.ValidationError as mistake:
                    raise ValueError(f"{path}, byte {place}: written by another version: {mistake}") from None
                continue
        file.seek(place)
        return
