"""PlayedWorld: what a room needs of a world, ServedWorld: what a server needs; TruthWorld: Snowglobe with its own rules
and renderer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame
from gamegen_x.games.snowglobe import Snowglobe
from gamegen_x.games.snowglobe_conditions import FACTS, INSTRUCTIONS
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.world.events import Event
from gamegen_x.world.facts import Facts
from gamegen_x.world.state import WorldState

State = Any  # a tree of frozen dataclasses that `world.snapshot` can quantise, with the `events` of its tick
_SKIES: Mapping[str, str] = {"clear": "clear", "rain": "rainy", "snow": "snowy", "fog": "foggy"}
_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")


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


class ServedWorld(PlayedWorld, Protocol):
    """A world that a server can open rooms of, record, and have drawn by a model."""

    height: int
    width: int
    is_drawn: bool  # whether `draw` can show what is true

    def start_from(self, state: State) -> None:
        """Takes the world up where an earlier life of it ended."""

    def draw(self, states: Sequence[State], keys: npt.NDArray[np.uint8]) -> Sequence[Sequence[Frame]]:
        """What is true, as pictures `[t][p]`. Asked only where `is_drawn`."""

    def facts_of(self, state: State) -> Facts:
        """What is true of the video frame of a state: what weights are told that are told the world's truth."""

    def scene(self, state: State, num_players: int) -> str:
        """The world in the words of the captions that models learn from."""

    def asked(self, before: State, after: State) -> str:
        """The sentence that made the world another one between two states; empty where none did."""

    def described(self, state: State) -> Mapping[str, Any]:
        """What a Trace that ends in this state says of its world: fields of it such as `game`, `camera`, `licence`."""


class TruthWorld:
    """One planet of Snowglobe. It has no memory of its own: `rewind` has nothing to forget."""

    rewind_ticks = 2**31
    is_drawn = True

    def __init__(self, game: Snowglobe, seed: int) -> None:
        game.reset(seed=seed)
        self.game = game
        self.keys, self.fps, self.num_players = game.keys, game.fps, game.num_players
        self.height, self.width = game.height, game.width
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

    def facts_of(self, state: State) -> Facts:
        return self.game.facts_of(state)

    def scene(self, state: State, num_players: int) -> str:
        return scene_of(state, num_players)

    def asked(self, before: State, after: State) -> str:
        changed = np.flatnonzero(before.conditions.target != after.conditions.target).tolist()
        return sentence_for(changed[-1], int(after.conditions.target[changed[-1]])) if changed else ""

    def described(self, state: State) -> Mapping[str, Any]:
        game = self.game
        return {
            "game": str(game.metadata["name"]),
            "camera": game.camera,
            "licence": game.licence,
            "attribution": game.attribution,
            "facts": game.facts,
            "outcome": game.outcome_of(state),
        }


def sentence_for(fact: int, target: int) -> str:
    """A sentence that asks for a class of a fact: the same one always."""
    name = list(FACTS)[fact]
    effect = name, FACTS[name][target]
    return next(phrase for phrase, each in INSTRUCTIONS.items() if each == effect)


def scene_of(state: WorldState, num_players: int) -> str:
    """The scene in the words of the captions that models learn from."""
    weather, time_of_day, season = (
        classes[target] for classes, target in zip(FACTS.values(), state.conditions.target.tolist(), strict=True)
    )
    who = f"{number_of(num_players)} {'walks' if num_players == 1 else 'walk'}"
    article = "an" if season[0] in "aeiou" else "a"
    return f"{who} through {article} {season} land on a {_SKIES[weather]} {time_of_day}."


def number_of(num_players: int) -> str:
    """How captions begin: "Two players"."""
    return f"{_NUMBERS[num_players]} player{'' if num_players == 1 else 's'}"
