"""How far a run is, and how long it will still take."""

from __future__ import annotations

import sys
import time


class ProgressLine:
    """Writes a line to stderr every few seconds. Work is measured in bytes of the sources."""

    def __init__(self, sizes: list[int], seconds_between: float) -> None:
        self.sizes = sizes
        self.done = [0.0] * len(sizes)
        self.seconds_between = seconds_between
        self.num_kept = self.num_fallen = self.num_view_frames = self.num_sources = 0
        self.began = self.shown = time.monotonic()

    def clip(self, source: int, is_kept: bool, num_view_frames: int, share_of_source: float) -> None:
        self.num_kept += is_kept
        self.num_fallen += not is_kept
        self.num_view_frames += num_view_frames
        self.done[source] = self.sizes[source] * share_of_source
        self._show()

    def source(self, source: int) -> None:
        self.done[source] = self.sizes[source]
        self.num_sources += 1
        self._show(is_last=self.num_sources == len(self.sizes))

    def _show(self, is_last: bool = False) -> None:
        now = time.monotonic()
        if now - self.shown < self.seconds_between and not is_last:
            return
        self.shown = now
        seconds = now - self.began
        share = sum(self.done) / max(sum(self.sizes), 1)
        left = f"{seconds / share * (1 - share):.0f} s left" if share else "time left unknown"
        print(
            f"curate: {self.num_sources}/{len(self.sizes)} sources, {self.num_kept} clips kept, {self.num_fallen} not, "
            f"{self.num_view_frames / max(seconds, 1e-9):.0f} view frames/s, {left}",
            file=sys.stderr,
            flush=True,
        )
