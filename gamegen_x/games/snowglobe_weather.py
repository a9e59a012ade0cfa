"""Snow, rain and fog as patterns on the screen that repeat with every latent frame."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from gamegen_x.games.snowglobe_look import Colours, Look

Mask = npt.NDArray[np.float32]

PERIOD = 4  # frames after which falling snow and rain repeat
_SNOW_LIGHT, _RAIN_LIGHT = 190.0, 60.0  # what flakes and streaks add to a black pixel by day


def fall(image: Colours, look: Look, tick: int) -> Colours:
    """An image `[h w 3]` in 0..255 with the flakes and streaks of a tick over it."""
    height, width = image.shape[:2]
    for amount, pattern, light in ((look.snow, _flakes, _SNOW_LIGHT), (look.rain, _streaks, _RAIN_LIGHT)):
        if amount > 0:
            brightness = np.float32(light * amount * look.times.mean())
            image = image + pattern(height, width)[tick % PERIOD] * brightness * (1 - image / 255)
    return image


@functools.cache
def fog_from_middle(height: int, width: int) -> Mask:
    """How thick fog is at each pixel `[h w 1]`: thin around the player, thick at the edges."""
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
            u = x + slant * y + row * across / 2 + 0.06 * across
            dv = (v / down - np.floor(v / down) - 0.5) * down
            du = (u / across - np.floor(u / across) - 0.5) * across
            light += np.exp(-((du * 64 / size[0]) ** 2 + (dv * 64 / size[1]) ** 2) / 2)
        phases.append(light)
    return np.asarray(np.clip(np.stack(phases), 0, 1), np.float32)[..., None]


def _pixels(height: int, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return y.astype(np.float64), x.astype(np.float64)
