"""SyntheticClips: endless made-up clips, so that every recipe runs without data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8

from gamegen_x.data.order import Draws, mix
from gamegen_x.data.records import Part, RecordHeader
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Caption, Instruction
from gamegen_x.world.facts import Facts

COLOURS = {"red": (220, 60, 50), "blue": (60, 90, 230), "yellow": (230, 200, 50), "white": (240, 240, 240)}
SKIES = {"day": (120, 180, 120), "night": (20, 25, 60)}
MOVES = {"w": (0.0, -1.0), "s": (0.0, 1.0), "a": (-1.0, 0.0), "d": (1.0, 0.0)}
NUM_STONES = 5
STONE = 1 << 20  # no player has this number
FORMAT = 2


class SyntheticDataset:
    """Made-up clips for training and, of other seeds, for validation. Nothing is ever damaged."""

    max_damaged_share = 0.0

    def __init__(
        self,
        num_clips: Mapping[str, int],
        cache_folder: str,
        num_frames: int,
        num_players: int,
        height: int,
        width: int,
        fps: float,
        action_space: ActionSpace,
        instructed_share: float,
        seed: int,
    ) -> None:
        self.cache_folder = Path(cache_folder)
        self._splits = {
            split: SyntheticClips(
                count, num_frames, num_players, height, width, fps, action_space, instructed_share, mix(seed, number)
            )
            for number, (split, count) in enumerate(num_clips.items())
        }

    def splits(self) -> Mapping[str, SyntheticClips]:
        return self._splits


class SyntheticClips:
    """Coloured discs, one a player, that obey W A S D between stones on a torus. "Make it night." darkens the ground.

    Clip `index` is the same for everybody who has the same settings, for any index; `num_clips` of them make an epoch.
    Every view shows all discs and keeps its own player in the middle.
    """

    def __init__(
        self,
        num_clips: int,
        num_frames: int,
        num_players: int,
        height: int,
        width: int,
        fps: float,
        action_space: ActionSpace,
        instructed_share: float,
        seed: int,
    ) -> None:
        if num_players > len(COLOURS):
            raise ValueError(f"synthetic clips have 1 to {len(COLOURS)} players, got {num_players}")
        self.num_frames = num_frames
        self.num_players = num_players
        self.size = (height, width)
        self.fps = fps
        self.action_space = action_space
        self.instructed_share = instructed_share
        self.seed = seed
        settings = (FORMAT, num_frames, num_players, height, width, fps, action_space.keys, instructed_share, seed)
        made_from = hashlib.sha256(repr(settings).encode()).hexdigest()
        self.name = "synthetic"
        self.damage: Mapping[str, str] = {}
        self.headers: Sequence[RecordHeader] = [self.header(index) for index in range(num_clips)]
        self.parts = [Part("synthetic", made_from, range(num_clips))]

    def prepare(self) -> None:
        """Nothing to do: clips are made when they are asked for."""

    def open(self) -> None:
        """Nothing to do."""

    def header(self, index: int) -> RecordHeader:
        draws = Draws(self.seed, index, 0)
        frame = 1 + draws.integer(self.num_frames)
        is_instructed = draws.uniform() < self.instructed_share and frame < self.num_frames
        players = " and ".join(list(COLOURS)[: self.num_players])
        return RecordHeader(
            key=f"synthetic-{index:08d}",
            num_frames=self.num_frames,
            num_players=self.num_players,
            height=self.size[0],
            width=self.size[1],
            fps=self.fps,
            action_space=self.action_space,
            caption=Caption(f"Discs of {players} move over a plain by day.").summary,
            instructions=(Instruction("Make it night.", frame),) if is_instructed else (),
            has_actions=True,
        )

    def actions(self, index: int) -> UInt8[np.ndarray, "t p k"]:
        """One key, or none, held for 4 to 12 frames, then another."""
        keys = np.zeros((self.num_frames, self.num_players, self.action_space.num_keys), np.uint8)
        for player in range(self.num_players):
            draws = Draws(self.seed, index, 1 + player)
            frame = 0
            while frame < self.num_frames:
                held, length = draws.integer(self.action_space.num_keys + 1), 4 + draws.integer(9)
                if held < self.action_space.num_keys:
                    keys[frame : frame + length, player, held] = 1
                frame += length
        return keys

    def state(self, index: int) -> Facts:
        """`screen_xy` `[t p p 2]` in pixels, and `visible` `[t p p]`."""
        places = self._places(index)
        seen = np.stack([self._in_view(places, player) for player in range(self.num_players)], axis=1)
        return {"screen_xy": seen.astype(np.float32), "visible": np.ones(seen.shape[:3], bool)}

    def frames(self, index: int, view: int, start: int, stop: int) -> UInt8[np.ndarray, "t h w 3"]:
        height, width = self.size
        header = self.header(index)
        night = header.instructions[0].frame if header.instructions else self.num_frames
        is_night = np.arange(start, stop) >= night
        places = self._places(index)[start:stop]
        ys, xs = np.mgrid[0:height, 0:width]

        def distance(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[Any]:
            """From pixels of this view to points in it, around the torus."""
            across = (xs - x[:, None, None] + width / 2) % width - width / 2
            down = (ys - y[:, None, None] + height / 2) % height - height / 2
            return np.hypot(across, down)

        ground = np.where(is_night[:, None], np.array(SKIES["night"]), np.array(SKIES["day"]))
        video = np.broadcast_to(ground[:, None, None], (stop - start, height, width, 3)).astype(np.uint8)
        radius = min(height, width) / 10
        corner = places[:, view] - np.array([width, height]) / 2  # where this view's first pixel is on the torus
        for stone in self._stones(index):
            video[distance(*(stone - corner).T) < radius] //= 2
        for place, colour in zip(self._in_view(places, view).swapaxes(0, 1), COLOURS.values(), strict=False):
            video[distance(*place.T) < radius] = colour
        return video

    def _stones(self, index: int) -> Float[np.ndarray, "stone 2"]:
        """Dark spots that stay where they are."""
        stones = [[mix(self.seed, index, STONE, stone, axis) for axis in (0, 1)] for stone in range(NUM_STONES)]
        return np.array(stones, float) % np.array(self.size[::-1])

    def _places(self, index: int) -> Float[np.ndarray, "t p 2"]:
        """Where each disc is on the torus, in pixels; frame t stands after the keys of row t acted."""
        speeds = np.array([MOVES.get(key, (0.0, 0.0)) for key in self.action_space.keys])
        velocity = self.actions(index) @ speeds
        first = [
            [mix(self.seed, index, player, axis) % self.size[1 - axis] for axis in (0, 1)]
            for player in range(self.num_players)
        ]
        return np.array(first, float) + np.cumsum(velocity, axis=0)

    def _in_view(self, places: Float[np.ndarray, "t p 2"], view: int) -> Float[np.ndarray, "t p 2"]:
        """Pixels in a view whose own player stays in the middle."""
        size = np.array([self.size[1], self.size[0]], float)
        return (places - places[:, view : view + 1] + size / 2) % size
