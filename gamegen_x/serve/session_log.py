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
    name: str = ""  # of the room
    prompt: str = ""


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
    resume: str = ""  # digest of the token that brings them back


class PictureRecord(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """What a player saw at a tick, as JPEG. Kept where no renderer could make it again."""

    tick: int
    seat: int
    jpeg: bytes


class StateRecord(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """The whole state after a tick, now and then: whoever takes the world up begins here."""

    tick: int
    state: bytes  # keyframe


class EndRecord(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """The world is over: nobody came back to it. Without this record a server that starts takes it up."""


Record = Header | TickRecord | SeatRecord | PictureRecord | StateRecord | EndRecord
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


@dataclass(frozen=True)
class SessionEnd:
    """Where a session stopped, and what is needed to go on from there."""

    header: Header
    tick: int
    state: bytes  # keyframe after that tick
    later: tuple[TickRecord, ...]  # what was played since
    seats: dict[int, SeatRecord]  # that were taken
    is_over: bool

    @property
    def last_tick(self) -> int:
        return self.tick + len(self.later)


def packed(record: Record) -> bytes:
    body = _ENCODER.encode(record)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def read_session(path: str | Path) -> Session:
    """Raises FileNotFoundError, or ValueError that says what is wrong; a torn end is not wrong."""
    path = Path(path)
    with _opened(path) as file:
        header = _header(file, path)
        records = list(_records(file, path))
        torn = path.stat().st_size - file.tell()
    ticks = tuple(each for each in records if isinstance(each, TickRecord))
    first = header.first_tick
    if [each.tick for each in ticks] != list(range(first, first + len(ticks))):
        raise ValueError(f"{path} leaves out ticks after {first}; a session is played again only as a whole")
    return Session(
        header=header,
        ticks=ticks,
        seats=tuple(each for each in records if isinstance(each, SeatRecord)),
        pictures={(each.tick, each.seat): each.jpeg for each in records if isinstance(each, PictureRecord)},
        torn_bytes=torn,
    )


def read_header(path: Path) -> Header:
    """Which world a log is of, without reading the rest. Raises as `read_session`."""
    with _opened(path) as file:
        return _header(file, path)


def read_end(path: Path) -> SessionEnd:
    """Where a log stops; holds one record at a time. Raises as `read_session`."""
    with _opened(path) as file:
        header = _header(file, path)
        tick, state, is_over = header.first_tick - 1, header.start, False
        later: list[TickRecord] = []
        seats: dict[int, SeatRecord] = {}
        for record in _records(file, path):
            match record:
                case TickRecord():
                    if record.tick != tick + len(later) + 1:
                        raise ValueError(f"{path} leaves out ticks before {record.tick}; it cannot be gone on with")
                    later.append(record)
                case StateRecord():
                    tick, state = record.tick, record.state
                    later.clear()
                case SeatRecord(player=""):
                    seats.pop(record.seat, None)
                case SeatRecord():
                    seats[record.seat] = record
                case EndRecord():
                    is_over = True
    return SessionEnd(header, tick, state, tuple(later), seats, is_over)


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():
        raise FileNotFoundError(f"no session {path}; the server writes them to its `sessions` folder")
    file = path.open("rb")
    if file.read(len(MAGIC)) != MAGIC:
        file.close()
        raise ValueError(f"{path} is no session log: it does not begin with {MAGIC!r}")
    return file


def _header(file: BinaryIO, path: Path) -> Header:
    header = next(_records(file, path), None)
    if not isinstance(header, Header):
        raise ValueError(f"{path} has no header: nothing was played, or its beginning is damaged")
    return header


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
