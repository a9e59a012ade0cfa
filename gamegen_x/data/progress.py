"""A line of progress with the time left, for work that is done once and then kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 5.0
SECONDS_ON_A_TERMINAL = 0.2


def progress(things: Iterable[T], total: int, verb: str) -> Iterator[T]:
    """Passes things through and says on stderr how many are done and how long the rest takes.

    On a terminal one line is redrawn; in a log a line comes every few seconds, and none if all is done sooner.
    """
    is_terminal = sys.stderr.isatty()
    pause = SECONDS_ON_A_TERMINAL if is_terminal else SECONDS_BETWEEN_LINES
    begun = last = time.monotonic()
    has_spoken = False
    for count, thing in enumerate(things, start=1):
        yield thing
        now = time.monotonic()
        if now - last >= pause or (count == total and has_spoken):
            last, has_spoken = now, True
            left = (now - begun) / count * (total - count)
            line = f"{verb}: {count} of {total}, {left:.0f} s left"
            print(
                f"\r{line}\033[K" if is_terminal else line, end="" if is_terminal else "\n", file=sys.stderr, flush=True
            )
    if is_terminal and has_spoken:
        print(file=sys.stderr)
