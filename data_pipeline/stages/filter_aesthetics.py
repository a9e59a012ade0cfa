"""Rejects clips that are ugly to look at: flat, dark, washed out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.clip import Clip, Frames, spread
from data_pipeline.networks.clip_image import ClipImageEncoder
from data_pipeline.networks.weights import check_there, load_weights
from data_pipeline.stage import Stage


class AestheticScorer(ABC):
    """Scores pictures. The scale belongs to the scorer, and its name is the name of the score in the records."""

    name: str

    @abstractmethod
    def score(self, frames: Frames) -> float:
        """The mean score of some frames."""


@dataclass(frozen=True)
class ImageStatistics(AestheticScorer):
    """A no-reference score of 0 (one flat colour) to 10, the mean of four parts that each run from 0 to 10.

    - contrast: standard deviation of brightness, full at 64 of 255
    - colour: Hasler and Suesstrunk's colourfulness (2003), full at 60 ("quite colourful" is 59)
    - detail: mean absolute Laplacian of brightness, full at 16 of 255
    - exposure: the share of pixels whose brightness is neither below 4 nor above 251
    """

    name: str = "aesthetics_statistics_0_to_10"

    def score(self, frames: Frames) -> float:
        return float(np.mean([self._score_frame(frame) for frame in frames]))

    def _score_frame(self, frame: Frames) -> float:
        red, green, blue = (frame[..., channel].astype(np.float32) for channel in range(3))
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        warm, cool = red - green, (red + green) / 2 - blue
        colour = np.hypot(warm.std(), cool.std()) + 0.3 * np.hypot(warm.mean(), cool.mean())
        detail = np.abs(cv2.Laplacian(grey, cv2.CV_16S)).mean()
        exposure = np.mean((grey >= 4) & (grey <= 251))
        parts = (grey.std() / 64, colour / 60, detail / 16, exposure)
        return 10 * float(np.mean([min(float(part), 1.0) for part in parts]))


@dataclass(frozen=True)
class ClipAesthetics(AestheticScorer):
    """A linear head on CLIP's picture vectors, as LAION trained it on AVA's votes: about 1 (poor) to 10.

    `head` is a local file with the members `weight` [1 d] and `bias` [1]. The head belongs to one CLIP model.
    """

    encoder: ClipImageEncoder
    head: str
    name: str = "aesthetics_clip_ava_1_to_10"

    def __post_init__(self) -> None:
        check_there(self.head, "a linear aesthetic head", "https://github.com/LAION-AI/aesthetic-predictor")

    @cached_property
    def linear(self) -> tuple[npt.NDArray[np.float32], float]:
        state = load_weights(self.head)
        if set(state) != {"weight", "bias"} or state["weight"].ndim != 2 or len(state["weight"]) != 1:
            shapes = {name: list(value.shape) for name, value in state.items()}
            raise ValueError(f"{self.head} is not a linear head: expected weight [1 d] and bias [1], got {shapes}")
        return state["weight"][0].float().numpy(), float(state["bias"])

    def score(self, frames: Frames) -> float:
        weight, bias = self.linear
        vectors = self.encoder.embed(frames)
        if vectors.shape[1] != len(weight):
            raise ValueError(
                f"{self.head} fits vectors of {len(weight)}, {self.encoder.model} makes {vectors.shape[1]}"
            )
        return float((vectors @ weight + bias).mean())


@dataclass(frozen=True)
class FilterAesthetics(Stage):
    """Keeps clips whose mean score over `num_frames` frames of every view reaches a minimum on the scorer's scale."""

    scorer: AestheticScorer
    minimum: float
    num_frames: int

    def process(self, clip: Clip) -> Iterator[Clip]:
        score = float(np.mean([self.scorer.score(spread(view, self.num_frames)) for view in clip.views]))
        clip = clip.scored(self.scorer.name, score)
        if score < self.minimum:
            clip = clip.rejected("below the minimum", f"{self.scorer.name} {score:.3f}, minimum {self.minimum}")
        yield clip
