"""Surfaces: which wall or floor each cell of a player's view shows, by the floor plan of the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from gamegen_x.world.drawing import waves
from gamegen_x.world.floor_plan import FloorPlan

Numbers = npt.NDArray[np.float64]
_COLUMNS = 2  # of rays that find walls, in a cell
_FINE = 4  # rays along each side of a cell that say how much of it is wall, and how much floor


@dataclass(frozen=True)
class Surfaces:
    """What a view shows of a map of walls and one flat floor under an open sky: geometry, for networks to paint.

    Channels of a video frame: for two columns in each cell nearness of the wall (of its plane: the size that it is seen
    in), and the place on the map where the ray meets it; how much of the cell is wall, and how much is floor; for the
    ray through the cell's middle the place where it meets the floor, and the height at which it meets the wall, where
    it does. Places are x and y in halves of the map, with `num_frequencies` waves of each, the finest
    `half / 2^(n - 2)` long; heights are in walls, with as many waves, the finest a wall's height / 2^(n - 1) long.
    """

    boxes: Sequence[Sequence[float]]  # on the map, left, low, right, high: nobody sees through them
    eye_height: float  # map units
    wall_height: float
    proportion: float  # height by width of what a view shows at any distance
    num_frequencies: int

    def __post_init__(self) -> None:
        if not 0 < self.eye_height < self.wall_height or not self.proportion > 0:
            raise ValueError(
                "eyes are between the floor and the top of the walls, and a view is higher than 0; got eye_height="
                f"{self.eye_height}, wall_height={self.wall_height} and proportion={self.proportion}"
            )

    @property
    def num_channels(self) -> int:
        of_place = 2 + 4 * self.num_frequencies
        return _COLUMNS * (1 + of_place) + 2 + of_place + 1 + 2 * self.num_frequencies

    def draw(
        self,
        plan: FloorPlan,
        position: Float[np.ndarray, "t p 2"],
        angle: Float[np.ndarray, "t p"],  # radians, anticlockwise from the x axis
        reach: float,  # how far to the side the edge of the picture is, at a distance of 1
        near: float,  # units: so far away nearness is a half
        size: tuple[int, int],
    ) -> Float[np.ndarray, "t p c h w"]:
        height, width = size
        walls = self._walls(plan, position, angle, reach, width * _COLUMNS)
        by_column = np.concatenate([(near / (near + walls.ahead))[..., None], self._waves(plan, walls.place)], axis=-1)
        columns = by_column.reshape(*angle.shape, width, -1).swapaxes(-1, -2)[..., None, :]
        columns = np.broadcast_to(columns, (*columns.shape[:3], height, width))

        fine = self._walls(plan, position, angle, reach, width * _FINE)
        is_wall, is_floor = self._seen(fine.ahead, self._rise(height * _FINE, reach))
        shares = [
            share.reshape(*angle.shape, height, _FINE, width, _FINE).mean(axis=(3, 5))[:, :, None]
            for share in (is_wall, is_floor)
        ]

        middle = self._walls(plan, position, angle, reach, width)
        rise = self._rise(height, reach)
        is_wall, is_floor = self._seen(middle.ahead, rise)
        ahead = self.eye_height / np.maximum(-rise, 1e-9)  # of the floor
        floor = position[:, :, None, None] + middle.ways[:, :, None] * np.minimum(ahead, plan.half * 4)[..., None]
        of_floor = np.moveaxis(self._waves(plan, floor) * is_floor[..., None], -1, 2)
        up = ((self.eye_height + rise * middle.ahead[:, :, None]) / self.wall_height)[..., None]
        angles = 2 * np.pi * up * 2.0 ** np.arange(self.num_frequencies)
        of_height = np.concatenate([up, np.sin(angles), np.cos(angles)], axis=-1) * is_wall[..., None]
        return np.concatenate([columns, *shares, of_floor, np.moveaxis(of_height, -1, 2)], axis=2)

    def _walls(self, plan: FloorPlan, position: Numbers, angle: Numbers, reach: float, num_columns: int) -> _Walls:
        across = ((np.arange(num_columns) + 0.5) / num_columns * 2 - 1) * reach
        forward = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, :, None]
        right = np.stack([np.sin(angle), -np.cos(angle)], axis=-1)[:, :, None]
        ways = forward + across[:, None] * right  # of which one is as long as a step ahead of 1
        length = np.sqrt(1 + across**2)
        places = np.broadcast_to(position[:, :, None], ways.shape)
        ahead = plan.distances(places, ways / length[:, None]) / length
        return _Walls(ahead, places + ways * ahead[..., None], ways)

    def _rise(self, num_rows: int, reach: float) -> Float[np.ndarray, "rows 1"]:
        """How far up the rays of rows go at a distance of 1."""
        return (0.5 - (np.arange(num_rows)[:, None] + 0.5) / num_rows) * 2 * reach * self.proportion

    def _seen(self, ahead: Numbers, rise: Numbers) -> tuple[Bool[np.ndarray, "t p h w"], Bool[np.ndarray, "t p h w"]]:
        """Which rays meet a wall, and which the floor before it; the others see the sky."""
        height = self.eye_height + rise * ahead[:, :, None]
        return (height >= 0) & (height <= self.wall_height), height < 0

    def _waves(self, plan: FloorPlan, places: Float[np.ndarray, "*any 2"]) -> Float[np.ndarray, "*any c"]:
        return waves((places - np.asarray(plan.middle)) / plan.half, self.num_frequencies)


@dataclass(frozen=True)
class _Walls:
    """What columns of rays meet."""

    ahead: Float[np.ndarray, "t p w"]  # how far ahead, not along the ray
    place: Float[np.ndarray, "t p w 2"]
    ways: Float[np.ndarray, "t p w 2"]  # the rays, as far as they go while a step ahead is 1
