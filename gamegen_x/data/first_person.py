"""FirstPersonDrawer: whither each cell of a player's view looks, from where, and who stands in front of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from gamegen_x.data.surfaces import Surfaces
from gamegen_x.world.drawing import draw_places, waves
from gamegen_x.world.facts import Facts
from gamegen_x.world.floor_plan import FloorPlan

_RAY, _OF_OTHERS = 4, 4  # numbers of a ray beside the waves of its place; layers of another player


@dataclass(frozen=True)
class FirstPersonDrawer:
    """A state drawer for games seen through the players' own eyes on a square map: from `position` and `angle`.

    Channels, for each video frame inside the latent frame: of every cell the direction on the map in which its column
    looks (cosine, sine; a ray is what a picture depends on: Plücker rays of camera-conditioned models, here in a
    plane), the place it looks from (x and y, and `num_frequencies` waves of each, the finest `half / 2^(n - 2)` long);
    then for every slot, where that player would be seen if no wall were between: presence, nearness, and the cosine and
    sine of the way it faces as seen from here. With `surfaces` then what the view shows of the map's walls and floor,
    and for every slot presence where no wall is between; without, walls are for the network to learn.
    """

    num_slots: int
    frames_per_latent: int
    middle: Sequence[float]  # of the map, in its units
    half: float  # of its side
    num_frequencies: int
    view_angle: float  # degrees from the left edge of the picture to the right one
    near: float  # units: so far away nearness is a half
    surfaces: Surfaces | None = None
    facts: ClassVar[Sequence[str]] = ("position", "angle")

    def __post_init__(self) -> None:
        if not 0 < self.view_angle < 180 or not min(self.half, self.near) > 0:
            raise ValueError(
                "a view is between 0 and 180 degrees wide, and half and near are above 0, got "
                f"view_angle={self.view_angle}, half={self.half}, near={self.near}"
            )
        assert self.surfaces is None or self.plan  # which refuses boxes that are none

    @cached_property
    def plan(self) -> FloorPlan:
        return FloorPlan(self.middle, self.half, () if self.surfaces is None else self.surfaces.boxes)

    @property
    def num_channels(self) -> int:
        more = 0 if self.surfaces is None else self.surfaces.num_channels + self.num_slots
        return self.frames_per_latent * (_RAY + 4 * self.num_frequencies + _OF_OTHERS * self.num_slots + more)

    def draw(
        self,
        facts: Facts,
        size: tuple[int, int],
        picture: tuple[int, int],  # noqa: ARG002  (angles are of no picture)
    ) -> Float[np.ndarray, "p t c h w"]:
        position = np.asarray(facts["position"], np.float64)[..., :2]
        angle = np.deg2rad(np.asarray(facts["angle"], np.float64))
        ahead, aside = self._towards(position, angle)
        draw_others = self._where_others_are(ahead, aside, size)
        others = [draw_others(values) for values in self._of_others(ahead, angle)]
        drawn = [self._in_latents(self._rays(position, angle, size)), *others]
        if self.surfaces is not None:
            of_map = self.surfaces.draw(self.plan, position, angle, self._reach, self.near, size)
            in_sight = self.plan.in_sight(position).astype(np.float64)
            drawn += [self._in_latents(of_map), draw_others(in_sight)]
        return np.concatenate(drawn, axis=2, dtype=np.float32)

    def _in_latents(self, frames: Float[np.ndarray, "t p c h w"]) -> Float[np.ndarray, "p t_latent c_latent h w"]:
        num_frames, num_players, channels, *size = frames.shape
        num_latents, inside = num_frames // self.frames_per_latent, self.frames_per_latent
        return frames.swapaxes(0, 1).reshape(num_players, num_latents, inside * channels, *size)

    def _rays(
        self, position: npt.NDArray[np.float64], angle: npt.NDArray[np.float64], size: tuple[int, int]
    ) -> Float[np.ndarray, "t p c h w"]:
        height, width = size
        across = ((np.arange(width) + 0.5) / width * 2 - 1) * self._reach
        looks = angle[..., None] - np.arctan(across)  # t p w: to the right is clockwise
        of_place = waves((position - np.asarray(self.middle)) / self.half, self.num_frequencies)
        columns = np.stack([np.cos(looks), np.sin(looks)], axis=2)  # t p 2 w
        wide = np.broadcast_to(of_place[..., None], (*of_place.shape, width))
        channels = np.concatenate([columns, wide], axis=2)[..., None, :]
        return np.broadcast_to(channels, (*channels.shape[:3], height, width))

    def _of_others(
        self, ahead: Float[np.ndarray, "t p q"], angle: npt.NDArray[np.float64]
    ) -> Sequence[Float[np.ndarray, "t p q"]]:
        """What is told of every player where another one sees it."""
        faces = angle[:, None] - angle[:, :, None]
        return np.ones_like(faces), self.near / (self.near + np.maximum(ahead, 0)), np.cos(faces), np.sin(faces)

    def _where_others_are(
        self, ahead: Float[np.ndarray, "t p q"], aside: Float[np.ndarray, "t p q"], size: tuple[int, int]
    ) -> Callable[[npt.NDArray[np.float64]], Float[np.ndarray, "p t c h w"]]:
        """Draws values `[t p q]` where player p would see player q if no wall were between."""
        height, width = size
        across = aside / np.maximum(ahead, 1e-6) / self._reach
        is_drawn = (ahead > 0) & (np.abs(across) < 2)  # a body's middle may be outside while its shoulder is not
        x = (np.where(is_drawn, across, 0) + 1) / 2 * width - 0.5
        places = np.stack([x, np.full_like(x, height / 2 - 0.5)], axis=-1)
        return lambda values: draw_places(places, is_drawn, self.frames_per_latent, self.num_slots, size, values)

    @staticmethod
    def _towards(
        position: npt.NDArray[np.float64], angle: npt.NDArray[np.float64]
    ) -> tuple[Float[np.ndarray, "t p q"], Float[np.ndarray, "t p q"]]:
        """How far ahead of player p, and to the right, player q stands."""
        away = position[:, None] - position[:, :, None]
        forward = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, :, None]
        right = np.stack([np.sin(angle), -np.cos(angle)], axis=-1)[:, :, None]
        return (away * forward).sum(-1), (away * right).sum(-1)

    @property
    def _reach(self) -> float:
        """How far to the side the edge of the picture is, at a distance of 1."""
        return float(np.tan(np.deg2rad(self.view_angle) / 2))
