"""A line of progress with the time left, for work that is done once and then kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0
SECONDS_ON_A_TERMINAL = 0.2


class Progress:
    """Counts things as they pass, and says on stderr how many are done and how long the rest takes.

    On a terminal one line is redrawn; in a log a line comes every few seconds, and none if all is done sooner.
    """

    def __init__(self, verb: str, total: int) -> None:
        self.verb = verb
        self.total = total
        self._is_terminal = sys.stderr.isatty()
        self._done = 0
        self._has_spoken = False
        self._begun = self._last = time.monotonic()

    def through(self, things: Iterable[T]) -> Iterator[T]:
        for thing in things:
            yield thing
            self._done += 1
            self._speak()

    def _speak(self) -> None:
        now = time.monotonic()
        is_due = now - self._last >= (SECONDS_ON_A_TERMINAL if self._is_terminal else SECONDS_BETWEEN_LINES)
        is_last = self._done == self.total and self._has_spoken
        if not (is_due or is_last):
            return
        self._last, self._has_spoken = now, True
        left = (now - self._begun) / self._done * (self.total - self._done)
        line = f"{self.verb}: {self._done} of {self.total}, {left:.0f} s left"
        if self._is_terminal:
            print(f"\r{line}\033[K", end="\n" if is_last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
