"""FloorPlan: a square map with boxes on it, and how far one sees there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

Numbers = npt.NDArray[np.float64]
_PARALLEL = 1e-9  # of a unit direction: no wall along this axis is ever met


@dataclass(frozen=True)
class FloorPlan:
    """What stands in the way on a square map: its outer walls, and boxes whose sides run along its axes."""

    middle: Sequence[float]  # of the map, in its units
    half: float  # of its side
    boxes: Sequence[Sequence[float]]  # left, low, right, high

    def __post_init__(self) -> None:
        for box in self.boxes:
            if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"a box is [left, low, right, high] in map units, got {list(box)}")

    def distances(
        self, places: Float[np.ndarray, "*any 2"], directions: Float[np.ndarray, "*any 2"]
    ) -> Float[np.ndarray, " *any"]:
        """How far from these places, in these unit directions, the nearest wall is; 0 from off the map or in a box."""
        away = np.where(np.abs(directions) < _PARALLEL, _PARALLEL, directions)
        middle = np.asarray(self.middle, np.float64)
        enters, found = self._crossing(places, away, middle - self.half, middle + self.half)
        is_inside = (enters <= 0) & (found >= 0)
        for left, low, right, high in self.boxes:
            enters, leaves = self._crossing(places, away, np.array([left, low]), np.array([right, high]))
            is_inside &= ~((enters < 0) & (leaves > 0))
            found = np.where((enters < leaves) & (enters >= 0), np.minimum(found, enters), found)
        return np.where(is_inside, found, 0)

    def in_sight(self, places: Float[np.ndarray, "*any p 2"]) -> Bool[np.ndarray, "*any p p"]:
        """Whether no wall stands between two places."""
        away = places[..., None, :, :] - places[..., :, None, :]
        distance = np.linalg.norm(away, axis=-1)
        ways = away / np.maximum(distance, _PARALLEL)[..., None]
        return np.asarray(self.distances(np.broadcast_to(places[..., :, None, :], away.shape), ways) >= distance)

    @staticmethod
    def _crossing(places: Numbers, away: Numbers, lows: Numbers, highs: Numbers) -> tuple[Numbers, Numbers]:
        """Where rays enter and leave a box, by the slabs of its axes (Kay & Kajiya 1986); in another order: never."""
        one, other = (lows - places) / away, (highs - places) / away
        return np.minimum(one, other).max(axis=-1), np.maximum(one, other).min(axis=-1)
