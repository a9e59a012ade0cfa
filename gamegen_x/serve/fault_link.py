"""FaultLink: one direction of a line that loses, doubles, delays and reorders. Seeded, in virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

STREAM_PATIENCE = 1.0  # round trips after which a stream sends again what was lost


@dataclass(frozen=True)
class LinkFaults:
    """Times in ticks, shares from 0 to 1."""

    delay: float = 1.0
    jitter: float = 0.0  # mean of an exponential, on top
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # of being held back by `reorder_by`
    reorder_by: float = 3.0
    bytes_per_tick: float = 0.0  # 0: any amount
    max_queue: float = 24.0  # ticks of sending that may wait; what does not fit is lost
    poll_ticks: float = 0.0  # everything arrives at multiples of it: a polling transport
    is_stream: bool = False  # in order and without loss, but late, as TCP does it
    outages: Sequence[tuple[float, float]] = field(default=())  # from, to: nothing gets through

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, got {getattr(self, name)}")
        for name in ("delay", "jitter", "reorder_by", "bytes_per_tick", "max_queue", "poll_ticks"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is at least 0, got {getattr(self, name)}")
        if any(len(outage) != len(("from", "to")) for outage in self.outages):
            raise ValueError(f"an outage is the ticks [from, to], got {list(self.outages)}")


class FaultLink:
    """`send` puts messages in, `receive` gives those that have arrived by then."""

    def __init__(self, faults: LinkFaults, seed: int) -> None:
        self.faults = faults
        self.num_sent = self.num_lost = self.num_bytes = 0
        self._rng = np.random.default_rng(seed)
        self._arriving: list[tuple[float, int, bytes | str]] = []
        self._count = 0
        self._free_at = self._last_arrival = 0.0

    def send(self, data: bytes | str, now: float) -> None:
        faults = self.faults
        self.num_sent += 1
        self.num_bytes += len(data)
        draws = self._rng.uniform(size=3)
        late = self._rng.exponential(faults.jitter) if faults.jitter else 0.0
        if faults.bytes_per_tick:
            free_at = max(self._free_at, now) + len(data) / faults.bytes_per_tick
            if free_at - now > faults.max_queue:
                self.num_lost += 1
                return
            self._free_at = free_at
        arrival = max(self._free_at, now) + faults.delay + late
        is_lost = draws[0] < faults.loss or self._is_out(now) or self._is_out(arrival)
        if faults.is_stream:
            arrival = self._in_order(arrival, is_lost)
        elif is_lost:
            self.num_lost += 1
            return
        elif draws[1] < faults.reorder:
            arrival += faults.reorder_by
        if faults.poll_ticks:
            arrival = np.ceil(arrival / faults.poll_ticks) * faults.poll_ticks
        self._put(arrival, data)
        if draws[2] < faults.duplicate and not faults.is_stream:
            self._put(arrival + faults.delay, data)

    @property
    def next_arrival(self) -> float | None:
        return self._arriving[0][0] if self._arriving else None

    def receive(self, now: float) -> list[tuple[float, bytes | str]]:
        """What has arrived by now, with its moment, in order."""
        found = []
        while self._arriving and self._arriving[0][0] <= now:
            moment, _, data = heapq.heappop(self._arriving)
            found.append((moment, data))
        return found

    def _put(self, arrival: float, data: bytes | str) -> None:
        self._count += 1
        heapq.heappush(self._arriving, (float(arrival), self._count, data))

    def _in_order(self, arrival: float, is_lost: bool) -> float:
        """A stream sends again until it gets through, and what follows waits."""
        while is_lost or self._is_out(arrival):
            arrival += 2 * self.faults.delay * STREAM_PATIENCE + 1
            is_lost = self._rng.uniform() < self.faults.loss
        self._last_arrival = max(self._last_arrival, arrival)
        return self._last_arrival

    def _is_out(self, moment: float) -> bool:
        return any(begin <= moment < end for begin, end in self.faults.outages)
