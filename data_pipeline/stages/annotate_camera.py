"""Says how the camera moves: static, pan, tilt, zoom, roll."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from data_pipeline.clip import Clip, Frames
from data_pipeline.stage import Stage
from data_pipeline.stages.filter_motion import narrowed

UNKNOWN = "unclear"
WANDERING = "pan around"  # pans and tilts, in changing directions


class CameraTracker(ABC):
    """Names the camera's motion in a view."""

    @abstractmethod
    def label(self, frames: Frames, fps: float) -> str:
        """Frames "t h w 3" -> e.g. "static", "pan left", "pan right and tilt up", "zoom in", "roll clockwise"."""


@dataclass(frozen=True)
class HomographyTracker(CameraTracker):
    """Tracks corners between frames `step` apart, fits a homography, and names what it does to the picture.

    The most frequent name over the clip counts. Where fewer than `min_share` of the steps agree on any, most steps
    that pan or tilt make a "pan around", and anything else is "unclear".
    Thresholds are per second: `min_shift` in picture widths, `min_zoom` in parts of the size, `min_roll` in degrees.
    A camera that pans left moves the picture to the right.
    """

    step: int
    num_steps: int
    max_corners: int
    max_width: int
    min_share: float
    min_shift: float
    min_zoom: float
    min_roll: float

    def label(self, frames: Frames, fps: float) -> str:
        last = len(frames) - 1 - self.step
        starts = np.unique(np.linspace(0, max(last, 0), self.num_steps).round().astype(int))
        names: Counter[str] = Counter()
        for start in starts:
            pair = [frames[start], frames[min(start + self.step, len(frames) - 1)]]
            grey = [cv2.cvtColor(narrowed(frame, self.max_width), cv2.COLOR_RGB2GRAY) for frame in pair]
            names[self._name(grey[0], grey[1], fps / self.step)] += 1
        name, count = names.most_common(1)[0]
        if count >= self.min_share * len(starts) and name != UNKNOWN:
            return name
        num_pans = sum(times for name, times in names.items() if name.startswith(("pan", "tilt")))
        return WANDERING if num_pans > len(starts) / 2 else UNKNOWN

    def _name(self, first: Frames, second: Frames, per_second: float) -> str:
        homography = self._homography(first, second)
        if homography is None:
            return UNKNOWN
        height, width = first.shape
        middle = np.array([width / 2, height / 2])
        # What the homography does around the middle of the picture: where that goes, and its linear part there.
        points = middle + np.array([[0, 0], [1, 0], [0, 1]]) * width / 8
        moved = cv2.perspectiveTransform(points[None].astype(np.float64), homography)[0]
        right, down = (moved[0] - middle) / width * per_second
        linear = (moved[1:] - moved[0]).T / (width / 8)
        zoom = (np.sqrt(abs(np.linalg.det(linear))) - 1) * per_second
        roll = np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])) * per_second
        if abs(zoom) >= self.min_zoom and abs(zoom) / 2 >= max(abs(right), abs(down)):
            return "zoom in" if zoom > 0 else "zoom out"
        if abs(roll) >= self.min_roll and np.radians(abs(roll)) / 2 >= max(abs(right), abs(down)):
            return "roll counter-clockwise" if roll > 0 else "roll clockwise"
        # A diagonal counts as both only when neither direction is less than half of the other.
        least = max(self.min_shift, max(abs(right), abs(down)) / 2)
        parts = []
        if abs(right) >= least:
            parts.append("pan left" if right > 0 else "pan right")
        if abs(down) >= least:
            parts.append("tilt up" if down > 0 else "tilt down")
        return " and ".join(parts) or "static"

    def _homography(self, first: Frames, second: Frames) -> np.ndarray | None:
        corners = cv2.goodFeaturesToTrack(first, self.max_corners, 0.01, 3)
        if corners is None or len(corners) < 8:
            return None
        tracked, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None, winSize=(15, 15), maxLevel=3)
        is_found = found.ravel() == 1
        if is_found.sum() < 8:
            return None
        homography, _ = cv2.findHomography(corners[is_found], tracked[is_found], cv2.USAC_FAST, 1.0)
        return homography


@dataclass(frozen=True)
class AnnotateCamera(Stage):
    """Adds the motion of every view's camera to what the source says of it: "overhead: pan left | static"."""

    tracker: CameraTracker

    def process(self, clip: Clip) -> Iterator[Clip]:
        motions = " | ".join(self.tracker.label(view, clip.source.fps) for view in clip.views)
        kind = clip.source.camera
        yield replace(clip, camera=f"{kind}: {motions}" if kind else motions)
