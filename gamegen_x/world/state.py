"""WorldState: all that is true of a world at one tick. Frozen; a step returns a new one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Conditions:
    """Facts that everybody shares, such as the weather: each has one class, and fades to another when asked."""

    target: Integers  # c, the class asked for
    since: Integers  # c, the tick of the first frame that changes
    before: Floats  # c m, the weights of the classes when it was asked

    def weights(self, tick: int, blend_ticks: int) -> Floats:
        """How much of each class is to be seen at a tick, `[c m]`; rows sum to 1."""
        done = np.clip((tick - self.since + 1) / blend_ticks, 0, 1)[:, None]
        return np.asarray(self.before * (1 - done) + np.eye(self.before.shape[1])[self.target] * done)

    def changed(self, fact: int, target: int, tick: int, blend_ticks: int) -> Conditions:
        """One fact on its way to another class; `tick` is the first frame that shows it."""
        weights, targets, since = self.before.copy(), self.target.copy(), self.since.copy()
        weights[fact] = self.weights(tick - 1, blend_ticks)[fact]
        targets[fact], since[fact] = target, tick
        return Conditions(targets, since, weights)


@dataclass(frozen=True)
class WorldState:
    """Tick -1 is the world before its first frame; frame t of a recording is tick t."""

    tick: int
    frames: Floats  # p 3 3, columns right, up, position
    airborne: Integers  # p, ticks until the player stands again
    conditions: Conditions

    @property
    def positions(self) -> Floats:
        return self.frames[..., 2]

    def asked(self, fact: int, target: int, blend_ticks: int) -> WorldState:
        """The same world, with one condition changing from the next tick on."""
        return replace(self, conditions=self.conditions.changed(fact, target, self.tick + 1, blend_ticks))
