"""Dynamics: the shared truth of a world, stepped from the players' keys; what a drawn state of coming frames is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Keys
from gamegen_x.games.snowglobe import Snowglobe

Facts = dict[str, npt.NDArray[Any]]


class Dynamics(Protocol):
    """Where a game's rules are not at hand, a network may stand here."""

    def start(self, facts: Mapping[str, npt.NDArray[Any]]) -> None:
        """Goes on from the facts of one frame."""
        ...

    def step(self, held: Keys) -> Facts:
        """The facts of the next frame, which shows the world after the keys `[p k]` acted."""
        ...


class RulesDynamics:
    """The game's own rules, without its pictures."""

    def __init__(self, game: Snowglobe) -> None:
        self.game = game

    def start(self, facts: Mapping[str, npt.NDArray[Any]]) -> None:
        self.game.restore(facts)

    def step(self, held: Keys) -> Facts:
        self.game.advance(held)
        return self.game.facts_now()


def stepped(
    dynamics: Dynamics, facts: Mapping[str, npt.NDArray[Any]], actions: npt.NDArray[np.uint8]
) -> dict[str, npt.NDArray[Any]]:
    """Facts `[t ...]` of the frames that follow, one for each row of keys `[t p k]`."""
    dynamics.start(facts)
    frames = [dynamics.step(held) for held in actions]
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
