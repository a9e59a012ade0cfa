"""SnowglobeMap: the ground around each player, and who and what is on it, drawn at the latent grid."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.games.snowglobe_camera import OverheadCamera
from gamegen_x.games.snowglobe_conditions import FACTS
from gamegen_x.games.snowglobe_planet import LANDMARKS, TERRAINS, Planet
from gamegen_x.games.snowglobe_rules import Kind
from gamegen_x.world.drawing import Grid, draw_places, splat
from gamegen_x.world.sphere import Cells


class SnowglobeMap:
    """A state drawer (see `gamegen_x.data.state`) for the overhead camera, from poses and the planet's number.

    Channels: players, by video frame and seat; terrain classes at `fineness` x `fineness` points of each cell; kinds
    of landmark; kinds of thing; with `tells_sky` the classes of the sky, alike everywhere. Ground and things are those
    of the last video frame of a latent frame; of the sky it is told how many of the video frames have which class.
    """

    def __init__(
        self,
        num_slots: int,
        frames_per_latent: int,
        fineness: int,
        num_landmarks: int,
        nside: int,
        view_angle: float,
        tells_sky: bool = False,  # weights of before do not say, and are not told
    ) -> None:
        self.num_slots = num_slots
        self.frames_per_latent = frames_per_latent
        self.fineness = fineness
        self.num_landmarks = num_landmarks
        self.nside = nside
        self.view_angle = view_angle
        self.tells_sky = tells_sky
        self.facts = ("pose", "planet", "thing_kind", "thing_place", *(FACTS if tells_sky else ()))
        self.parts = {
            "players": frames_per_latent * num_slots,
            "terrain": len(TERRAINS) * fineness**2,
            "landmarks": len(LANDMARKS),
            "things": len(Kind) - 1,
            "sky": sum(len(classes) for classes in FACTS.values()) if tells_sky else 0,
        }
        self.num_channels = sum(self.parts.values())
        self._planets: dict[int, Planet] = {}

    def draw(
        self,
        facts: Mapping[str, npt.NDArray[Any]],
        size: tuple[int, int],
        picture: tuple[int, int],  # noqa: ARG002  (the camera scales)
    ) -> Grid:
        """`[p t c h w]` from facts `[t_video ...]` of one episode."""
        planet = self._planet(int(facts["planet"].flat[0]))
        poses = facts["pose"].astype(np.float64)  # t_video p 3 3
        coarse, fine = (
            OverheadCamera(size[0] * times, size[1] * times, self.view_angle) for times in (1, self.fineness)
        )
        last = slice(self.frames_per_latent - 1, None, self.frames_per_latent)
        ground = [
            [
                np.concatenate(
                    [
                        self._terrain(planet, fine, frame),
                        _things(coarse, frame, planet.landmark_places, planet.landmark_kinds, len(LANDMARKS)),
                        _things(coarse, frame, places, kinds.astype(np.int64) - 1, len(Kind) - 1),
                    ]
                )
                for frame, kinds, places in zip(
                    frames, facts["thing_kind"][last], facts["thing_place"][last], strict=True
                )
            ]
            for frames in np.moveaxis(poses[last], 1, 0)
        ]
        local = np.einsum("tpji,tqj->tpqi", poses, poses[..., 2])
        seen, _ = coarse.map.pixels(local.reshape(-1, 3))
        seen = seen.reshape(*local.shape[:3], 2)
        is_drawn = (local[..., 2] > 0) & (np.abs(seen) < 2 * max(size)).all(axis=-1)
        players = draw_places(seen, is_drawn, self.frames_per_latent, self.num_slots, size)
        drawn = [players, np.array(ground, np.float32)]
        if self.tells_sky:
            sky = self._sky(facts)[:, :, None, None]
            drawn.append(np.broadcast_to(sky, (*players.shape[:2], *sky.shape[1:2], *players.shape[-2:])))
        return np.concatenate(drawn, axis=2)

    def _sky(self, facts: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Shares of the classes of each fact, `[t c]`."""
        hot = [facts[fact].reshape(-1, 1) == np.arange(len(classes)) for fact, classes in FACTS.items()]
        frames = np.concatenate(hot, axis=1, dtype=np.float32)
        return frames.reshape(-1, self.frames_per_latent, frames.shape[1]).mean(axis=1)

    def _terrain(self, planet: Planet, camera: OverheadCamera, frame: npt.NDArray[np.float64]) -> Grid:
        """One-hot classes of the points inside each cell: channel (row, column, class)."""
        times = self.fineness
        classes = planet.levels(camera.points.reshape(-1, 3), frame).astype(np.int64)
        height, width = camera.points.shape[:2]
        hot = (classes[:, None] == np.arange(len(TERRAINS))).reshape(
            height // times, times, width // times, times, len(TERRAINS)
        )
        return hot.transpose(1, 3, 4, 0, 2).reshape(-1, height // times, width // times).astype(np.float32)

    def _planet(self, number: int) -> Planet:
        if number not in self._planets:
            self._planets[number] = Planet.make(number, self.num_landmarks, self._cells)
        return self._planets[number]

    @cached_property
    def _cells(self) -> Cells:
        return Cells(self.nside)


def _things(
    camera: OverheadCamera,
    frame: npt.NDArray[np.float64],
    places: npt.NDArray[Any],
    kinds: npt.NDArray[np.int64],
    num_kinds: int,
) -> Grid:
    """What stands at unit vectors `[n 3]`, a layer a kind; a negative kind is nothing."""
    grid: Grid = np.zeros((num_kinds, camera.map.height, camera.map.width), np.float32)
    near = np.flatnonzero((places @ frame[:, 2] > np.cos(camera.map.reach + 0.1)) & (kinds >= 0))
    pixels, _ = camera.map.pixels(places[near].astype(np.float64) @ frame)
    splat(grid, kinds[near], pixels)
    return grid
