"""PlayedWorld: what a room needs of a world; TruthWorld: Snowglobe with its own rules and renderer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame
from gamegen_x.games.snowglobe import Snowglobe
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.world.events import Event

State = Any  # a tree of frozen dataclasses that `world.snapshot` can quantise


class PlayedWorld(Protocol):
    """A world as functions of its states: whoever has a state and the keys has the next state, bit for bit.

    That is what lets a room go back, replay, and compare. A world whose pictures a model makes has the same truth
    below them.
    """

    keys: ActionSpace
    fps: float
    num_players: int
    facts: Mapping[str, str | int | float]  # what never changes, for `Welcome.world`

    def start(self) -> State:
        """The state before tick 0."""

    def advanced(self, state: State, held: npt.NDArray[np.uint8]) -> State:
        """One tick later, under the keys `[p k]`. A player who is not there holds none."""

    def told(self, state: State, text: str) -> State:
        """The state after a sentence. Raises ValueError where it is not understood."""

    def heard(self, state: State) -> Sequence[tuple[Event, ...]]:
        """The events of the state's tick, for each player those that reach them."""


class Views(Protocol):
    """What makes the pictures of a room. The room decides when; whoever drives it calls."""

    rewind_ticks: int  # how far back `rewind` can go; 0: what is drawn is drawn

    def draw(self, states: Sequence[State], keys: npt.NDArray[np.uint8]) -> Sequence[Sequence[Frame]]:
        """Pictures `[t][p]` of the ticks that follow those drawn before; `keys` is `[t p k]`."""

    def rewind(self, tick: int) -> None:
        """Forgets what was drawn from a tick on (R2): it will be drawn again, and nobody has seen it."""


class TruthWorld:
    """One planet of Snowglobe. It has no memory of its own: `rewind` has nothing to forget."""

    rewind_ticks = 2**31

    def __init__(self, game: Snowglobe, seed: int) -> None:
        game.reset(seed=seed)
        self.game = game
        self.keys, self.fps, self.num_players = game.keys, game.fps, game.num_players
        self._start = game.state
        self.facts: Mapping[str, str | int | float] = {
            "game": "snowglobe",
            "planet": game.planet.number,
            "camera": game.camera,
            "width": game.width,
            "height": game.height,
        }

    def start(self) -> State:
        return self._start

    def start_from(self, state: State) -> None:
        """Takes the world up where an earlier life of it ended."""
        self._start = state

    def advanced(self, state: State, held: npt.NDArray[np.uint8]) -> State:
        return self.game.advanced(state, held)

    def told(self, state: State, text: str) -> State:
        return self.game.told(state, text)

    def heard(self, state: State) -> Sequence[tuple[Event, ...]]:
        return self.game.heard(state) if state.events else [()] * self.num_players

    def draw(self, states: Sequence[State], keys: npt.NDArray[np.uint8]) -> Sequence[Sequence[Frame]]:  # noqa: ARG002
        return [list(self.game.views(state).values()) for state in states]

    def rewind(self, tick: int) -> None:
        pass
