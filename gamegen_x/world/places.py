"""Places: what a transition network steps. Points of a plane for each player, from facts and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gamegen_x.world.drawing import from_halves, to_halves
from gamegen_x.world.facts import Facts

Points = npt.NDArray[np.float32]  # t p q 2: of player p, or of one frame p q 2
Known = npt.NDArray[np.bool_]  # t p q, or p q


@runtime_checkable
class Places(Protocol):
    """Facts of video frames as points, in [-1, 1] where they are inside, and back."""

    facts: ClassVar[Sequence[str]]  # names that must be there

    def read(self, facts: Facts, picture: tuple[int, int]) -> tuple[Points, Known]:
        """Points, and which of them are known, from facts of pictures of this height and width."""
        ...

    def write(self, points: Points, known: Known, picture: tuple[int, int]) -> Facts: ...


@dataclass(frozen=True)
class InViews:
    """Who is seen where: `screen_xy` in pixels and `visible`. Player p's points are all players in p's view."""

    facts: ClassVar[Sequence[str]] = ("screen_xy", "visible")

    def read(self, facts: Facts, picture: tuple[int, int]) -> tuple[Points, Known]:
        return to_halves(facts["screen_xy"], picture), np.asarray(facts["visible"], bool)

    def write(self, points: Points, known: Known, picture: tuple[int, int]) -> Facts:
        return {"screen_xy": from_halves(points, picture), "visible": known}


@dataclass(frozen=True)
class OnMap:
    """Where everybody stands and looks: `position` (x, y, z) over a square map, and `angle` in degrees from east.

    Player p has two points: where p stands, in halves of the map from its middle, and the direction that p looks in, on
    the unit circle, where no angle is next to another one by a jump. Heights are not stepped: they are 0.
    """

    middle: Sequence[float]  # in the map's units
    half: float  # of its side
    facts: ClassVar[Sequence[str]] = ("position", "angle")

    def __post_init__(self) -> None:
        if not self.half > 0:
            raise ValueError(f"half the side of a map is above 0, got half={self.half}")

    def read(
        self,
        facts: Facts,
        picture: tuple[int, int],  # noqa: ARG002  (a map is of no picture)
    ) -> tuple[Points, Known]:
        stands = (np.asarray(facts["position"])[..., :2] - np.asarray(self.middle)) / self.half
        angle = np.deg2rad(np.asarray(facts["angle"], np.float64))
        looks = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        points = np.stack([stands, looks], axis=-2).astype(np.float32)
        return points, np.ones(points.shape[:-1], bool)

    def write(
        self,
        points: Points,
        known: Known,  # noqa: ARG002  (everybody is somewhere)
        picture: tuple[int, int],  # noqa: ARG002
    ) -> Facts:
        ground = np.asarray(points[..., 0, :] * self.half + np.asarray(self.middle), np.float32)
        position = np.concatenate([ground, np.zeros_like(ground[..., :1])], axis=-1)
        angle = np.rad2deg(np.arctan2(points[..., 1, 1], points[..., 1, 0])) % 360
        return {"position": position, "angle": angle.astype(np.float32)}


def described_places(described: Mapping[str, Any] | None) -> Places:
    """What a config.json says that its transition network steps. Raises ValueError for what is none of these."""
    known = {f"{__name__}.{kind.__name__}": kind for kind in (InViews, OnMap)}
    target = described.get("_target_") if isinstance(described, Mapping) else described
    if not isinstance(described, Mapping) or target not in known:
        raise ValueError(f"weights may step one of {sorted(known)}, their config names {target!r}")
    try:
        return known[target](**{name: value for name, value in described.items() if name != "_target_"})
    except TypeError as mistake:
        raise ValueError(f"the weights' config does not fit {target} of this version: {mistake}") from mistake
