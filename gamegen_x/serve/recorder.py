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

from gamegen_x.serve.room import FinalTick
from gamegen_x.serve.session_log import MAGIC, SUFFIX, Header, PictureRecord, Record, SeatRecord, TickRecord, packed
from gamegen_x.world.snapshot import keyframe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordingRules:
    folder: str | None  # null: nothing is recorded
    max_minutes: float  # of one file; a longer session goes on in the next
    max_pending_mb: float  # that wait for the disk


@dataclass(frozen=True)
class Played:
    """What is said in a log's header."""

    name: str
    game: Mapping[str, Any]
    seed: int
    fps: float
    world: str
    weights: str = ""


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
        self._players: dict[int, str] = {}
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()  # of who writes to the file

    def begin(self, state: object) -> None:
        """The state before the first tick."""
        self._before = state

    def player_id(self, token: str) -> str:
        """A keyed hash: the same person is known again in this server's recordings, and nowhere else."""
        return hmac.new(self.player_key, (token or secrets.token_hex()).encode(), hashlib.sha256).hexdigest()[:16]

    def seat(self, tick: int, seat: int, player: str) -> None:
        self._players[seat] = player
        if self.path is not None:
            self._add(SeatRecord(tick, seat, player))

    def final(self, tick: FinalTick) -> None:
        """Takes in a tick; `Room.on_final`."""
        if self.failure:
            return
        if self.path is None or tick.tick - self._first_tick >= self.rules.max_minutes * 60 * self.played.fps:
            self._begin_file(tick.tick)
        self._add(TickRecord(tick.tick, tick.keys, tick.texts, tick.hash))
        self._before = tick.state

    def picture(self, tick: int, seat: int, jpeg: bytes) -> None:
        if self.path is not None and not self.failure:
            self._add(PictureRecord(tick, seat, jpeg))

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

    def close(self) -> None:
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
            )
        )
        for seat, player in self._players.items():
            self._add(SeatRecord(first_tick, seat, player))

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
