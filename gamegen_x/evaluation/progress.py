"""Progress: one line now and then, with the time left."""

from __future__ import annotations

import time


class Progress:
    """Counts towards `total`, and prints at most every `seconds_between_lines`, and at the end."""

    def __init__(self, title: str, total: int, seconds_between_lines: float) -> None:
        self.title = title
        self.total = total
        self.seconds_between_lines = seconds_between_lines
        self.started = self.spoken = time.monotonic()

    def __call__(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if done < self.total and now - self.spoken < self.seconds_between_lines:
            return
        self.spoken = now
        spent = now - self.started
        left = spent / done * (self.total - done) if done else float("nan")
        ending = f"{left:.0f} s left" if done < self.total else f"took {spent:.0f} s"
        print(f"{self.title}: {done}/{self.total}{', ' + note if note else ''}, {ending}", flush=True)
