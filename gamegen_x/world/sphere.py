"""The unit sphere: directions, frames that roll along it, and HEALPix cells that divide it."""

from __future__ import annotations

import healpix
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]


def normalised(vectors: npt.ArrayLike) -> Array:
    """Vectors `[... 3]` scaled to length 1."""
    array = np.asarray(vectors, np.float64)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def random_directions(rng: np.random.Generator, count: int) -> Array:
    """Unit vectors `[count 3]`, uniform on the sphere."""
    return normalised(rng.normal(size=(count, 3)))


def angle_between(one: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Great-circle distance in radians between unit vectors `[... 3]`; exact for near and for opposite points."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return np.asarray(2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)))


def frame_at(position: npt.ArrayLike, heading: float) -> Array:
    """A frame `[3 3]` (columns right, up, position) that stands at a unit vector; `heading` in radians turns it."""
    up_there = normalised(position)
    helper = np.eye(3)[int(np.argmin(np.abs(up_there)))]
    right = normalised(cross(helper, up_there))
    return turned(np.stack([right, cross(up_there, right), up_there], axis=-1), np.asarray(heading))


def turned(frames: Array, angles: npt.ArrayLike) -> Array:
    """Frames `[... 3 3]` turned on the spot, counter-clockwise seen from above, by radians `[...]`."""
    cos, sin = np.cos(angles)[..., None], np.sin(angles)[..., None]
    right, up = frames[..., 0], frames[..., 1]
    return np.stack([cos * right + sin * up, cos * up - sin * right, frames[..., 2]], axis=-1)


def moved(frames: Array, right: npt.ArrayLike, up: npt.ArrayLike) -> Array:
    """Frames `[... 3 3]` rolled along a great circle by radians `[...]` along their right and up.

    The axes are carried by parallel transport: no pole, and walking straight never turns the frame.
    """
    dx, dy = np.asarray(right, np.float64)[..., None], np.asarray(up, np.float64)[..., None]
    angle = np.hypot(dx, dy)
    travel = dx * frames[..., 0] + dy * frames[..., 1]  # tangent, as long as the angle
    sine, bend = np.sinc(angle / np.pi), -0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # sin(a)/a, (cos(a)-1)/a^2
    position = np.cos(angle) * frames[..., 2] + sine * travel
    lean = bend * travel - sine * frames[..., 2]
    return orthonormal(np.stack([frames[..., 0] + dx * lean, frames[..., 1] + dy * lean, position], axis=-1))


def orthonormal(frames: Array) -> Array:
    """The nearest lawful frames: rounding errors of `[... 3 3]` removed; the position keeps its direction."""
    position = normalised(frames[..., 2])
    up = frames[..., 1]
    up = normalised(up - np.sum(up * position, axis=-1, keepdims=True) * position)
    return np.stack([cross(up, position), up, position], axis=-1)


def cross(a: Array, b: Array) -> Array:
    """The cross product of vectors `[... 3]`, several times as fast as numpy's on few of them."""
    product = np.empty(np.broadcast_shapes(a.shape, b.shape))
    product[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    product[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    product[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return product


class Cells:
    """HEALPix cells of equal area, numbered 0 to 12 nside² - 1 in ring order."""

    def __init__(self, nside: int) -> None:
        if nside < 1 or nside & (nside - 1):
            raise ValueError(f"nside is a power of two, got {nside}")
        self.nside = nside
        self.count = int(healpix.nside2npix(nside))
        self.centres: Array = np.stack(healpix.pix2vec(nside, np.arange(self.count)), axis=-1)
        self.radius = _widest_reach(nside)
        self._tree = cKDTree(self.centres)

    def of(self, points: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The cell of each unit vector `[... 3]`."""
        x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
        return np.asarray(healpix.vec2pix(self.nside, x, y, z), np.int64)

    def around(self, point: npt.ArrayLike, angle: float) -> npt.NDArray[np.int64]:
        """Every cell that a disc of `angle` radians around a unit vector may touch, and few others; sorted."""
        chord = 2 * np.sin(min(angle + self.radius, np.pi) / 2)
        return np.sort(np.asarray(self._tree.query_ball_point(np.asarray(point, np.float64), chord), np.int64))

    def neighbours(self, cell: int) -> npt.NDArray[np.int64]:
        """The cells that touch a cell, and itself: those whose centres are less than two cell widths away."""
        return self.around(self.centres[cell], self.radius)


def _widest_reach(nside: int) -> float:
    """The largest angle from a centre to its corner: that of the cells at the edge of the polar caps."""
    height = 1 - (1 - 1 / nside) ** 2 / 3
    corner = np.array([np.sqrt(1 - height**2), 0, height])
    phi = np.pi / (4 * nside)
    centre = np.array([np.sqrt(5) / 3 * np.cos(phi), np.sqrt(5) / 3 * np.sin(phi), 2 / 3])
    return float(angle_between(centre, corner))
