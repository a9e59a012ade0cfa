"""Pebbles: the smallest world that has all that must be kept in step: bodies, things that happen, words, chance.

A thousand sessions of it run in the time of ten of Snowglobe: it is what the harness itself is tried on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.world.events import Event, Scope

FIELD = 24  # squares a side; who walks off one edge comes in at the other
QUARRY = 3  # pebbles lie on each square whose coordinates add up to a multiple of it
REACH = 5  # squares that a pebble flies
WEATHERS = ("clear", "rain", "snow")


@dataclass(frozen=True)
class PebbleState:
    tick: int
    chance: int  # grows with every tick and every key; what happens by chance depends on it
    places: npt.NDArray[np.int32]  # p 2
    pebbles: npt.NDArray[np.int32]  # p, in hand
    is_throwing: npt.NDArray[np.bool_]  # p, whether space was held
    weather: npt.NDArray[np.int32]  # 1
    events: tuple[Event, ...] = ()


class Pebbles:
    """W A S D walk, E picks a pebble up, space throws it at whoever is near; rain and snow wash some out, by chance."""

    def __init__(self, num_players: int, seed: int, fps: float = 24.0) -> None:
        self.keys = ActionSpace("pebbles", ("w", "a", "s", "d", "space", "e"))
        self.num_players, self.fps = num_players, fps
        self.facts: Mapping[str, str | int | float] = {"game": "pebbles", "field": FIELD}
        rng = np.random.default_rng(seed)
        self._start = PebbleState(
            tick=-1,
            chance=int(rng.integers(2**31)),
            places=rng.integers(0, FIELD, (num_players, 2), dtype=np.int32),
            pebbles=np.ones(num_players, np.int32),
            is_throwing=np.zeros(num_players, bool),
            weather=np.zeros(1, np.int32),
        )

    def start(self) -> PebbleState:
        return self._start

    def advanced(self, state: PebbleState, held: npt.NDArray[np.uint8]) -> PebbleState:
        w, a, s, d, space, e = held.T.astype(np.int32)
        places = (state.places + np.stack([d - a, s - w], axis=-1)) % FIELD
        pressed = int(held.ravel() @ np.arange(1, held.size + 1))
        chance = (state.chance * 1103515245 + 12345 + pressed) % 2**31
        is_finding = (e > 0) & (state.pebbles == 0) & (places.sum(axis=1) % QUARRY == 0)
        pebbles = state.pebbles + is_finding.astype(np.int32)
        events = []
        for seat in np.flatnonzero((space > 0) & ~state.is_throwing & (pebbles > 0)).tolist():
            pebbles[seat] -= 1
            distance = np.abs(places - places[seat]).max(axis=1)
            distance[seat] = FIELD
            hit = int(np.argmin(distance))
            if distance[hit] <= REACH:
                events += [Event("hit", Scope.PLAYER, hit, seat), Event("cheer", Scope.GLOBAL, -1, seat)]
        lucky = chance // 7 % (8 * self.num_players)
        if state.weather[0] and lucky < self.num_players:
            pebbles[lucky] += 1
            events.append(Event("found", Scope.CELL, int(places[lucky, 0]), lucky))
        return PebbleState(
            state.tick + 1, chance, places.astype(np.int32), pebbles, space > 0, state.weather, tuple(events)
        )

    def told(self, state: PebbleState, text: str) -> PebbleState:
        name = text.lower().strip(" .")
        if name not in WEATHERS:
            raise ValueError(f"pebbles knows the weathers {', '.join(WEATHERS)}, got {text!r}")
        return replace(state, weather=np.array([WEATHERS.index(name)], np.int32))

    def heard(self, state: PebbleState) -> Sequence[tuple[Event, ...]]:
        """A CELL event is heard in its column of squares and the two beside it."""
        if not state.events:
            return [()] * self.num_players
        return [
            tuple(event for event in state.events if self._hears(event, seat, int(state.places[seat, 0])))
            for seat in range(self.num_players)
        ]

    def _hears(self, event: Event, seat: int, column: int) -> bool:
        if event.scope is Scope.PLAYER:
            return event.where == seat
        return event.scope is Scope.GLOBAL or (event.where - column + 1) % FIELD <= 2
