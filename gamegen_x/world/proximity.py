"""Who is near whom: a pair becomes near inside one distance and stays so until a larger one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from gamegen_x.world.sphere import angle_between

Pairs = npt.NDArray[np.bool_]  # p p, symmetric, False on the diagonal


def near_pairs(positions: npt.NDArray[np.float64], before: Pairs, enter: float, leave: float) -> Pairs:
    """Who is near whom now `[p p]`, given unit vectors `[p 3]` and who was near before; angles in radians.

    Two who come closer than `enter` are near until they are farther apart than `leave` >= `enter`, so that a pair at
    the border does not flicker.
    """
    inside, within_leave = _closer_than(positions, enter), _closer_than(positions, leave)
    return np.asarray(inside | (before & within_leave))


def near_in_blocks(positions: npt.NDArray[np.float64], angle: float, block: int) -> npt.NDArray[np.bool_]:
    """Who comes closer than `angle` within each `block` of frames `[t p p]`, given unit vectors `[t_video p 3]`.

    A function of these frames alone, so that what is far away cannot be told from what is not there.
    """
    apart = angle_between(positions[:, :, None], positions[:, None, :])
    is_near = (apart < angle) & ~np.eye(positions.shape[1], dtype=bool)
    return np.asarray(is_near.reshape(-1, block, *is_near.shape[1:]).any(axis=1))


def _closer_than(positions: npt.NDArray[np.float64], angle: float) -> Pairs:
    pairs = cKDTree(positions).query_pairs(2 * np.sin(min(angle, np.pi) / 2), output_type="ndarray")
    near = np.zeros((len(positions), len(positions)), bool)
    near[pairs[:, 0], pairs[:, 1]] = near[pairs[:, 1], pairs[:, 0]] = True
    return near
