"""How often states and hashes travel, and which ideas of the sync plan are in use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SyncRules:
    """The items of the sync plan, each a switch; what each is compared with when it is off."""

    delta_states: bool  # A1; off: every state is sent whole
    binary: bool  # A2; off: JSON
    batch_ticks: int  # A3: ticks that share one Input
    is_adaptive: bool  # B1: hashes and states more often in trouble, less often in calm; off: `base`, always
    hash_only: bool  # B2: whole states only where a hash differs; off: whole states instead of hashes
    is_predictive: bool  # B3: loss and slower round trips count as trouble before any hash differs
    input_ticks: bool  # C1: an Input says for which tick its keys are; off: for the tick it arrives in
    input_delay: bool  # C2: keys are sent early enough for the jitter; off: just in time
    predict_keys: bool  # C3: missing keys are guessed; off: nothing is held
    fixed_step: bool  # D1: ticks follow the clock; off: each waits after the work of the last
    tick_sync: bool  # D2: clients follow the server's tick; off: they count for themselves
    tuned_transport: bool  # E1: a socket that sends at once; off: what a polling fallback does
    priorities: bool  # E2: the urgent first; off: one line for all


@dataclass(frozen=True)
class Pace:
    """Ticks between two."""

    state: int
    hash: int


@dataclass(frozen=True)
class PaceRules:
    base: Pace
    alert: Pace  # in trouble, and for a while after
    calm: Pace  # after a long time without
    alert_ticks: float
    calm_after: float  # ticks
    max_loss: float  # above it is trouble (B3)
    round_trip_step: float  # ticks that a round trip may grow at once before it is trouble (B3)


class PaceKeeper:
    """The pace of one player."""

    def __init__(self, rules: PaceRules, sync: SyncRules, now: float) -> None:
        self.rules, self.sync = rules, sync
        self._trouble_until, self._last_trouble = -1.0, now
        self._round_trip: float | None = None

    def at(self, now: float) -> Pace:
        if not self.sync.is_adaptive:
            return self.rules.base
        if now < self._trouble_until:
            return self.rules.alert
        return self.rules.calm if now - self._last_trouble >= self.rules.calm_after else self.rules.base

    def alarm(self, now: float) -> None:
        self._trouble_until, self._last_trouble = now + self.rules.alert_ticks, now

    def watch(self, now: float, loss: float, round_trip: float) -> None:
        """Takes note of how the line is."""
        if self.sync.is_predictive and (
            loss > self.rules.max_loss
            or (self._round_trip is not None and round_trip - self._round_trip > self.rules.round_trip_step)
        ):
            self.alarm(now)
        before = round_trip if self._round_trip is None else self._round_trip
        self._round_trip = before + (round_trip - before) / 8
