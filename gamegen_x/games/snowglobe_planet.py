"""Planet: the terrain and the landmarks of one Snowglobe, made from its number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamegen_x.world.sphere import Cells, random_directions

TERRAINS = ("water", "sand", "meadow", "forest", "ice")
NUM_WAVES = 6
LEVEL_RANGE = 2.4  # the field's values in [-2.4, 2.4] are spread over the five terrains
SHORE = 0.14  # half the width of a soft shore, in terrain levels

# Two kinds of landmark for each terrain: (summer colour, autumn colour), chosen to stand out from their ground.
LANDMARKS = (
    ("lily", (70, 165, 120), (150, 150, 70)),
    ("reef", (28, 52, 110), (30, 50, 95)),
    ("palm", (90, 140, 60), (160, 130, 50)),
    ("boulder", (135, 115, 100), (130, 105, 90)),
    ("bush", (55, 115, 55), (190, 95, 40)),
    ("flowers", (215, 90, 150), (205, 75, 60)),
    ("oak", (22, 72, 42), (200, 85, 30)),
    ("blossom", (205, 150, 70), (235, 165, 60)),
    ("fir", (42, 92, 82), (75, 100, 70)),
    ("rock", (112, 120, 142), (118, 112, 120)),
)


@dataclass(frozen=True)
class Planet:
    """Waves make the terrain: level(x) = sum_i amplitude_i cos(wave_i . x + phase_i), cut into five bands."""

    number: int
    waves: npt.NDArray[np.float32]  # n 3
    phases: npt.NDArray[np.float32]  # n
    amplitudes: npt.NDArray[np.float32]  # n
    landmark_places: npt.NDArray[np.float64]  # m 3, unit vectors
    landmark_kinds: npt.NDArray[np.int64]  # m, index into LANDMARKS
    landmark_radii: npt.NDArray[np.float64]  # m, radians
    cells: Cells
    cell_terrain: npt.NDArray[np.int64]  # index into TERRAINS of each cell's centre

    @classmethod
    def make(cls, number: int, num_landmarks: int, cells: Cells) -> Planet:
        """The same number is the same planet, always."""
        rng = np.random.default_rng([number, 20])
        waves = (rng.normal(size=(NUM_WAVES, 3)) * 3).astype(np.float32)
        phases = rng.uniform(0, 2 * np.pi, NUM_WAVES).astype(np.float32)
        amplitudes = rng.uniform(0.6, 1.2, NUM_WAVES).astype(np.float32)
        places = random_directions(rng, num_landmarks)
        second = rng.integers(0, 2, num_landmarks)
        radii = rng.uniform(0.025, 0.05, num_landmarks)
        levels = _levels(waves, phases, amplitudes, places.astype(np.float32))
        return cls(
            number=number,
            waves=waves,
            phases=phases,
            amplitudes=amplitudes,
            landmark_places=places,
            landmark_kinds=2 * levels.astype(np.int64) + second,
            landmark_radii=radii,
            cells=cells,
            cell_terrain=_levels(waves, phases, amplitudes, cells.centres.astype(np.float32)).astype(np.int64),
        )

    @property
    def is_hazard(self) -> npt.NDArray[np.bool_]:
        """Cells where nobody and nothing should appear: open water."""
        return np.asarray(self.cell_terrain == TERRAINS.index("water"))

    def levels(
        self, points: npt.NDArray[np.float32], frame: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.float32]:
        """Terrain level in [0, 5) of unit vectors `[n 3]`, given in the planet's axes or in those of a frame."""
        waves = self.waves if frame is None else (self.waves @ frame).astype(np.float32)
        return _levels(waves, self.phases, self.amplitudes, points)

    def terrain(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Index into TERRAINS of unit vectors `[n 3]`."""
        return self.levels(points.astype(np.float32)).astype(np.int64)


def _levels(
    waves: npt.NDArray[np.float32],
    phases: npt.NDArray[np.float32],
    amplitudes: npt.NDArray[np.float32],
    points: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    heights = np.cos(points @ waves.T + phases) @ amplitudes
    return np.clip((heights + LEVEL_RANGE) * (5 / (2 * LEVEL_RANGE)), 0, 4.999)
