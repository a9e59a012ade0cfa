"""WorldState: all that is true of a world at one tick. Frozen; a step returns a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gamegen_x.world.events import Event
from gamegen_x.world.snapshot import settled

if TYPE_CHECKING:
    from gamegen_x.world.rules import Wishes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Players:
    """Everyone's body, by seat."""

    frames: Floats  # p 3 3, columns right, up, position: the axes in which a player moves and sees
    airborne: Integers  # p, ticks until the player stands again; 0 on the ground
    carrying: Integers  # p, what is in their hands, in the game's numbers; 0 is nothing
    is_acting: Truths  # p 2, whether jump and interact were held in the last tick
    near: Truths  # p p, who is near whom

    @property
    def positions(self) -> Floats:
        return self.frames[..., 2]


@dataclass(frozen=True)
class Entities:
    """Things in a fixed number of slots; kind 0 is an empty slot. What the kinds are is the game's business."""

    kind: Integers  # n
    frames: Floats  # n 3 3, columns right, up, position
    clock: Integers  # n, ticks left of what the thing is doing; 0 when it does nothing
    owner: Integers  # n, the seat it belongs to, or -1

    @property
    def positions(self) -> Floats:
        return self.frames[..., 2]

    def changed(self, slot: int, **values: object) -> Entities:
        """The same things, with new values in one slot."""
        arrays = {}
        for name, value in values.items():
            arrays[name] = getattr(self, name).copy()
            arrays[name][slot] = value
        return replace(self, **arrays)


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
    """Tick -1 is the world before its first frame; frame t of a recording is tick t.

    Its numbers lie on the grid of `snapshot`, so a state that was sent and read back goes on exactly as the original.
    """

    seed: int  # chance is a function of (seed, tick, purpose), never of a generator that remembers
    tick: int
    players: Players
    entities: Entities
    conditions: Conditions
    counters: Integers  # what the game counts, e.g. its score
    events: tuple[Event, ...] = ()  # of this tick

    def step(self, wishes: Wishes, rules: Sequence[Rule]) -> WorldState:
        """The world one tick later: each rule in its order, then rounded to the grid."""
        state = replace(self, tick=self.tick + 1, events=())
        for rule in rules:
            state = rule(state, wishes)
        return settled(state)

    def asked(self, fact: int, target: int, blend_ticks: int) -> WorldState:
        """The same world, with one condition changing from the next tick on."""
        return settled(replace(self, conditions=self.conditions.changed(fact, target, self.tick + 1, blend_ticks)))

    def chance(self, purpose: int) -> np.random.Generator:
        """A generator for one purpose in this tick: the same in every replay, whatever else drew before."""
        return np.random.default_rng([self.seed, self.tick + 1, purpose])

    def counted(self, counter: int, *events: Event) -> WorldState:
        """One more on a counter, and what is told of it."""
        counters = self.counters.copy()
        counters[counter] += 1
        return replace(self, counters=counters, events=(*self.events, *events))


Rule = Callable[[WorldState, "Wishes"], WorldState]
