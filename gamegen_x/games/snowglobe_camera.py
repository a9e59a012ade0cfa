"""Snowglobe's cameras: the planet and everyone on it -> pictures."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gamegen_x.games.snowglobe_look import Colours, Look
from gamegen_x.games.snowglobe_planet import Planet

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.float32]

PERIOD = 4  # frames after which falling snow and rain repeat, so that they fit a latent frame


@dataclass(frozen=True)
class Disc:
    """Something round that lies on the ground."""

    place: npt.NDArray[np.float64]  # 3, unit vector
    radius: float  # radians
    colour: Colours  # 3
    opacity: float = 1.0
    softness: float = 1.0  # width of its edge in pixels
    rim: float = 1.0  # brightness of its outermost pixel


class OverheadCamera:
    """A gnomonic view from above: straight lines stay straight, and the player stays in the middle."""

    def __init__(self, height: int, width: int, view_angle: float) -> None:
        """`view_angle` in radians reaches from the middle to the nearer edges."""
        self.height, self.width = height, width
        self.scale = np.tan(view_angle) / (min(height, width) / 2)  # on the plane, a pixel
        y, x = np.meshgrid((height - 1) / 2 - np.arange(height), np.arange(width) - (width - 1) / 2, indexing="ij")
        plane = np.stack([x * self.scale, y * self.scale, np.ones_like(x)], axis=-1)
        self.rays = (plane / np.linalg.norm(plane, axis=-1, keepdims=True)).astype(np.float32)
        self.reach = float(np.arctan(np.hypot(height, width) / 2 * self.scale))
        self.fog_mask = _fog_mask(height, width)

    def project(
        self, frame: npt.NDArray[np.float64], places: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Pixel places `[n 2]` (x, y) of unit vectors `[n 3]`, and whether they lie in the picture."""
        local = places @ frame
        depth = np.where(local[:, 2] > 1e-6, local[:, 2], np.nan)
        x = (self.width - 1) / 2 + local[:, 0] / depth / self.scale
        y = (self.height - 1) / 2 - local[:, 1] / depth / self.scale
        is_inside = (x > -0.5) & (x < self.width - 0.5) & (y > -0.5) & (y < self.height - 0.5)
        return np.stack([x, y], axis=-1), is_inside

    def render(
        self, planet: Planet, look: Look, frame: npt.NDArray[np.float64], discs: Iterable[Disc], tick: int
    ) -> Image:
        """The picture `[h w 3]` seen from a frame: terrain, landmarks, `discs` in their order, weather."""
        levels = planet.levels(self.rays.reshape(-1, 3), frame)
        image = look.ramp[(levels * (len(look.ramp) / 5)).astype(np.int32)].reshape(self.height, self.width, 3)
        near = np.flatnonzero(planet.landmark_places @ frame[:, 2] > np.cos(self.reach + 0.06))
        for index in near:
            colour = look.landmarks[planet.landmark_kinds[index]]
            self._draw(image, frame, Disc(planet.landmark_places[index], planet.landmark_radii[index], colour))
        image = look.graded(image, self.fog_mask)
        for disc in discs:
            self._draw(image, frame, replace(disc, colour=look.lit(disc.colour)))
        for amount, draw, strength in ((look.snow, _flakes, 190.0), (look.rain, _streaks, 60.0)):
            if amount > 0:
                light = strength * amount * float(look.times.mean())
                image += draw(self.height, self.width)[tick % PERIOD] * light * (1 - image / 255)
        return np.rint(np.clip(image, 0, 255)).astype(np.uint8)

    def _draw(self, image: Colours, frame: npt.NDArray[np.float64], disc: Disc) -> None:
        """Blends a disc into the image, touching only the pixels around it."""
        local = disc.place @ frame
        if local[2] < 0.1:
            return
        x = (self.width - 1) / 2 + local[0] / local[2] / self.scale
        y = (self.height - 1) / 2 - local[1] / local[2] / self.scale
        half = disc.radius / self.scale / local[2] ** 2 + disc.softness + 1
        left, right = max(0, int(x - half)), min(self.width, int(x + half) + 2)
        top, bottom = max(0, int(y - half)), min(self.height, int(y + half) + 2)
        if left >= right or top >= bottom:
            return
        rays = self.rays[top:bottom, left:right]
        angle = np.sqrt(np.maximum(0, 2 - 2 * (rays @ local.astype(np.float32))))
        inside = np.float32(disc.radius) - angle
        pixel = np.float32(self.scale)
        cover = np.clip(inside / (pixel * disc.softness) + 0.5, 0, 1)[..., None] * np.float32(disc.opacity)
        colour = disc.colour
        if disc.rim != 1:
            body = np.clip(inside / pixel - 0.6, 0, 1)[..., None]
            colour = colour * (disc.rim + (1 - disc.rim) * body)
        patch = image[top:bottom, left:right]
        patch += cover * (colour - patch)


def _fog_mask(height: int, width: int) -> Mask:
    y, x = _pixels(height, width)
    far = np.hypot(x - (width - 1) / 2, y - (height - 1) / 2) / (min(height, width) / 2)
    return np.asarray(0.32 + 0.46 * np.clip(far, 0, 1.2) / 1.2, np.float32)[..., None]


@functools.cache
def _flakes(height: int, width: int) -> Mask:
    """Soft flakes on a lattice that stands on the screen, `[period h w 1]`; it falls one row of flakes a period."""
    return _falling(height, width, across=0.25, down=0.25, drift=0.0, size=(1.15, 1.15))


@functools.cache
def _streaks(height: int, width: int) -> Mask:
    """Soft streaks of rain, as `_flakes`."""
    return _falling(height, width, across=0.25, down=0.5, drift=0.125, size=(0.65, 3.0))


def _falling(height: int, width: int, across: float, down: float, drift: float, size: tuple[float, float]) -> Mask:
    """A lattice of blurred points. Lengths are shares of the picture's smaller side, `size` is of 64 of its pixels."""
    side = min(height, width)
    y, x = (axis / side for axis in _pixels(height, width))
    slant = drift / down  # the way a drop drifts while it falls its own length
    phases = []
    for phase in range(PERIOD):
        light = np.zeros((height, width))
        for row in range(2):  # two interleaved rows; each is half a column beside the other
            v = y - phase / PERIOD * down + row * down / 2
            u = x + (slant * y if drift else 0) + row * across / 2 + 0.06 * across
            dv = (v / down - np.floor(v / down) - 0.5) * down
            du = (u / across - np.floor(u / across) - 0.5) * across
            light += np.exp(-((du * 64 / size[0]) ** 2 + (dv * 64 / size[1]) ** 2) / 2)
        phases.append(light)
    return np.asarray(np.clip(np.stack(phases), 0, 1), np.float32)[..., None]


def _pixels(height: int, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return y.astype(np.float64), x.astype(np.float64)
