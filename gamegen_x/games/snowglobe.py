"""Snowglobe: the built-in game, a small planet for 1 to 8 players whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame, Game, Keys, agent_names
from gamegen_x.games.snowglobe_camera import (
    Camera,
    OverheadCamera,
    Scene,
    SharedScreenCamera,
    carried_to,
    shared_frame,
)
from gamegen_x.games.snowglobe_conditions import FACTS, INSTRUCTIONS, instruction_effect
from gamegen_x.games.snowglobe_look import PLAYER_COLOURS, Look
from gamegen_x.games.snowglobe_perspective import PerspectiveCamera
from gamegen_x.games.snowglobe_planet import TERRAINS, Planet
from gamegen_x.games.snowglobe_rules import Carry, Counter, Hand, MovePests, RollBalls, Things, Throw
from gamegen_x.games.snowglobe_scene import things_to_see
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.world.events import Event, heard_by
from gamegen_x.world.facts import Facts
from gamegen_x.world.rules import Jump, Meet, Remember, Walk, Wishes
from gamegen_x.world.snapshot import settled
from gamegen_x.world.spawn import fair_places, places_at
from gamegen_x.world.sphere import Cells, frame_at, orthonormal
from gamegen_x.world.state import Conditions, Entities, Floats, Players, Rule, WorldState

KEYS = ("w", "a", "s", "d", "space", "e", "q")
CAMERAS = ("overhead", "third_person", "first_person", "shared_screen")
_MOST_CLASSES = max(len(classes) for classes in FACTS.values())


class Snowglobe(Game):
    """W A S D roll the planet under a player along the camera's axes, Q turns the camera.

    Space jumps or throws the snowball in hand, E picks up snow or rolls a big snowball together with somebody. Words
    change weather, time of day and season.
    """

    metadata = {"name": "snowglobe", "render_modes": []}  # noqa: RUF012  (PettingZoo reads it from the class)

    def __init__(
        self,
        keys: ActionSpace,
        num_players: int,
        camera: str,
        height: int,
        width: int,
        fps: float,
        split: str,
        planets: Mapping[str, Sequence[int]],  # of each split: the first planet's number, and how many there are
        num_landmarks: int,
        nside: int,  # of the HEALPix cells that index the planet
        view_angle: float,  # radians from the middle of the picture to its edge
        player_radius: float,  # radians
        step_angle: float,  # radians a frame
        turn_angle: float,  # radians a frame
        jump_frames: int,
        blend_frames: int,
        near: Mapping[str, float],  # radians: players meet closer than `enter` and part farther than `leave`
        start_near: Mapping[str, float],  # share of players that start near the first, and how many steps at most
        start_conditions: Mapping[str, Mapping[str, float]],  # fact -> class -> how often
        things: Things,
    ) -> None:
        if not 1 <= num_players <= len(PLAYER_COLOURS):
            raise ValueError(f"Snowglobe takes 1 to {len(PLAYER_COLOURS)} players, got num_players={num_players}")
        if set(keys.keys) != set(KEYS):
            raise ValueError(f"Snowglobe is played with the keys {list(KEYS)}, got {list(keys.keys)}")
        if min(height, width) < 8:
            raise ValueError(f"Snowglobe's pictures are at least 8x8 pixels, got height={height} and width={width}")
        self.keys, self.num_players, self.camera = keys, num_players, camera
        self.height, self.width, self.fps = height, width, fps
        self.licence, self.attribution = "Apache-2.0", "Snowglobe, the built-in game of GameGen-X"
        self.facts = {**FACTS, "terrain": TERRAINS}
        self.split, self.planets, self.num_landmarks = split, planets, num_landmarks
        self.cells = Cells(nside)
        self.player_radius, self.blend_frames, self.jump_frames = player_radius, blend_frames, jump_frames
        self.start_near, self.start_conditions, self.things = start_near, start_conditions, things
        self.walk = Walk(step_angle, turn_angle)
        self.meet = Meet(near["enter"], near["leave"], Counter.MEETINGS)
        self.possible_agents = agent_names(num_players)
        self.agents: list[str] = []
        self.view_angle = view_angle
        self.eyes = _camera(camera, height, width, view_angle)
        self._key_index = [keys.keys.index(key) for key in KEYS]
        self._look: tuple[bytes, Look] | None = None

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Frame], dict[str, dict[str, Any]]]:
        """Starts an episode. `options={"split": ...}` picks planets of another split than the constructor's."""
        rng = np.random.default_rng(seed)
        split = (options or {}).get("split", self.split)
        if split not in self.planets:
            raise ValueError(f"Snowglobe has planets for the splits {list(self.planets)}, got split={split!r}")
        first, count = self.planets[split]
        self._land_on(int(first + rng.integers(count)))
        frames = self._start_frames(rng)
        state_seed = int(rng.integers(2**31))
        num_players = self.num_players
        self.state = settled(
            WorldState(
                seed=state_seed,
                tick=-1,
                players=Players(
                    frames=frames,
                    airborne=np.zeros(num_players, np.int32),
                    carrying=np.zeros(num_players, np.int32),
                    is_acting=np.zeros((num_players, 2), bool),
                    near=np.zeros((num_players, num_players), bool),
                ),
                entities=self.things.placed(self.planet, frames[0, :, 2], num_players, state_seed),
                conditions=self._start_conditions(rng),
                counters=np.zeros(len(Counter), np.int32),
            )
        )
        self.agents = list(self.possible_agents)
        return self.views(self.state), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Keys]
    ) -> tuple[dict[str, Frame], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Everybody is rewarded alike, for what was achieved together. An info holds the events that a player hears."""
        before = self.state
        self.advance(np.stack([actions[agent] for agent in self.agents]))
        state = self.state
        gained = state.counters - before.counters
        reward = float(
            gained[Counter.DELIVERED] * self.things.points["delivered"]
            + gained[Counter.CHASED] * self.things.points["chased"]
        )
        heard = self.heard(state)
        return (
            self.views(self.state),
            dict.fromkeys(self.agents, reward),
            dict.fromkeys(self.agents, False),
            dict.fromkeys(self.agents, False),
            {agent: {"events": events} for agent, events in zip(self.agents, heard, strict=True)},
        )

    def advanced(self, state: WorldState, held: npt.NDArray[np.uint8]) -> WorldState:
        """The world one tick after any of its states, under the keys `[p k]`. Changes nothing and draws nothing."""
        state = state.step(self.wishes(held), self.rules)
        if self.camera == "shared_screen":  # everyone moves in the axes of the one picture
            frames = carried_to(shared_frame(state.players.frames), state.players.positions)
            state = settled(replace(state, players=replace(state.players, frames=frames)))
        return state

    def told(self, state: WorldState, text: str) -> WorldState:
        """Any state after a sentence, which shows from its next tick on. Raises ValueError as `instruct`."""
        fact, name = instruction_effect(text)
        return state.asked(list(FACTS).index(fact), FACTS[fact].index(name), self.blend_frames)

    def heard(self, state: WorldState) -> list[tuple[Event, ...]]:
        """The events of a state's tick that reach each player."""
        return heard_by(state.events, state.players.positions, self.cells)

    def views(self, state: WorldState) -> dict[str, Frame]:
        """What each player sees of any state of this world."""
        weights = state.conditions.weights(state.tick, self.blend_frames)
        if self._look is None or self._look[0] != weights.tobytes():
            self._look = (weights.tobytes(), Look.of(weights))
        things = things_to_see(state, self.things, self.player_radius, self.jump_frames)
        scene = Scene(self.planet, self._look[1], things, state.tick)
        eyes, frames = self.eyes, state.players.frames
        if self.camera == "shared_screen":
            picture = eyes.view(frames, 0).render(scene)
            return {agent: picture.copy() for agent in self.agents}
        return {agent: eyes.view(frames, seat).render(scene) for seat, agent in enumerate(self.agents)}

    def advance(self, held: npt.NDArray[np.uint8]) -> None:
        """One tick under the keys held `[p k]`, without a picture."""
        self.state = self.advanced(self.state, held)

    def restore(self, facts: Facts) -> None:
        """Goes on from one frame of `facts_now`. What facts do not tell, such as a thing's flight, begins anew."""
        num_players = len(facts["pose"])
        if num_players != self.num_players:
            raise ValueError(f"this game has num_players={self.num_players}, the facts are of {num_players}")
        self._land_on(int(facts["planet"]))
        places = facts["thing_place"].astype(np.float64)
        owned = range(num_players)
        target = np.array([facts[fact] for fact in FACTS], np.int32)
        self.state = settled(
            WorldState(
                seed=self.planet.number,
                tick=-1,
                players=Players(
                    frames=orthonormal(facts["pose"].astype(np.float64)),
                    airborne=facts["airborne"].astype(np.int32),
                    carrying=facts["carrying"].astype(np.int32),
                    is_acting=np.zeros((num_players, 2), bool),
                    near=facts["near"].astype(bool),
                ),
                entities=Entities(
                    kind=facts["thing_kind"].astype(np.int32),
                    frames=np.stack([frame_at(place, 0.0) for place in places]),
                    clock=np.zeros(len(places), np.int32),
                    owner=np.array([-1] * (len(places) - num_players) + list(owned), np.int32),
                ),
                conditions=Conditions(
                    target, np.full(len(FACTS), -self.blend_frames, np.int32), np.eye(_MOST_CLASSES)[target]
                ),
                counters=facts["counters"].astype(np.int32),
            )
        )
        self.agents = list(self.possible_agents)

    def wishes(self, held: npt.NDArray[np.uint8]) -> Wishes:
        """What the keys `[p k]` ask for: opposite keys cancel each other."""
        w, a, s, d, space, e, q = held[:, self._key_index].astype(np.float64).T
        return Wishes(right=d - a, up=w - s, turn=q, acting=np.stack([space, e], axis=-1) > 0)

    def instructions(self) -> tuple[str, ...]:
        return tuple(INSTRUCTIONS)

    def useful_instructions(self) -> tuple[str, ...]:
        now = {
            (fact, classes[self.state.conditions.target[number]])
            for number, (fact, classes) in enumerate(FACTS.items())
        }
        return tuple(phrase for phrase, effect in INSTRUCTIONS.items() if effect not in now)

    def instruct(self, text: str) -> None:
        self.state = self.told(self.state, text)

    def outcome(self) -> dict[str, Any]:
        return self.outcome_of(self.state)

    def outcome_of(self, state: WorldState) -> dict[str, Any]:
        """How any state of this world stands, as `outcome` tells it."""
        counts = {counter.name.lower(): int(state.counters[counter]) for counter in Counter}
        score = sum(counts[name] * points for name, points in self.things.points.items())
        return {"score": score, **counts, "planet": self.planet.number}

    def facts_now(self) -> dict[str, npt.NDArray[Any]]:
        """The truth of this frame, as arrays.

        `pose` [p 3 3] (columns right, up, position), `visible` [p p] and `screen_xy` [p p 2] (the row's player sees
        the column's, and at which pixel), `near` [p p], `airborne`, `carrying` and `terrain` [p], the classes of the
        sky, `thing_kind` [n] and `thing_place` [n 3], `counters`, `planet`.
        """
        return self.facts_of(self.state)

    def facts_of(self, state: WorldState) -> dict[str, npt.NDArray[Any]]:
        """The truth of any state of this world, as `facts_now` tells it."""
        seen = [
            self.eyes.view(state.players.frames, seat).project(state.players.positions)
            for seat in range(self.num_players)
        ]
        visible = np.stack([is_inside for _, is_inside in seen])
        places = np.stack([places for places, _ in seen]).astype(np.float32)
        places[~visible] = np.nan
        facts: dict[str, npt.NDArray[Any]] = {
            "pose": state.players.frames.astype(np.float32),
            "visible": visible,
            "screen_xy": places,
            "near": state.players.near,
            "airborne": state.players.airborne.astype(np.uint8),
            "carrying": (state.players.carrying == Hand.SNOWBALL).astype(np.uint8),
            "terrain": self.planet.terrain(state.players.positions).astype(np.uint8),
            "thing_kind": state.entities.kind.astype(np.uint8),
            "thing_place": state.entities.positions.astype(np.float32),
            "counters": state.counters,
            "planet": np.asarray(self.planet.number, np.int64),
        }
        for number, fact in enumerate(FACTS):
            facts[fact] = np.asarray(state.conditions.target[number], np.uint8)
        return facts

    def _land_on(self, planet: int) -> None:
        self.planet = Planet.make(planet, self.num_landmarks, self.cells)
        self.rules: tuple[Rule, ...] = (
            self.walk,
            Throw(self.things, self.player_radius),
            Jump(self.jump_frames),
            Carry(self.planet, self.things),
            RollBalls(self.planet, self.things, self.walk.step_angle),
            MovePests(self.planet, self.things),
            self.meet,
            Remember(),
        )

    def _start_frames(self, rng: np.random.Generator) -> Floats:
        """The first player stands somewhere by chance, most others near them, the rest far from everybody."""
        hazard = self.planet.is_hazard
        places = fair_places(rng, 1, self.cells, hazard, taken=np.zeros((0, 3)))
        for _ in range(1, self.num_players):
            if rng.uniform() < self.start_near["share"] or self.camera == "shared_screen":
                between = (0.0, self.start_near["steps"] * self.walk.step_angle)
                place = places_at(rng, places[0], between, self.cells, hazard, tries=8)[None]
            else:
                place = fair_places(rng, 1, self.cells, hazard, taken=places)
            places = np.concatenate([places, place])
        headings = rng.uniform(0, 2 * np.pi, self.num_players)
        frames = np.stack([frame_at(place, heading) for place, heading in zip(places, headings, strict=True)])
        return carried_to(frames[0], places) if self.camera == "shared_screen" else frames

    def _start_conditions(self, rng: np.random.Generator) -> Conditions:
        target = np.zeros(len(FACTS), np.int32)
        for number, (fact, classes) in enumerate(FACTS.items()):
            shares = np.array([self.start_conditions[fact][name] for name in classes], np.float64)
            target[number] = rng.choice(len(classes), p=shares / shares.sum())
        return Conditions(target, np.full(len(FACTS), -self.blend_frames, np.int32), np.eye(_MOST_CLASSES)[target])


def _camera(kind: str, height: int, width: int, view_angle: float) -> Camera:
    if kind == "overhead":
        return OverheadCamera(height, width, view_angle)
    if kind == "shared_screen":
        return SharedScreenCamera(height, width, view_angle)
    if kind == "third_person":
        return PerspectiveCamera(
            height, width, eye=(-0.27, 1.2), target=(0.12, 1.0), field_of_view=1.3, hides_self=False
        )
    if kind == "first_person":
        return PerspectiveCamera(height, width, eye=(0.0, 1.1), target=(0.3, 1.02), field_of_view=1.4, hides_self=True)
    raise ValueError(f"Snowglobe's cameras are {list(CAMERAS)}, got camera={kind!r}")
