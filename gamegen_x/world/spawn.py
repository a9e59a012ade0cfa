"""Fair places to appear: lawful ground, far from everybody else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gamegen_x.world.sphere import Array, Cells, angle_between


def fair_places(
    rng: np.random.Generator,
    count: int,
    cells: Cells,
    is_hazard: npt.NDArray[np.bool_],  # one a cell
    taken: Array,  # n 3, unit vectors to keep away from; n may be 0
) -> Array:
    """Places `[count 3]` on cells that are no hazard, each the farthest from `taken` and from those before it.

    With nobody there the first is drawn by chance. No cell is then farther from all places than two of them are from
    each other. Raises ValueError where every cell is a hazard.
    """
    safe = cells.centres[~is_hazard]
    if len(safe) == 0:
        raise ValueError(f"there is no place to appear: all {cells.count} cells are hazards")
    places: list[Array] = []
    distance = np.full(len(safe), np.inf)
    for place in taken:
        distance = np.minimum(distance, angle_between(safe, place))
    for _ in range(count):
        chosen = int(np.argmax(distance)) if np.isfinite(distance[0]) else int(rng.integers(len(safe)))
        places.append(safe[chosen])
        distance = np.minimum(distance, angle_between(safe, safe[chosen]))
    return np.stack(places) if places else np.zeros((0, 3))


def places_at(
    rng: np.random.Generator,
    centre: Array,  # 3
    between: tuple[float, float],  # radians
    cells: Cells,
    is_hazard: npt.NDArray[np.bool_],
    tries: int,
) -> Array:
    """A unit vector at an angle `between` from a centre, by chance; on ground that is no hazard if `tries` suffice."""
    helper = np.eye(3)[int(np.argmin(np.abs(centre)))]
    right = np.cross(helper, centre)
    right /= np.linalg.norm(right)
    up = np.cross(centre, right)
    place = centre
    for _ in range(tries):
        angle, way = rng.uniform(*between), rng.uniform(0, 2 * np.pi)
        place = np.cos(angle) * centre + np.sin(angle) * (np.cos(way) * right + np.sin(way) * up)
        if not is_hazard[int(cells.of(place))]:
            break
    return np.asarray(place)
