"""Drawing points on a grid, so that a network can be told where things are in a view."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Grid = npt.NDArray[np.float32]


def splat(
    grid: Grid,
    layers: npt.NDArray[np.int64],
    places: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64] | None = None,
) -> None:
    """Adds a 1 for each place `[n 2]` (x, y; 0 is the middle of the first cell) to its layer of a grid `[k h w]`.

    Where there are `values` `[n]`, it adds them instead. Each is shared among the four cells around the place,
    bilinearly; what falls outside the grid is lost.
    """
    height, width = grid.shape[1:]
    corner = np.floor(places).astype(np.int64)
    share = places - corner
    for right in (0, 1):
        for down in (0, 1):
            x, y = corner[:, 0] + right, corner[:, 1] + down
            weight = np.abs(1 - right - share[:, 0]) * np.abs(1 - down - share[:, 1])
            is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            share_here = weight if values is None else weight * values
            np.add.at(grid, (layers[is_inside], y[is_inside], x[is_inside]), share_here[is_inside])


def draw_places(
    places: npt.NDArray[np.float64],
    is_drawn: npt.NDArray[np.bool_],
    frames_per_latent: int,
    num_slots: int,
    size: tuple[int, int],
    values: npt.NDArray[np.float64] | None = None,
) -> Grid:
    """Where each player sees every player, at the latent grid: `[p t c h w]`.

    `places` `[t_video p q 2]` are in cells of the grid, as for `splat`; `values` `[t_video p q]` stand there, or 1.
    Channel (f, q) is player q's at video frame f inside the latent frame.
    """
    num_frames, num_players, num_seen, _ = places.shape
    if num_seen > num_slots:
        raise ValueError(f"a state with slots for {num_slots} players cannot draw {num_seen}; raise its num_slots")
    num_latents = num_frames // frames_per_latent
    frame, seer, seen = np.nonzero(is_drawn)
    latent, within = frame // frames_per_latent, frame % frames_per_latent
    layers = ((seer * num_latents + latent) * frames_per_latent + within) * num_slots + seen
    grid: Grid = np.zeros((num_players * num_latents * frames_per_latent * num_slots, *size), np.float32)
    splat(grid, layers, places[is_drawn].astype(np.float64), None if values is None else values[is_drawn])
    return grid.reshape(num_players, num_latents, frames_per_latent * num_slots, *size)


def waves(halves: npt.NDArray[np.float64], num_frequencies: int) -> npt.NDArray[np.float64]:
    """Places `[... 2]` in halves of a map, and sines and cosines of so many waves of each, the longest as long as the
    map: `[... 2 * (1 + 2 * num_frequencies)]`, all of x first."""
    angles = halves[..., None] * np.pi * 2.0 ** np.arange(num_frequencies)
    parts = np.concatenate([halves[..., None], np.sin(angles), np.cos(angles)], axis=-1)
    return parts.reshape(*halves.shape[:-1], -1)


def to_halves(pixels: npt.NDArray[Any], picture: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Places (x, y) in pixels as halves of a picture of this height and width, from its middle; float32.

    A place that nobody knows (NaN) is the middle.
    """
    size = np.array([picture[1], picture[0]], np.float32)
    return np.nan_to_num(np.asarray((pixels + 0.5) / size * 2 - 1, np.float32), nan=0.0)


def from_halves(halves: npt.NDArray[Any], picture: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The inverse of `to_halves`."""
    size = np.array([picture[1], picture[0]], np.float32)
    return np.asarray((halves + 1) / 2 * size - 0.5, np.float32)
