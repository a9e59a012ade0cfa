"""Recorder: writes a room's session while it is played. A full disk ends the recording, never the game."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from gamegen_x.serve.room import FinalTick
from gamegen_x.serve.seat import digest_of
from gamegen_x.serve.session_log import (
    MAGIC,
    SUFFIX,
    EndRecord,
    Header,
    PictureRecord,
    Record,
    SeatRecord,
    StateRecord,
    TickRecord,
    packed,
)
from gamegen_x.world.snapshot import keyframe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordingRules:
    folder: str | None  # null: nothing is recorded
    max_minutes: float  # of one file; a longer session goes on in the next
    max_pending_mb: float  # that wait for the disk
    state_every_s: float  # how much is to be played again at most when the world is taken up
    restore_s: float  # how long after its server has ended a world is taken up; 0: never

    def __post_init__(self) -> None:
        if min(self.max_minutes, self.max_pending_mb, self.state_every_s) <= 0 or self.restore_s < 0:
            raise ValueError("max_minutes, max_pending_mb and state_every_s are above 0, restore_s at least 0")


@dataclass(frozen=True)
class Played:
    """What is said in a log's header."""

    name: str
    game: Mapping[str, Any]
    seed: int
    fps: float
    world: str
    weights: str = ""
    prompt: str = ""


class Recorder:
    """The event loop adds records, another thread flushes them: `flush` may take its time."""

    def __init__(self, rules: RecordingRules, played: Played, player_key: bytes) -> None:
        self.rules, self.played, self.player_key = rules, played, player_key
        self.path: Path | None = None
        self.num_dropped = 0  # records
        self.failure = "" if rules.folder else "recording is off"
        self._pending: deque[bytes | Path] = deque()  # a path: what follows goes to that file
        self._pending_bytes = 0
        self._first_tick = 0
        self._before: Any = None  # the state that a new file begins after
        self._seats: dict[int, SeatRecord] = {}
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()  # of who writes to the file

    def begin(self, state: object, seats: Mapping[int, SeatRecord] | None = None) -> None:
        """The state before the first tick, and who sits there already."""
        self._before = state
        self._seats.update(seats or {})

    def player_id(self, token: str) -> str:
        """A keyed hash: the same person is known again in this server's recordings, and nowhere else."""
        return hmac.new(self.player_key, (token or secrets.token_hex()).encode(), hashlib.sha256).hexdigest()[:16]

    def sit(self, tick: int, seat: int, token: str, resume: str) -> None:
        """Somebody takes a seat, or comes back to it, and may come back once more with a new token."""
        before = self._seats.get(seat)
        player = before.player if before is not None and not token else self.player_id(token)
        self._seats[seat] = SeatRecord(tick, seat, player, digest_of(resume))
        self._add_to_file(self._seats[seat])

    def rise(self, tick: int, seat: int) -> None:
        """Somebody gives their seat back."""
        self._seats.pop(seat, None)
        self._add_to_file(SeatRecord(tick, seat, ""))

    def final(self, tick: FinalTick) -> None:
        """Takes in a tick; `Room.on_final`."""
        if self.failure:
            return
        if self.path is None or tick.tick - self._first_tick >= self.rules.max_minutes * 60 * self.played.fps:
            self._begin_file(tick.tick)
        self._add(TickRecord(tick.tick, tick.keys, tick.texts, tick.hash))
        self._before = tick.state
        if (tick.tick + 1) % round(self.rules.state_every_s * self.played.fps) == 0:
            self._add(StateRecord(tick.tick, keyframe(tick.state)))

    def picture(self, tick: int, seat: int, jpeg: bytes) -> None:
        self._add_to_file(PictureRecord(tick, seat, jpeg))

    def flush(self) -> None:
        """Brings what was added onto the disk. Blocks; call it from a thread, and once a second."""
        with self._lock:
            if not self._pending or self.failure:
                return
            try:
                while self._pending:
                    self._write(self._pending.popleft())
                if self._file is not None:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            except OSError as mistake:
                self._fail(f"recording ended: {mistake}", 1 + len(self._pending))

    def close(self, is_over: bool = False) -> None:
        """`is_over`: the world itself has ended, and no server is to take it up."""
        if is_over:
            self._add_to_file(EndRecord())
        self.flush()
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file, self.failure = None, self.failure or "closed"

    def _begin_file(self, first_tick: int) -> None:
        moment = time.strftime("%Y%m%d-%H%M%S")
        self.path = Path(str(self.rules.folder)) / f"{self.played.name}-{moment}-{first_tick:07d}{SUFFIX}"
        self._first_tick = first_tick
        played = self.played
        self._pending.append(self.path)
        self._add(
            Header(
                game=dict(played.game),
                seed=played.seed,
                fps=played.fps,
                first_tick=first_tick,
                start=keyframe(self._before),
                world=played.world,
                weights=played.weights,
                name=played.name,
                prompt=played.prompt,
            )
        )
        for record in self._seats.values():
            self._add(msgspec.structs.replace(record, tick=first_tick))

    def _write(self, item: bytes | Path) -> None:
        if isinstance(item, Path):
            if self._file is not None:
                self._file.close()
            item.parent.mkdir(parents=True, exist_ok=True)
            self._file = item.open("wb")
            self._file.write(MAGIC)
        elif self._file is not None:
            self._file.write(item)
            self._pending_bytes -= len(item)

    def _add_to_file(self, record: Record) -> None:
        """A record that says nothing where no tick was recorded yet."""
        if self.path is not None and not self.failure:
            self._add(record)

    def _add(self, record: Record) -> None:
        data = packed(record)
        if self._pending_bytes + len(data) > self.rules.max_pending_mb * 1e6:
            self._fail("recording ended: the disk is too slow", 1)
            return
        self._pending_bytes += len(data)
        self._pending.append(data)

    def _fail(self, why: str, num_dropped: int) -> None:
        self.num_dropped += num_dropped
        self.failure = why
        log.warning("%s: %s", self.played.name, why)
