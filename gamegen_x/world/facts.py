"""Facts: what is true of video frames, by name; and a world that brings them forth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Facts = Mapping[str, npt.NDArray[Any]]  # of one frame, or of many with an axis of time before all others


@runtime_checkable
class World(Protocol):
    """What is true at one video frame. A value: whoever keeps an earlier one can go on from there again."""

    @property
    def num_players(self) -> int: ...

    def after(self, held: npt.NDArray[np.uint8]) -> World:
        """The next frame's world, in which the keys `[p k]` have acted."""
        ...

    def told(self, text: str) -> World:
        """This world once somebody has said a sentence; the same where its rules know none of these words."""
        ...

    def facts(self) -> Facts: ...


@runtime_checkable
class Dynamics(Protocol):
    """Whoever takes a world on from what was true in it: a game's rules, or a network that learned them."""

    def follow(self, facts: Facts, held: npt.NDArray[np.uint8]) -> World:
        """The world at the end of these frames `[t ...]`, one or more, in which the keys `[t p k]` acted.

        What was held in the first of them is of no account: it shows already.
        """
        ...


def lacking(needed: Iterable[str], facts: Iterable[str]) -> str:
    """The names of facts that are needed and not there, as words; empty where all are."""
    return " and ".join(sorted(set(needed) - set(facts)))


def stepped(world: World, actions: npt.NDArray[np.uint8], said: Mapping[int, str] | None = None) -> tuple[World, Facts]:
    """The world after all rows of keys `[t p k]`, and the facts `[t ...]` of the frame that follows each row.

    `said` are sentences by the row before which they are said.
    """
    frames = []
    for row, held in enumerate(actions):
        if said and row in said:
            world = world.told(said[row])
        world = world.after(held)
        frames.append(world.facts())
    return world, stacked(frames)


def continued(
    dynamics: Dynamics, past: Facts, held: npt.NDArray[np.uint8], said: Mapping[int, str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Facts `[t ...]` of all frames of the keys `[t p k]`: the first ones as in the `past`, then as the dynamics say.

    `said` are sentences by frame; those of the past show in the first frame after it. What only the past knows is
    left out.
    """
    num_past = len(next(iter(past.values())))
    world = dynamics.follow(past, held[:num_past])
    later = {max(0, frame - num_past): text for frame, text in (said or {}).items()}
    _, coming = stepped(world, held[num_past:], later)
    return {name: np.concatenate([past[name], values]) for name, values in coming.items()}


def stacked(frames: Sequence[Facts]) -> dict[str, npt.NDArray[Any]]:
    """Facts of single frames, at least one, as facts of many `[t ...]`."""
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
