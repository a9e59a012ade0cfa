"""Look: the colours that weather, time of day and season give to Snowglobe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamegen_x.games.snowglobe_planet import LANDMARKS, SHORE, TERRAINS

Colours = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float64]  # c m: a row a fact (weather, time of day, season), a column a class

PLAYER_COLOURS: Colours = np.array(
    [
        (230, 55, 50),  # red
        (250, 205, 40),  # yellow
        (150, 65, 215),  # purple
        (35, 220, 225),  # cyan
        (245, 130, 30),  # orange
        (255, 110, 190),  # pink
        (35, 45, 125),  # navy
        (165, 240, 60),  # lime
    ],
    np.float32,
)

# water, sand, meadow, forest, ice
_TERRAIN = {
    "summer": ((40, 95, 180), (228, 206, 140), (118, 182, 82), (48, 118, 64), (214, 230, 240)),
    "autumn": ((44, 92, 140), (214, 184, 120), (206, 160, 62), (158, 82, 40), (226, 208, 186)),
    "winter": ((122, 156, 196), (204, 202, 200), (176, 194, 192), (112, 138, 146), (246, 248, 253)),
}
_SNOW = np.array((236, 240, 248), np.float32)
_FOG = np.array((198, 202, 206), np.float32)
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_RESOLUTION = 1000  # colours in the ramp of levels

# what each time of day does to a colour: times, plus
_LIGHT = {
    "day": ((1, 1, 1), (0, 0, 0)),
    "dusk": ((0.9, 0.68, 0.52), (24, 4, 0)),
    "night": ((0.36, 0.43, 0.62), (0, 3, 14)),
}
# above, at the horizon
_SKY = {
    "day": ((88, 156, 232), (206, 228, 246)),
    "dusk": ((84, 70, 132), (250, 158, 92)),
    "night": ((8, 12, 38), (34, 46, 92)),
}
_CLOUDS = np.array((152, 160, 172), np.float32)
_RAIN_LIGHT = np.array((0.6, 0.68, 0.84), np.float32)


@dataclass(frozen=True)
class Look:
    """Everything a renderer must know of the sky, in its own words: ramps, tints, amounts."""

    ramp: Colours  # n 3, the colour of terrain levels 0 to 5
    landmarks: Colours  # kinds 3
    rain: float
    snow: float
    fog: float
    times: Colours  # 3, the light of the hour
    plus: Colours  # 3
    sky: Colours  # 2 3, above and at the horizon

    @classmethod
    def of(cls, weights: Weights) -> Look:
        """The look of a mixture of classes, as `Conditions.weights` gives it."""
        (_, rain, snow, fog), time, season = weights[0], weights[1, :3], weights[2, :3]
        terrain = np.tensordot(season, np.array([_TERRAIN[name] for name in ("summer", "autumn", "winter")]), 1)
        summer, autumn = (np.array([landmark[column] for landmark in LANDMARKS], np.float64) for column in (1, 2))
        winter = 0.68 * summer + 0.32 * np.array((150, 165, 180))
        landmarks = np.tensordot(season, np.stack([summer, autumn, winter]), 1)
        light = np.tensordot(time, np.array([_LIGHT[name] for name in ("day", "dusk", "night")]), 1)
        times, plus = light.astype(np.float32)
        sky = np.tensordot(time, np.array([_SKY[name] for name in ("day", "dusk", "night")]), 1).astype(np.float32)
        for cover, amount in ((_CLOUDS * times + plus, 0.75 * (rain + snow)), (_FOG * times + plus, 0.85 * fog)):
            sky = _mixed(sky, cover, amount)
        ramp = _ramp(terrain)
        return cls(
            ramp=_mixed(ramp, _SNOW, 0.55 * snow),
            landmarks=_mixed(landmarks.astype(np.float32), _SNOW, 0.22 * snow),
            rain=float(rain),
            snow=float(snow),
            fog=float(fog),
            times=times,
            plus=plus,
            sky=sky,
        )

    def graded(self, image: Colours, fog_mask: Colours | np.float32) -> Colours:
        """An image `[h w 3]` in 0..255 under this sky; `fog_mask` `[h w 1]` says how thick fog is where."""
        if self.rain > 0:
            grey = (image @ _LUMA)[..., None]
            image = _mixed(image, _mixed(image, grey, 0.45) * _RAIN_LIGHT, self.rain)
        if self.fog > 0:
            image = _mixed(image, _FOG, np.float32(self.fog) * fog_mask)
        return np.asarray(image * self.times + self.plus, np.float32)

    def lit(self, colour: Colours) -> Colours:
        """A player's colour `[... 3]`: half graded, so that players are told apart at night and in fog."""
        colour = _mixed(colour, _FOG, 0.3 * self.fog)
        return np.asarray(colour * (0.5 + 0.5 * self.times) * (1 - 0.2 * self.rain), np.float32)


def _ramp(terrain: npt.NDArray[np.float64]) -> Colours:
    """Flat bands with soft shores between them."""
    level = (np.arange(_RESOLUTION) + 0.5) * (len(TERRAINS) / _RESOLUTION)
    shore = np.clip(np.rint(level), 1, len(TERRAINS) - 1)
    across = np.clip((level - shore + SHORE) / (2 * SHORE), 0, 1)
    across = (across * across * (3 - 2 * across))[:, None]
    low = shore.astype(int) - 1
    return np.asarray(terrain[low] * (1 - across) + terrain[low + 1] * across, np.float32)


def _mixed(one: Colours, other: Colours, amount: float | np.float32 | Colours) -> Colours:
    return np.asarray(one + (other - one) * np.float32(amount), np.float32)
