"""Snowglobe from the side: over a player's shoulder, or through their eyes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gamegen_x.games.snowglobe_camera import Frames, Image, Pixels, Scene, Thing, box_around
from gamegen_x.games.snowglobe_look import Colours
from gamegen_x.games.snowglobe_planet import LANDMARKS
from gamegen_x.games.snowglobe_weather import fall
from gamegen_x.world.sphere import normalised

# How high each kind of landmark stands, in its own radii: trees are on trunks, lilies lie flat.
_RISE = {"lily": 0.0, "reef": 0.1, "palm": 1.6, "bush": 0.6, "flowers": 0.3, "oak": 1.5, "blossom": 1.5, "fir": 1.3}
_DEFAULT_RISE = 0.4
_TRUNK = np.array((96, 70, 50), np.float32)


class PerspectiveCamera:
    """A pinhole that is fixed to a player's frame, so the ground under each pixel is known beforehand."""

    def __init__(
        self,
        height: int,
        width: int,
        eye: tuple[float, float],  # forward and up from the planet's centre, in its radii
        target: tuple[float, float],  # what it looks at, likewise
        field_of_view: float,  # radians from the picture's left to its right
        hides_self: bool,
    ) -> None:
        self.height, self.width, self.hides_self = height, width, hides_self
        self.eye = np.array([0.0, *eye])
        ahead = normalised(np.array([0.0, *target]) - self.eye)
        self.axes = np.stack([np.array([1.0, 0, 0]), np.array([0, -ahead[2], ahead[1]]), ahead], axis=-1)
        self.focal = width / 2 / float(np.tan(field_of_view / 2))  # pixels
        y, x = np.meshgrid((height - 1) / 2 - np.arange(height), np.arange(width) - (width - 1) / 2, indexing="ij")
        rays = normalised(np.stack([x, y, np.full_like(x, self.focal)], axis=-1)) @ self.axes.T
        along = -rays @ self.eye  # how far along a ray its nearest point to the planet's centre is
        nearest = np.sqrt(np.maximum(self.eye @ self.eye - along**2, 0))
        distance = along - np.sqrt(np.maximum(1 - nearest**2, 0))
        self.points = normalised(self.eye + distance[..., None] * rays).astype(np.float32)
        edge = (1 - nearest) / (np.maximum(along, 1e-3) / self.focal) + 0.5  # soft by a pixel
        self.ground = np.where(along > 0, np.clip(edge, 0, 1), 0).astype(np.float32)[..., None]
        self.distance = np.where(self.ground[..., 0] > 0.5, distance, np.inf).astype(np.float32)
        horizon = float(np.sqrt(self.eye @ self.eye - 1))
        self.far = np.clip(np.where(self.ground[..., 0] > 0, distance, horizon) / horizon, 0, 1).astype(np.float32)[
            ..., None
        ]
        upward = rays @ normalised(self.eye)
        lowest = -np.sqrt(1 - 1 / (self.eye @ self.eye))  # of a ray that touches the planet
        self.elevation = np.clip((upward - lowest) / 0.8, 0, 1).astype(np.float32)[..., None]

    def view(self, frames: Frames, seat: int) -> PerspectiveView:
        return PerspectiveView(self, frames[seat], seat)


@dataclass(frozen=True)
class PerspectiveView:
    """What a player sees along their up."""

    camera: PerspectiveCamera
    frame: Frames  # 3 3
    seat: int

    def project(self, places: npt.NDArray[np.float64]) -> Pixels:
        camera = self.camera
        body = places @ self.frame
        pixels, depth = self._pixels(body)
        x, y = pixels[:, 0], pixels[:, 1]
        is_inside = (x > -0.5) & (x < camera.width - 0.5) & (y > -0.5) & (y < camera.height - 0.5)
        return pixels, is_inside & (depth > 0) & (body @ camera.eye > 1)

    def render(self, scene: Scene) -> Image:
        """The ground and the sky, then everything that stands on it from far to near, then what falls."""
        camera, planet, look = self.camera, scene.planet, scene.look
        levels = planet.levels(camera.points.reshape(-1, 3), self.frame)
        image = look.ramp[(levels * (len(look.ramp) / 5)).astype(np.int32)].reshape(camera.height, camera.width, 3)
        image = look.graded(image, 0.75 * camera.far)
        top, horizon = look.sky
        image += 0.35 * camera.far**2 * (horizon - image)
        sky = horizon + (top - horizon) * camera.elevation
        image = sky + camera.ground * (image - sky)
        standing = [
            Thing(
                planet.landmark_places[index],
                planet.landmark_radii[index],
                look.landmarks[planet.landmark_kinds[index]],
                height=_RISE.get(LANDMARKS[planet.landmark_kinds[index]][0], _DEFAULT_RISE),
            )
            for index in np.flatnonzero(planet.landmark_places @ (self.frame @ camera.eye) > 0.94)
        ]
        is_lit = [False] * len(standing) + [True] * len(scene.things)
        things = [*standing, *scene.things]
        if not things:
            return np.rint(np.clip(fall(image, look, scene.tick), 0, 255)).astype(np.uint8)
        distances = np.linalg.norm(np.stack([thing.place for thing in things]) @ self.frame - camera.eye, axis=1)
        for index in sorted(range(len(things)), key=lambda i: (not things[i].is_flat, -distances[i])):
            thing = things[index]
            if camera.hides_self and thing.seat == self.seat:
                continue
            if is_lit[index]:
                self._draw_thing(image, replace(thing, colour=look.lit(thing.colour)))
            else:
                colour = look.graded(thing.colour[None, None], np.float32(0.75 * min(1, distances[index] / 0.6)))[0, 0]
                self._draw_landmark(image, replace(thing, colour=colour), trunk=_TRUNK * look.times)
        return np.rint(np.clip(fall(image, look, scene.tick), 0, 255)).astype(np.uint8)

    def _draw_landmark(self, image: Colours, thing: Thing, trunk: Colours) -> None:
        if thing.height > 1:
            for step in (0.2, 0.6, 1.0):
                self._draw_ball(image, thing.place, 0.22 * thing.radius, step * thing.radius, trunk)
        self._draw_ball(image, thing.place, thing.radius, thing.height * thing.radius, thing.colour)

    def _draw_thing(self, image: Colours, thing: Thing) -> None:
        if thing.is_flat:
            self._draw_on_ground(image, thing.place, thing.radius, thing.colour, opacity=1.0)
            return
        self._draw_on_ground(image, thing.place, thing.radius, np.zeros(3, np.float32), opacity=0.3)
        lift = (0.8 + 1.5 * thing.height) * thing.radius
        self._draw_ball(image, thing.place, thing.radius, lift, thing.colour)
        if thing.has_head:
            self._draw_ball(image, thing.place, 0.62 * thing.radius, lift + 1.3 * thing.radius, 0.7 * thing.colour + 70)

    def _draw_on_ground(
        self, image: Colours, place: npt.NDArray[np.float64], radius: float, colour: Colours, opacity: float
    ) -> None:
        body = place @ self.frame
        (pixel,), (depth,) = self._pixels(body[None])
        if depth < 0.02 or body @ self.camera.eye < 0.97:
            return
        box = box_around(pixel, radius * self.camera.focal / depth + 2, image)
        if box is None:
            return
        angle = np.sqrt(np.maximum(0, 2 - 2 * (self.camera.points[box] @ body.astype(np.float32))))
        soft = np.float32(2 * depth / self.camera.focal)
        cover = np.clip((radius - angle) / soft + 0.5, 0, 1)[..., None] * self.camera.ground[box] * np.float32(opacity)
        patch = image[box]
        patch += cover * (colour - patch)

    def _draw_ball(
        self, image: Colours, place: npt.NDArray[np.float64], radius: float, lift: float, colour: Colours
    ) -> None:
        """A ball whose centre is `lift` above the ground, lighter at its top, hidden where the ground is nearer."""
        centre = place @ self.frame * (1 + lift)
        (pixel,), (depth,) = self._pixels(centre[None])
        if depth < 0.02:
            return
        size = radius * self.camera.focal / depth
        box = box_around(pixel, size + 1, image)
        if box is None:
            return
        y, x = np.mgrid[box[0], box[1]].astype(np.float32)
        from_middle = np.hypot(x - pixel[0], y - pixel[1])
        distance = float(np.linalg.norm(centre - self.camera.eye))
        cover = np.clip(size - from_middle + 0.5, 0, 1) * (self.camera.distance[box] > distance - radius - lift)
        cover *= min(1.0, max(0.0, distance / (2 * radius) - 1))  # what touches the eye is seen through
        shade = 1.08 - 0.3 * np.clip((y - pixel[1]) / max(size, 1.0), -1, 1)[..., None]
        patch = image[box]
        patch += cover[..., None].astype(np.float32) * (colour * shade.astype(np.float32) - patch)

    def _pixels(self, points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Pixel places `[n 2]` and depths `[n]` of points `[n 3]` in the frame's axes."""
        camera = self.camera
        local = (points - camera.eye) @ camera.axes
        depth = local[:, 2]
        ahead = np.where(depth > 1e-3, depth, np.nan)
        x = (camera.width - 1) / 2 + camera.focal * local[:, 0] / ahead
        y = (camera.height - 1) / 2 - camera.focal * local[:, 1] / ahead
        return np.stack([x, y], axis=-1), np.where(depth > 1e-3, depth, 0)
