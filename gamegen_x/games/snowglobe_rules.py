"""Snowglobe's own rules: snowballs, the fort that wants them, and the pests that sit on it.

One player alone throws snowballs and makes friends. A big snowball rolls only while enough players walk beside it, and
it counts when it reaches the fort while no pest sits there; a pest leaves only when enough players come near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from gamegen_x.games.snowglobe_conditions import FACTS
from gamegen_x.games.snowglobe_planet import TERRAINS, Planet
from gamegen_x.world.events import Event, Scope
from gamegen_x.world.rules import INTERACT, JUMP, Wishes
from gamegen_x.world.spawn import places_at
from gamegen_x.world.sphere import angle_between, frame_at, moved, turned
from gamegen_x.world.state import Entities, WorldState


class Kind(IntEnum):
    """What is in an entity's slot."""

    NOTHING = 0
    FORT = 1
    BIG_BALL = 2
    PEST = 3
    SNOWBALL = 4


class Hand(IntEnum):
    """What a player has in hand."""

    EMPTY = 0
    SNOWBALL = 1
    THROWN = 2  # nothing any more, but space is still held


class Counter(IntEnum):
    """What an episode counts, in the order of `WorldState.counters`."""

    DELIVERED = 0
    CHASED = 1
    ROLLED_TOGETHER = 2
    THROWN = 3
    HITS = 4
    MEETINGS = 5


@dataclass(frozen=True)
class Things:
    """How many things there are and what they do. Angles in radians, times in ticks."""

    num_balls: int  # big snowballs at the start
    max_balls: int  # and with those that players roll together
    num_pests: int
    helpers_needed: int  # players to roll a big snowball or to chase a pest; fewer where fewer play
    reach: float  # how near a player must be to a thing to do something with it
    fort_radius: float
    ball_radius: float
    pest_radius: float
    snowball_radius: float
    fort_distance: Sequence[float]  # from where the players start: at least, at most
    ball_distance: Sequence[float]  # from the fort
    pest_speed: float  # a tick, walking to the fort
    flee_speed: float
    flee_ticks: int
    throw_speed: float
    throw_ticks: int
    points: dict[str, float]  # reward of everybody for: delivered, chased

    def __post_init__(self) -> None:
        if not 0 <= self.num_balls <= self.max_balls:
            raise ValueError(f"need 0 <= num_balls <= max_balls, got {self.num_balls} and {self.max_balls}")

    def placed(self, planet: Planet, start: npt.NDArray[np.float64], num_players: int, seed: int) -> Entities:
        """All slots at the start of an episode: the fort, big balls, pests, and one snowball a player (in no hand)."""
        rng = np.random.default_rng([seed, 1])
        fort = places_at(rng, start, _between(self.fort_distance), planet.cells, planet.is_hazard, tries=16)
        places = [fort]
        for _ in range(self.max_balls + self.num_pests):
            places += [places_at(rng, fort, _between(self.ball_distance), planet.cells, planet.is_hazard, tries=16)]
        places += [start] * num_players
        balls = [Kind.BIG_BALL] * self.num_balls + [Kind.NOTHING] * (self.max_balls - self.num_balls)
        kinds = [Kind.FORT, *balls, *[Kind.PEST] * self.num_pests, *[Kind.NOTHING] * num_players]
        owners = [-1] * (len(kinds) - num_players) + list(range(num_players))
        return Entities(
            kind=np.array(kinds, np.int32),
            frames=np.stack([frame_at(place, 0.0) for place in places]),
            clock=np.zeros(len(kinds), np.int32),
            owner=np.array(owners, np.int32),
        )

    def needed(self, state: WorldState) -> int:
        return min(self.helpers_needed, len(state.players.frames))


@dataclass(frozen=True)
class Carry:
    """E picks up snow where there is some, puts it down again, or rolls two handfuls together to a big snowball."""

    planet: Planet
    things: Things

    def __call__(self, state: WorldState, wishes: Wishes) -> WorldState:
        for seat in np.flatnonzero(wishes.pressed(state, INTERACT)):
            carrying = state.players.carrying.copy()
            partner = self._partner(state, int(seat))
            if carrying[seat] != Hand.SNOWBALL:
                if not self.is_snowy(state, int(seat)):
                    continue
                carrying[seat] = Hand.SNOWBALL
                state = _told(state, Event("picked_up", Scope.PLAYER, int(seat), int(seat)))
            elif partner is not None and (free := _slots(state, Kind.NOTHING, owned=False)).size:
                carrying[seat] = carrying[partner] = Hand.EMPTY
                frame = state.players.frames[seat]
                entities = state.entities.changed(int(free[0]), kind=Kind.BIG_BALL, frames=frame, clock=0)
                cell = int(self.planet.cells.of(frame[:, 2]))
                state = replace(state, entities=entities)
                state = state.counted(Counter.ROLLED_TOGETHER, Event("rolled_together", Scope.CELL, cell, int(seat)))
            else:
                carrying[seat] = Hand.EMPTY
            state = replace(state, players=replace(state.players, carrying=carrying))
        return state

    def is_snowy(self, state: WorldState, seat: int) -> bool:
        """Snow lies on ice, everywhere in winter, and everywhere while it snows."""
        weather, _, season = (
            names[target] for names, target in zip(FACTS.values(), state.conditions.target, strict=True)
        )
        terrain = TERRAINS[int(self.planet.terrain(state.players.positions[seat][None])[0])]
        return terrain == "ice" or (terrain != "water" and (weather == "snow" or season == "winter"))

    def _partner(self, state: WorldState, seat: int) -> int | None:
        distance = angle_between(state.players.positions, state.players.positions[seat])
        is_partner = (state.players.carrying == Hand.SNOWBALL) & (distance < self.things.reach)
        is_partner[seat] = False
        return int(np.argmax(is_partner)) if is_partner.any() else None


@dataclass(frozen=True)
class Throw:
    """Space throws the snowball in hand along the camera's up. It flies for some ticks, or until it hits somebody.

    Who threw is not free to jump before space was released.
    """

    things: Things
    player_radius: float

    def __call__(self, state: WorldState, wishes: Wishes) -> WorldState:
        state = self._fly(state)
        is_done = (state.players.carrying == Hand.THROWN) & ~wishes.acting[:, JUMP]
        carrying = np.where(is_done, Hand.EMPTY, state.players.carrying).astype(np.int32)
        state = replace(state, players=replace(state.players, carrying=carrying))
        for seat in np.flatnonzero(wishes.pressed(state, JUMP) & (carrying == Hand.SNOWBALL)):
            slot = int(np.flatnonzero(state.entities.owner == seat)[0])
            carrying = state.players.carrying.copy()
            carrying[seat] = Hand.THROWN
            entities = state.entities.changed(
                slot, kind=Kind.SNOWBALL, frames=state.players.frames[seat], clock=self.things.throw_ticks
            )
            state = replace(state, entities=entities, players=replace(state.players, carrying=carrying))
            state = state.counted(Counter.THROWN)
        return state

    def _fly(self, state: WorldState) -> WorldState:
        for slot in _slots(state, Kind.SNOWBALL, owned=True):
            frame = moved(state.entities.frames[slot], np.asarray(0.0), np.asarray(self.things.throw_speed))
            clock, owner = int(state.entities.clock[slot]) - 1, int(state.entities.owner[slot])
            distance = angle_between(state.players.positions, frame[:, 2])
            distance[owner] = np.inf
            hit = int(np.argmin(distance))
            if distance[hit] < self.player_radius + self.things.snowball_radius:
                state = state.counted(Counter.HITS, Event("hit", Scope.PLAYER, hit, owner))
                clock = 0
            kind = Kind.SNOWBALL if clock > 0 else Kind.NOTHING
            state = replace(state, entities=state.entities.changed(int(slot), kind=kind, frames=frame, clock=clock))
        return state


@dataclass(frozen=True)
class RollBalls:
    """A big snowball goes along with the players beside it, if enough of them walk; at the free fort it counts."""

    planet: Planet
    things: Things
    step_angle: float

    def __call__(self, state: WorldState, wishes: Wishes) -> WorldState:
        walks = wishes.right[:, None] * state.players.frames[..., 0] + wishes.up[:, None] * state.players.frames[..., 1]
        is_walking = (wishes.right != 0) | (wishes.up != 0)
        fort = state.entities.positions[0]
        for slot in _slots(state, Kind.BIG_BALL, owned=False):
            frame = state.entities.frames[slot]
            is_helping = is_walking & (angle_between(state.players.positions, frame[:, 2]) < self.things.reach)
            if is_helping.sum() < self.things.needed(state):
                continue
            way = walks[is_helping].mean(axis=0) @ frame * self.step_angle
            frame = moved(frame, way[0], way[1])
            state = replace(state, entities=state.entities.changed(int(slot), frames=frame))
            if angle_between(frame[:, 2], fort) < self.things.fort_radius and not self._is_guarded(state):
                state = self._delivered(state, int(slot))
        return state

    def _is_guarded(self, state: WorldState) -> bool:
        pests = _slots(state, Kind.PEST, owned=False)
        pests = pests[state.entities.clock[pests] == 0]
        distance = angle_between(state.entities.positions[pests], state.entities.positions[0])
        return bool((distance < self.things.fort_radius).any())

    def _delivered(self, state: WorldState, slot: int) -> WorldState:
        fort = state.entities.positions[0]
        is_from_players = slot > self.things.num_balls
        place = places_at(
            state.chance(slot), fort, _between(self.things.ball_distance), self.planet.cells, self.planet.is_hazard, 16
        )
        entities = state.entities.changed(
            slot, kind=Kind.NOTHING if is_from_players else Kind.BIG_BALL, frames=frame_at(place, 0.0)
        )
        state = replace(state, entities=entities)
        return state.counted(Counter.DELIVERED, Event("delivered", Scope.GLOBAL, -1, slot))


@dataclass(frozen=True)
class MovePests:
    """A pest walks to the fort and sits down on it; it flees from enough players, and then comes back."""

    planet: Planet
    things: Things

    def __call__(self, state: WorldState, wishes: Wishes) -> WorldState:  # noqa: ARG002
        fort = state.entities.positions[0]
        for slot in _slots(state, Kind.PEST, owned=False):
            frame, clock = state.entities.frames[slot], int(state.entities.clock[slot])
            is_near = angle_between(state.players.positions, frame[:, 2]) < self.things.reach
            if clock > 0:
                frame, clock = moved(frame, np.asarray(0.0), np.asarray(self.things.flee_speed)), clock - 1
            elif is_near.sum() >= self.things.needed(state):
                frame = _facing(frame, -state.players.positions[is_near].sum(axis=0))
                clock = self.things.flee_ticks
                cell = int(self.planet.cells.of(frame[:, 2]))
                state = state.counted(Counter.CHASED, Event("chased", Scope.CELL, cell, int(slot)))
            elif angle_between(frame[:, 2], fort) > self.things.fort_radius / 2:
                frame = moved(_facing(frame, fort), np.asarray(0.0), np.asarray(self.things.pest_speed))
            state = replace(state, entities=state.entities.changed(int(slot), frames=frame, clock=clock))
        return state


def _slots(state: WorldState, kind: Kind, *, owned: bool) -> npt.NDArray[np.int64]:
    return np.flatnonzero((state.entities.kind == kind) & ((state.entities.owner >= 0) == owned))


def _told(state: WorldState, event: Event) -> WorldState:
    return replace(state, events=(*state.events, event))


def _facing(frame: npt.NDArray[np.float64], towards: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The frame turned so that its up points to a vector `[3]`."""
    right, up, _ = towards @ frame
    return turned(frame, np.asarray(-np.arctan2(right, up)))


def _between(pair: Sequence[float]) -> tuple[float, float]:
    least, most = pair
    return least, most
