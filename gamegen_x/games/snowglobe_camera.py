"""Snowglobe's cameras: the planet and everyone on it -> pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gamegen_x.games.snowglobe_look import Colours, Look
from gamegen_x.games.snowglobe_planet import Planet
from gamegen_x.games.snowglobe_weather import fall, fog_from_middle
from gamegen_x.world.sphere import angle_between, normalised, orthonormal

Image = npt.NDArray[np.uint8]  # h w 3
Frames = npt.NDArray[np.float64]  # columns right, up, position
_BLACK = np.zeros(3, np.float32)
Pixels = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]  # [n 2] (x, y), and who is in the picture [n]


@dataclass(frozen=True)
class Thing:
    """Something round on the ground: a disc from above, a ball from the side."""

    place: npt.NDArray[np.float64]  # 3, unit vector
    radius: float  # radians
    colour: Colours  # 3
    seat: int = -1  # whose body it is, or whose hand it is in
    height: float = 0.0  # how far it is off the ground, 1 at the top of a jump
    rim: float = 1.0  # brightness of its edge
    is_flat: bool = False  # painted on the ground
    has_head: bool = False


@dataclass(frozen=True)
class Disc:
    """How something round is painted from above."""

    radius: float  # radians
    colour: Colours  # 3
    opacity: float = 1.0
    softness: float = 1.0  # width of its edge in pixels
    rim: float = 1.0


@dataclass(frozen=True)
class Scene:
    """All that may be seen in one tick. Things stand in the order in which they cover each other from above."""

    planet: Planet
    look: Look
    things: tuple[Thing, ...]
    tick: int


class View(Protocol):
    """What one player sees of one tick."""

    def project(self, places: npt.NDArray[np.float64]) -> Pixels:
        """Where unit vectors `[n 3]` are in the picture; the places of those outside it mean nothing."""
        ...

    def render(self, scene: Scene) -> Image: ...


class Camera(Protocol):
    """Knows how to look; a view is one look."""

    def view(self, frames: Frames, seat: int) -> View:
        """What the player of a seat sees, given everyone's frames `[p 3 3]`."""
        ...


@dataclass(frozen=True)
class RadialMap:
    """Pixels of a picture taken from straight above, and where on the sphere they lie.

    Gnomonic, straight walks stay straight; equidistant, the whole planet fits.
    """

    height: int
    width: int
    scale: float  # radians a pixel, at the middle
    is_gnomonic: bool

    def points(self) -> npt.NDArray[np.float32]:
        """The unit vector under each pixel `[h w 3]`, in the axes of the frame it is seen from."""
        y, x = np.meshgrid(
            (self.height - 1) / 2 - np.arange(self.height), np.arange(self.width) - (self.width - 1) / 2, indexing="ij"
        )
        radius = np.hypot(x, y) * self.scale
        if self.is_gnomonic:
            local = (
                np.stack([x * self.scale, y * self.scale, np.ones_like(x)], axis=-1) / np.hypot(1, radius)[..., None]
            )
        else:
            angle = np.minimum(radius, np.pi)
            across = np.sinc(angle / np.pi) * self.scale
            local = np.stack([x * across, y * across, np.cos(angle)], axis=-1)
        return local.astype(np.float32)

    def pixels(self, local: npt.NDArray[np.float64]) -> Pixels:
        """Pixel places of unit vectors `[n 3]` in the axes of the frame."""
        across = np.hypot(local[:, 0], local[:, 1])
        if self.is_gnomonic:
            stretch = 1 / np.where(local[:, 2] > 1e-3, local[:, 2], np.nan)
        else:
            angle = np.arctan2(across, local[:, 2])
            stretch = np.where(across > 1e-9, angle / np.where(across > 1e-9, across, 1), 1.0)
        x = (self.width - 1) / 2 + local[:, 0] * stretch / self.scale
        y = (self.height - 1) / 2 - local[:, 1] * stretch / self.scale
        is_inside = (x > -0.5) & (x < self.width - 0.5) & (y > -0.5) & (y < self.height - 0.5)
        return np.stack([x, y], axis=-1), is_inside

    def stretch(self, depth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """How much larger than in the middle things are at most, where their local z is `depth` `[n]`."""
        if self.is_gnomonic:
            return np.asarray(1 / np.maximum(depth, 0.2) ** 2)
        return np.asarray(1 / np.maximum(np.sinc(np.arccos(np.clip(depth, -1, 1)) / np.pi), 0.1))

    def is_beyond(self) -> npt.NDArray[np.bool_]:
        """Pixels `[h w]` outside the whole planet."""
        y, x = np.ogrid[: self.height, : self.width]
        return np.asarray(np.hypot(y - (self.height - 1) / 2, x - (self.width - 1) / 2) * self.scale > np.pi)

    @property
    def reach(self) -> float:
        """The angle between the middle and a corner."""
        corner = np.hypot(self.height, self.width) / 2 * self.scale
        return float(np.arctan(corner)) if self.is_gnomonic else float(min(corner, np.pi))


@dataclass(frozen=True)
class ViewFromAbove:
    """Looks straight down on a frame, whose up is the picture's up; its own player covers the others."""

    map: RadialMap
    points: npt.NDArray[np.float32]  # h w 3, of the map
    frame: Frames  # 3 3
    seat: int

    def project(self, places: npt.NDArray[np.float64]) -> Pixels:
        return self.map.pixels(places @ self.frame)

    def render(self, scene: Scene) -> Image:
        """Terrain and landmarks under the sky's light, then the things in their order, then what falls."""
        planet, look, (height, width) = scene.planet, scene.look, self.points.shape[:2]
        levels = planet.levels(self.points.reshape(-1, 3), self.frame)
        image = look.ramp[(levels * (len(look.ramp) / 5)).astype(np.int32)].reshape(height, width, 3)
        near = np.flatnonzero(planet.landmark_places @ self.frame[:, 2] > np.cos(min(self.map.reach + 0.06, np.pi)))
        self._draw(
            image,
            planet.landmark_places[near],
            [Disc(planet.landmark_radii[index], look.landmarks[planet.landmark_kinds[index]]) for index in near],
        )
        image = look.graded(image, fog_from_middle(height, width))
        if self.map.reach == np.pi:
            image[self.map.is_beyond()] = look.sky[0]
        places, discs = [], []
        for thing in sorted(scene.things, key=lambda thing: thing.seat == self.seat):
            if thing.height > 0:
                aside = self.frame @ np.array([0.3, -0.5, 0]) * thing.radius * thing.height
                places.append(normalised(thing.place + aside))
                discs.append(Disc(thing.radius, _BLACK, opacity=0.4 * thing.height, softness=4.0))
            places.append(thing.place)
            discs.append(Disc(thing.radius * (1 + 0.3 * thing.height), look.lit(thing.colour), rim=thing.rim))
        self._draw(image, np.array(places).reshape(-1, 3), discs)
        return np.rint(np.clip(fall(image, look, scene.tick), 0, 255)).astype(np.uint8)

    def _draw(self, image: Colours, places: npt.NDArray[np.float64], discs: list[Disc]) -> None:
        """Blends discs around unit vectors `[n 3]` into the image, touching only the pixels around them."""
        local = places @ self.frame
        pixels, _ = self.map.pixels(local)
        halves = np.array([disc.radius for disc in discs]) / self.map.scale * self.map.stretch(local[:, 2])
        for index, disc in enumerate(discs):
            box = box_around(pixels[index], halves[index] + disc.softness + 1, image)
            if box is None:
                continue
            chord = 2 - 2 * (self.points[box] @ local[index].astype(np.float32))
            inside = (np.float32(disc.radius) - np.sqrt(np.maximum(0, chord))) / np.float32(self.map.scale)
            cover = np.clip(inside / disc.softness + 0.5, 0, 1)[..., None] * np.float32(disc.opacity)
            colour = disc.colour
            if disc.rim != 1:
                colour = colour * (disc.rim + (1 - disc.rim) * np.clip(inside - 0.6, 0, 1)[..., None])
            patch = image[box]
            patch += cover * (colour - patch)


class OverheadCamera:
    """A gnomonic view from above: the player stays in the middle."""

    def __init__(self, height: int, width: int, view_angle: float) -> None:
        """`view_angle` in radians reaches from the middle to the nearer edges."""
        self.map = RadialMap(height, width, float(np.tan(view_angle)) / (min(height, width) / 2), is_gnomonic=True)
        self.points = self.map.points()

    def view(self, frames: Frames, seat: int) -> ViewFromAbove:
        return ViewFromAbove(self.map, self.points, frames[seat], seat)


class SharedScreenCamera:
    """One picture for everybody, from above the middle of all players, as wide as they are apart."""

    def __init__(self, height: int, width: int, view_angle: float) -> None:
        """`view_angle` in radians is the least from the middle to the nearer edges."""
        self.height, self.width, self.view_angle = height, width, view_angle

    def view(self, frames: Frames, seat: int) -> ViewFromAbove:  # noqa: ARG002  (all seats see the same)
        frame = shared_frame(frames)
        apart = float(angle_between(frames[..., 2], frame[:, 2]).max())
        angle = min(max(self.view_angle, 1.2 * apart + 0.1), np.pi)
        seen = RadialMap(self.height, self.width, angle / (min(self.height, self.width) / 2), is_gnomonic=False)
        return ViewFromAbove(seen, seen.points(), frame, seat=0)


def shared_frame(frames: Frames) -> Frames:
    """The frame `[3 3]` in the middle of all frames `[p 3 3]`: their mean position and their mean up."""
    middle = frames.mean(axis=0)
    if np.linalg.norm(middle[:, 2]) < 1e-3 or np.linalg.norm(np.cross(middle[:, 1], middle[:, 2])) < 1e-3:
        return frames[0]  # players all around the planet have no middle
    return orthonormal(middle)


def carried_to(frame: Frames, places: npt.NDArray[np.float64]) -> Frames:
    """The frame carried along great circles to unit vectors `[n 3]`: `[n 3 3]`."""
    position, up = frame[:, 2], frame[:, 1]
    opposite = np.maximum(1 + places @ position, 1e-6)[:, None]  # no great circle is the shortest to the far side
    carried = up - (places @ up)[:, None] * (places + position) / opposite
    return orthonormal(np.stack([carried, carried, places], axis=-1))


def box_around(place: npt.NDArray[np.float64], half: float, image: Colours) -> tuple[slice, slice] | None:
    """The pixels within `half` of a place that lie in the image, if any."""
    (height, width), (x, y) = image.shape[:2], place
    if not abs(x) + abs(y) < 1e6:  # nan where it is behind
        return None
    left, right = max(0, int(x - half)), min(width, int(x + half) + 2)
    top, bottom = max(0, int(y - half)), min(height, int(y + half) + 2)
    if left >= right or top >= bottom:
        return None
    return slice(top, bottom), slice(left, right)
