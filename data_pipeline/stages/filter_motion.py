"""Rejects clips in which too little or too much moves."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.clip import Clip, DamagedSourceError, Frames
from data_pipeline.networks.weights import check_there, fill, load_weights
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

    MIN_SIZE: ClassVar[int] = 16  # pixels: below, OpenCV raises or ends the process

    def flow(self, first: Frames, second: Frames) -> npt.NDArray[np.float32]:
        height, width = first.shape[:2]
        if min(height, width) < self.MIN_SIZE:
            raise DamagedSourceError(
                "too small",
                f"{width}x{height} pixels, optical flow needs {self.MIN_SIZE} each way: set height and width",
            )
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return np.asarray(estimator.calc(grey[0], grey[1], None), np.float32)


@dataclass(frozen=True)
class RaftFlow(FlowEstimator):
    """RAFT (Teed and Deng 2020) as torchvision builds it, "small" or "large", from a local file of weights."""

    size: str
    weights: str
    num_updates: int

    def __post_init__(self) -> None:
        if self.size not in ("small", "large"):
            raise ValueError(f'size is "small" or "large", got {self.size!r}')
        check_there(self.weights, f"torchvision's raft_{self.size} weights", "https://docs.pytorch.org/vision (models)")

    @cached_property
    def network(self) -> Any:
        """Loaded at first use, in the process that uses it."""

        build = getattr(importlib.import_module("torchvision.models.optical_flow"), f"raft_{self.size}")
        return fill(build(weights=None), load_weights(self.weights), self.weights)

    def flow(self, first: Frames, second: Frames) -> npt.NDArray[np.float32]:
        import torch

        height, width = first.shape[:2]
        # RAFT wants multiples of 8, and 128 at least
        inner = tuple(max(128, -(-side // 8) * 8) for side in (width, height))
        pair = [
            torch.from_numpy(cv2.resize(frame, inner).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
            for frame in (first, second)
        ]
        with torch.inference_mode():
            flow = self.network(*pair, num_flow_updates=self.num_updates)[-1][0].permute(1, 2, 0).numpy()
        return np.asarray(cv2.resize(flow, (width, height)) * (width / inner[0], height / inner[1]), np.float32)


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
