"""SyncMetrics: the six metrics of the sync plan, and what a room counts besides."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

NUM_SAMPLES = 4096  # of each series: the newest


def _series() -> deque[float]:
    return deque(maxlen=NUM_SAMPLES)


@dataclass
class SyncMetrics:
    """Counts of one room. `summary` names the six.

    Waits and round trips are in ticks of the driver's clock: `fps` of them are a second, however slow the world is.
    """

    num_ticks: int = 0
    full_syncs: Counter[str] = field(default_factory=Counter)  # by cause
    num_hashes: int = 0
    num_desyncs: int = 0
    input_waits: deque[float] = field(default_factory=_series)  # ticks from arrival at the room to the state with it
    input_leads: deque[float] = field(default_factory=_series)  # ticks that keys came early; negative: late
    round_trips: deque[float] = field(default_factory=_series)  # ticks
    message_bytes: Counter[str] = field(default_factory=Counter)  # by kind
    message_counts: Counter[str] = field(default_factory=Counter)
    queue_depths: deque[float] = field(default_factory=_series)
    state_gaps: deque[float] = field(default_factory=_series)  # ticks between two states that a client has
    num_rollbacks: int = 0
    num_replayed_ticks: int = 0
    num_skipped_ticks: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by error code

    def count_message(self, kind: str, num_bytes: int) -> None:
        self.message_bytes[kind] += num_bytes
        self.message_counts[kind] += 1

    def summary(self, fps: float) -> dict[str, float]:
        """The six metrics: sync frequency, desync rate, action latency, message size, queue depth, stability."""
        tick_ms = 1000 / fps
        minutes = max(self.num_ticks, 1) / fps / 60
        gaps = np.array(self.state_gaps)
        states = [kind for kind in ("Keyframe", "Delta") if self.message_counts[kind]]
        return {
            "full_syncs_per_minute": sum(self.full_syncs.values()) / minutes,
            "desync_percent": 100 * self.num_desyncs / max(self.num_hashes, 1),
            "action_latency_ms_p50": self._latency(0.5) * tick_ms,
            "action_latency_ms_p95": self._latency(0.95) * tick_ms,
            "state_message_bytes": sum(self.message_bytes[kind] for kind in states)
            / max(sum(self.message_counts[kind] for kind in states), 1),
            "bytes_per_tick": sum(self.message_bytes.values()) / max(self.num_ticks, 1),
            "queue_depth_mean": float(np.mean(self.queue_depths)) if self.queue_depths else 0.0,
            "queue_depth_max": max(self.queue_depths, default=0.0),
            "state_gap_variation": float(gaps.std() / gaps.mean()) if len(gaps) else 0.0,
        }

    def _latency(self, share: float) -> float:
        """Ticks from a key to its effect: the wait in the room, and the round trip."""
        return (quantile(self.input_waits, share) or 0.0) + (quantile(self.round_trips, share) or 0.0)


def quantile(values: Collection[float], share: float, digits: int | None = None) -> float | None:
    """Rounded where `digits` says so; None where there are no values."""
    if not len(values):
        return None
    found = float(np.quantile(list(values), share))
    return found if digits is None else round(found, digits)
