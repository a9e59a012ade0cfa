"""Ladder: how a room gives up quality when it cannot keep up, and takes it back. Down the steps soon, up again late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FULL, DROP_SPECTATORS, REFUSE_JOINS, PAUSE = "full", "drop_spectators", "refuse_joins", "pause"


@dataclass(frozen=True)
class LadderRules:
    """Each step includes those before it. The room acts on the names above; the others are for the views."""

    steps: Sequence[str]  # the first is full quality
    worse_after: float  # ticks of overload in a row, for each step
    better_after: float  # ticks without any, for each step back
    better_at_most: float  # a step back that does not hold makes the next one wait twice as long, up to this

    def __post_init__(self) -> None:
        if not self.steps or self.steps[0] != FULL or len(set(self.steps)) != len(self.steps):
            raise ValueError(f"steps are distinct names that begin with {FULL!r}, got {list(self.steps)}")
        if min(self.worse_after, self.better_after) <= 0 or self.better_at_most < self.better_after:
            raise ValueError(
                "worse_after and better_after are ticks above 0, better_at_most is not less than better_after; "
                f"got {self.worse_after}, {self.better_after} and {self.better_at_most}"
            )


class Ladder:
    def __init__(self, rules: LadderRules) -> None:
        self.rules = rules
        self.step = 0
        self._since: float | None = None  # when the present run of overload, or of calm, began
        self._was_overloaded = False
        self._better_after = rules.better_after
        self._better_at = float("-inf")  # the last step back

    @property
    def name(self) -> str:
        return self.rules.steps[self.step]

    def has_reached(self, name: str) -> bool:
        return name in self.rules.steps[: self.step + 1]

    def observe(self, now: float, is_overloaded: bool) -> bool:
        """Whether the step changed. `now` in ticks of a clock that goes on while the world stands still."""
        if self._since is None or is_overloaded != self._was_overloaded:
            self._since, self._was_overloaded = now, is_overloaded
        wait = self.rules.worse_after if is_overloaded else self._better_after
        step = self.step + (1 if is_overloaded else -1)
        if now - self._since < wait or not 0 <= step < len(self.rules.steps):
            return False
        if is_overloaded:
            self._learn_patience(now)
        else:
            self._better_at = now
        self.step, self._since = step, now
        return True

    def _learn_patience(self, now: float) -> None:
        rules = self.rules
        has_failed = now - self._better_at < rules.better_after
        self._better_after = min(2 * self._better_after, rules.better_at_most) if has_failed else rules.better_after
