"""Clocks: a client's estimate of the server's tick, and how a server keeps its step. Neither looks at a real clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gamegen_x.serve.protocol import Pong

NUM_PONGS = 16  # the estimate rests on the quickest of so many
MAX_SLEW = 0.05  # an estimate runs at most so much faster or slower than the clock
MAX_ROUND_TRIP_S = 10.0
JUMP_TICKS = 24.0  # what differs more is no drift: a clock was set, or the world stood still


@dataclass(frozen=True)
class _Sample:
    round_trip: float  # ticks
    offset: float  # ticks of the server minus those of the client


class TickEstimate:
    """Which tick plays at the server, from Pongs: NTP with a filter for the shortest round trip."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._samples: deque[_Sample] = deque(maxlen=NUM_PONGS)
        self._offset: float | None = None
        self._read_at = 0.0

    @property
    def is_measured(self) -> bool:
        """Whether it rests on a Pong; before the first it is a guess that lags."""
        return bool(self._samples)

    def set(self, tick: float, now_ms: float) -> None:
        """A first guess, or a new start: the server plays this tick now."""
        self._samples.clear()
        self._offset, self._read_at = tick - self._ticks(now_ms), now_ms

    def pong(self, pong: Pong, now_ms: float) -> None:
        served = pong.t2 - pong.t1
        round_trip = self._ticks(now_ms - pong.t0 - served)
        if not 0 <= round_trip <= MAX_ROUND_TRIP_S * self.fps:
            return  # the client's clock was set in between
        offset = pong.tick + round_trip / 2 - self._ticks(now_ms)
        if self._offset is None or not self._samples or abs(offset - self._offset) > JUMP_TICKS:
            self.set(pong.tick + round_trip / 2, now_ms)
        self._samples.append(_Sample(round_trip, offset))

    def tick(self, now_ms: float) -> float:
        """The tick at the server now. Follows better knowledge without a jump."""
        if self._offset is None:
            raise ValueError("nothing is known of the server's tick before a Welcome")
        if self._samples:
            best = min(self._samples, key=lambda sample: sample.round_trip).offset
            most = MAX_SLEW * self._ticks(max(now_ms - self._read_at, 0.0))
            self._offset += min(max(best - self._offset, -most), most)
        self._read_at = now_ms
        return self._offset + self._ticks(now_ms)

    @property
    def one_way(self) -> float:
        """Ticks that a message takes when nothing holds it up."""
        return min((sample.round_trip for sample in self._samples), default=0.0) / 2

    @property
    def jitter(self) -> float:
        """Ticks that nineteen of twenty messages take longer than that, at most."""
        if len(self._samples) < 2:
            return 0.0
        trips = sorted(sample.round_trip for sample in self._samples)
        return (trips[int(0.95 * (len(trips) - 1))] - trips[0]) / 2

    def _ticks(self, milliseconds: float) -> float:
        return milliseconds * self.fps / 1000


class Pacer:
    """When the next block is due, in ticks of a clock that only goes forward."""

    def __init__(self, block: int, max_behind: int, start: float, is_fixed: bool = True) -> None:
        self.block, self.max_behind, self.is_fixed = block, max_behind, is_fixed
        self.next_at = start

    def is_due(self, now: float) -> bool:
        return now >= self.next_at

    def done(self, now: float) -> int:
        """A block is finished: sets when the next is due. Gives the ticks that are left out because it is too late."""
        if not self.is_fixed:
            self.next_at = now + self.block
            return 0
        self.next_at += self.block
        behind = int((now - self.next_at) // self.block)
        if behind < self.max_behind:
            return 0
        self.next_at += behind * self.block
        return behind * self.block
