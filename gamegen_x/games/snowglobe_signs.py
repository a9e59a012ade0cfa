"""SnowglobeSigns: what pictures from above tell without any network: whose colour is where, and which terrain."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from gamegen_x.games.dynamics import RulesWorld
from gamegen_x.games.snowglobe_camera import OverheadCamera
from gamegen_x.games.snowglobe_look import PLAYER_COLOURS, Look
from gamegen_x.games.snowglobe_planet import TERRAINS
from gamegen_x.games.snowglobe_weather import fog_from_middle

Frames = npt.NDArray[np.uint8]  # n h w 3
Classes = npt.NDArray[np.int64]  # n grid grid
RAMP_SAMPLES = 25  # colours of the ground, soft shores included, that are told from players'


@dataclass(frozen=True)
class Found:
    """Where each player's colour is densest in each picture, and whether it is dense enough to be the player."""

    is_there: npt.NDArray[np.bool_]  # n p
    places: npt.NDArray[np.float64]  # n p 2: x, y in pixels


@dataclass(frozen=True)
class SnowglobeSigns:
    """Reads pictures in the light that the world really has; a model that shows another light is read wrongly."""

    grid: int  # cells a side in which terrain is read
    max_distance: float  # between a pixel's colour and a player's, in grey levels
    window: int  # pixels a side of the square ...
    min_share: float  # ... of which this share must have the player's colour

    def players_in(self, frames: Frames, world: RulesWorld) -> Found:
        """Looks for every player of the world in every picture."""
        look = _look(world)
        ours = look.lit(PLAYER_COLOURS[: world.num_players])
        palette = np.concatenate([ours, _ground_colours(look, frames.shape[1:3])])
        is_there = np.zeros((len(frames), len(ours)), bool)
        places = np.zeros((len(frames), len(ours), 2))
        for number, frame in enumerate(frames):
            pixels = frame.astype(np.float32)
            distance = np.square(pixels).sum(-1, keepdims=True) + np.square(palette).sum(-1) - 2 * pixels @ palette.T
            nearest = np.where(distance.min(axis=-1) < self.max_distance**2, distance.argmin(axis=-1), -1)
            for player in range(len(ours)):
                share = cv2.blur(
                    (nearest == player).astype(np.float32),
                    (self.window, self.window),
                    borderType=cv2.BORDER_CONSTANT,
                )
                y, x = np.unravel_index(share.argmax(), share.shape)
                is_there[number, player] = share[y, x] >= self.min_share
                places[number, player] = x, y
        return Found(is_there, places)

    def terrain_in(self, frames: Frames, world: RulesWorld) -> Classes:
        """The class whose colour the middle of each cell is nearest to."""
        cells = _middles(frames, self.grid)
        colours = _look(world)
        middle = (np.arange(len(TERRAINS)) * 2 + 1) * len(colours.ramp) // (2 * len(TERRAINS))
        fog = fog_from_middle(self.grid, self.grid)
        palette = np.stack(
            [colours.graded(np.broadcast_to(colours.ramp[at], (self.grid, self.grid, 3)).copy(), fog) for at in middle],
            axis=2,
        )
        return np.square(cells[:, :, :, None] - palette).sum(axis=-1).argmin(axis=-1)

    def true_terrain(self, world: RulesWorld, poses: npt.NDArray[np.floating]) -> Classes:
        """The class in the middle of each cell of a player's view at each pose `[n 3 3]`."""
        camera = OverheadCamera(self.grid, self.grid, world.game.view_angle)
        planet = world.game.planet
        views = [planet.levels(camera.points.reshape(-1, 3), pose.astype(np.float64)) for pose in poses]
        return np.stack(views).astype(np.int64).reshape(-1, self.grid, self.grid)


def _look(world: RulesWorld) -> Look:
    return Look.of(world.state.conditions.weights(world.state.tick, world.game.blend_frames))


def _ground_colours(look: Look, size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Colours of ground and landmarks where fog is thinnest and where it is thickest."""
    step = len(look.ramp) // RAMP_SAMPLES
    plain = np.concatenate([look.ramp[step // 2 :: step], look.landmarks])[None]
    fog = fog_from_middle(size[0], size[1])
    return np.concatenate([look.graded(plain.copy(), np.float32(amount))[0] for amount in (fog.min(), fog.max())])


def _middles(frames: Frames, grid: int) -> npt.NDArray[np.float32]:
    """The mean colour of the middle quarter of each cell: `[n grid grid 3]`."""
    number, height, width, _ = frames.shape
    cells = frames.reshape(number, grid, height // grid, grid, width // grid, 3)
    rows, columns = (slice(side // grid // 4, side // grid - side // grid // 4) for side in (height, width))
    return np.asarray(cells[:, :, rows, :, columns].mean(axis=(2, 4)), np.float32)
