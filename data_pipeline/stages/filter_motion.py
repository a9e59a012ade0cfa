"""Rejects clips in which too little or too much moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.clip import Clip, Frames
from data_pipeline.stage import Stage

SCORE = "motion_widths_per_s"


class FlowEstimator(ABC):
    """Optical flow between two frames."""

    @abstractmethod
    def flow(self, first: Frames, second: Frames) -> npt.NDArray[np.float32]:
        """Frames "h w 3" -> pixels "h w 2" (right, down) that the first frame's points move."""


@dataclass(frozen=True)
class DisFlow(FlowEstimator):
    """OpenCV's dense inverse search (Kroeger et al. 2016), preset medium."""

    def flow(self, first: Frames, second: Frames) -> npt.NDArray[np.float32]:
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return np.asarray(estimator.calc(grey[0], grey[1], None), np.float32)


@dataclass(frozen=True)
class FilterMotion(Stage):
    """Keeps clips whose motion lies between two bounds, in picture widths per second.

    The motion is the mean length of the flow between neighbouring frames, at `num_pairs` places of every view: menus
    and pause screens stay near 0, flashes and noise go far above 1. The views' mean counts: a clip in which one player
    rests and the other runs is kept.
    """

    estimator: FlowEstimator
    minimum: float
    maximum: float
    num_pairs: int
    max_width: int  # pixels: wider frames are made smaller first

    def __post_init__(self) -> None:
        if not 0 <= self.minimum < self.maximum:
            raise ValueError(f"need 0 <= minimum < maximum, got {self.minimum} and {self.maximum}")

    def process(self, clip: Clip) -> Iterator[Clip]:
        motion = float(np.mean([self._motion(view, clip.source.fps) for view in clip.views]))
        clip = clip.scored(SCORE, motion)
        if motion < self.minimum:
            clip = clip.rejected("too little motion", f"{SCORE} {motion:.4f}, minimum {self.minimum}")
        elif motion > self.maximum:
            clip = clip.rejected("too much motion", f"{SCORE} {motion:.4f}, maximum {self.maximum}")
        yield clip

    def _motion(self, view: Frames, fps: float) -> float:
        places = np.unique(np.linspace(0, len(view) - 2, self.num_pairs).round().astype(int))
        lengths = []
        for place in places:
            first, second = (narrowed(view[place + step], self.max_width) for step in (0, 1))
            flow = self.estimator.flow(first, second)
            lengths.append(float(np.hypot(flow[..., 0], flow[..., 1]).mean()) / first.shape[1])
        return float(np.mean(lengths)) * fps


def narrowed(frame: Frames, max_width: int) -> Frames:
    """The frame "h w 3" at most `max_width` pixels wide, its shape kept."""
    height, width = frame.shape[:2]
    if width <= max_width:
        return frame
    size = (max_width, max(1, round(height * max_width / width)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
