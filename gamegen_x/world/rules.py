"""What is lawful: how players may move, whatever the game."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gamegen_x.world.events import Event, Scope
from gamegen_x.world.proximity import near_pairs
from gamegen_x.world.sphere import angle_between, moved, turned
from gamegen_x.world.state import Truths, WorldState

JUMP, INTERACT = 0, 1


@dataclass(frozen=True)
class Wishes:
    """What the players want of one tick. Opposite wishes have cancelled each other; a chord is both its keys."""

    right: npt.NDArray[np.float64]  # p, -1, 0 or 1
    up: npt.NDArray[np.float64]  # p
    turn: npt.NDArray[np.float64]  # p, counter-clockwise
    acting: Truths  # p 2, jump and interact held

    def pressed(self, state: WorldState, action: int) -> Truths:
        """Who began to hold an action in this tick `[p]`."""
        return np.asarray(self.acting[:, action] & ~state.players.is_acting[:, action])


@dataclass(frozen=True)
class Walk:
    """Players turn, then roll the world under their feet."""

    step_angle: float  # radians a tick
    turn_angle: float  # radians a tick

    def __call__(self, state: WorldState, wishes: Wishes) -> WorldState:
        frames = turned(state.players.frames, wishes.turn * self.turn_angle)
        frames = moved(frames, wishes.right * self.step_angle, wishes.up * self.step_angle)
        return replace(state, players=replace(state.players, frames=frames))

    def is_lawful(self, before: WorldState, after: WorldState) -> Truths:
        """Who can have come from one state to a later one by walking `[p]`: nobody is faster than a diagonal."""
        farthest = (after.tick - before.tick) * self.step_angle * np.sqrt(2)
        travelled = angle_between(before.players.positions, after.players.positions)
        return np.asarray(travelled <= farthest * (1 + 1e-6) + 1e-6)


@dataclass(frozen=True)
class Jump:
    """Players on the ground who hold jump with empty hands leave it for some ticks."""

    num_ticks: int

    def __call__(self, state: WorldState, wishes: Wishes) -> WorldState:
        players = state.players
        airborne = np.maximum(players.airborne - 1, 0)
        is_leaving = (airborne == 0) & wishes.acting[:, JUMP] & (players.carrying == 0)
        airborne = np.where(is_leaving, self.num_ticks, airborne).astype(np.int32)
        return replace(state, players=replace(players, airborne=airborne))


@dataclass(frozen=True)
class Meet:
    """Keeps who is near whom, and tells both when they meet and when they part."""

    enter: float  # radians
    leave: float  # radians
    counter: int  # counts meetings

    def __post_init__(self) -> None:
        if not 0 < self.enter <= self.leave:
            raise ValueError(f"need 0 < enter <= leave, got enter={self.enter} and leave={self.leave}")

    def __call__(self, state: WorldState, wishes: Wishes) -> WorldState:  # noqa: ARG002
        before = state.players.near
        near = near_pairs(state.players.positions, before, self.enter, self.leave)
        state = replace(state, players=replace(state.players, near=near))
        for one, other in np.argwhere(np.triu(near != before)):
            kind = "met" if near[one, other] else "parted"
            told = (Event(kind, Scope.PLAYER, int(one), int(other)), Event(kind, Scope.PLAYER, int(other), int(one)))
            if kind == "met":
                state = state.counted(self.counter, *told)
            else:
                state = replace(state, events=(*state.events, *told))
        return state


@dataclass(frozen=True)
class Remember:
    """Keeps who acted, so that the next tick knows what is newly pressed. Comes last."""

    def __call__(self, state: WorldState, wishes: Wishes) -> WorldState:
        return replace(state, players=replace(state.players, is_acting=wishes.acting))
