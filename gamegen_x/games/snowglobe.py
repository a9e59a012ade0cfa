"""Snowglobe: the built-in game, a small planet for 1 to 8 players whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame, Game, Keys, agent_names
from gamegen_x.games.snowglobe_camera import Disc, OverheadCamera
from gamegen_x.games.snowglobe_conditions import FACTS, INSTRUCTIONS, instruction_effect
from gamegen_x.games.snowglobe_look import PLAYER_COLOURS, Look
from gamegen_x.games.snowglobe_planet import Planet
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.world.sphere import frame_at, moved, random_directions, turned
from gamegen_x.world.state import Conditions, WorldState

KEYS = ("w", "a", "s", "d", "space", "e", "q")
_MOST_CLASSES = max(len(classes) for classes in FACTS.values())
_SHADOW = np.zeros(3, np.float32)


class Snowglobe(Game):
    """W A S D roll the planet under a player, space jumps, E interacts, Q turns the camera; words change the sky."""

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
        view_angle: float,  # radians from the middle of the picture to its edge
        player_radius: float,  # radians
        step_angle: float,  # radians a frame
        turn_angle: float,  # radians a frame
        jump_frames: int,
        blend_frames: int,
        start_near: Mapping[str, float],  # share of episodes, and how many steps apart at most
        start_conditions: Mapping[str, Mapping[str, float]],  # fact -> class -> how often
    ) -> None:
        if not 1 <= num_players <= len(PLAYER_COLOURS):
            raise ValueError(f"Snowglobe takes 1 to {len(PLAYER_COLOURS)} players, got num_players={num_players}")
        if set(keys.keys) != set(KEYS):
            raise ValueError(f"Snowglobe is played with the keys {list(KEYS)}, got {list(keys.keys)}")
        self.keys, self.num_players, self.camera = keys, num_players, camera
        self.height, self.width, self.fps = height, width, fps
        self.licence, self.attribution = "Apache-2.0", "Snowglobe, the built-in game of GameGen-X"
        self.facts = FACTS
        self.split, self.planets, self.num_landmarks = split, planets, num_landmarks
        self.step_angle, self.turn_angle = step_angle, turn_angle
        self.player_radius, self.jump_frames, self.blend_frames = player_radius, jump_frames, blend_frames
        self.start_near, self.start_conditions = start_near, start_conditions
        self.possible_agents = agent_names(num_players)
        self.agents: list[str] = []
        self.view = _camera(camera, height, width, view_angle)
        self._key_index = {key: keys.keys.index(key) for key in KEYS}
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
        self.planet = Planet.make(int(first + rng.integers(count)), self.num_landmarks)
        self.state = WorldState(
            tick=-1,
            frames=self._start_frames(rng),
            airborne=np.zeros(self.num_players, np.int32),
            conditions=self._start_conditions(rng),
        )
        self.agents = list(self.possible_agents)
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Keys]
    ) -> tuple[dict[str, Frame], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        held = np.stack([np.asarray(actions[agent]) for agent in self.agents]).astype(bool)
        self.state = self._next_state(self.state, held)
        return (
            self._observations(),
            dict.fromkeys(self.agents, 0.0),
            dict.fromkeys(self.agents, False),
            dict.fromkeys(self.agents, False),
            {agent: {} for agent in self.agents},
        )

    def instructions(self) -> tuple[str, ...]:
        return tuple(INSTRUCTIONS)

    def useful_instructions(self) -> tuple[str, ...]:
        now = {
            (fact, classes[self.state.conditions.target[number]])
            for number, (fact, classes) in enumerate(FACTS.items())
        }
        return tuple(phrase for phrase, effect in INSTRUCTIONS.items() if effect not in now)

    def instruct(self, text: str) -> None:
        fact, name = instruction_effect(text)
        self.state = self.state.asked(list(FACTS).index(fact), FACTS[fact].index(name), self.blend_frames)

    def facts_now(self) -> dict[str, npt.NDArray[Any]]:
        """`pose` [p 3 3], who is `visible` to whom [p p] at which pixel `screen_xy` [p p 2], the classes of the sky."""
        seen = [self.view.project(frame, self.state.positions) for frame in self.state.frames]
        visible = np.stack([is_inside for _, is_inside in seen])
        places = np.stack([places for places, _ in seen]).astype(np.float32)
        places[~visible] = np.nan
        facts: dict[str, npt.NDArray[Any]] = {
            "pose": self.state.frames.astype(np.float32),
            "visible": visible,
            "screen_xy": places,
            "airborne": self.state.airborne.astype(np.uint8),
            "planet": np.int64(self.planet.number),  # type: ignore[dict-item]
        }
        facts |= {fact: np.uint8(self.state.conditions.target[number]) for number, fact in enumerate(FACTS)}  # type: ignore[misc]
        return facts

    def _next_state(self, state: WorldState, held: npt.NDArray[np.bool_]) -> WorldState:
        w, a, s, d, space, _, q = (held[:, self._key_index[key]].astype(np.float64) for key in KEYS)
        frames = turned(state.frames, q * self.turn_angle)
        frames = moved(frames, (d - a) * self.step_angle, (w - s) * self.step_angle)
        airborne = np.maximum(state.airborne - 1, 0)
        airborne = np.where((airborne == 0) & (space > 0), self.jump_frames, airborne).astype(np.int32)
        return replace(state, tick=state.tick + 1, frames=frames, airborne=airborne)

    def _start_frames(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        first = frame_at(random_directions(rng, 1)[0], rng.uniform(0, 2 * np.pi))
        frames = [first]
        for _ in range(1, self.num_players):
            if rng.uniform() < self.start_near["share"]:
                angle, way = rng.uniform(0, self.start_near["steps"]) * self.step_angle, rng.uniform(0, 2 * np.pi)
                frame = moved(first, np.asarray(angle * np.cos(way)), np.asarray(angle * np.sin(way)))
            else:
                frame = frame_at(random_directions(rng, 1)[0], 0.0)
            frames.append(turned(frame, np.asarray(rng.uniform(0, 2 * np.pi))))
        return np.stack(frames)

    def _start_conditions(self, rng: np.random.Generator) -> Conditions:
        target = np.zeros(len(FACTS), np.int32)
        for number, (fact, classes) in enumerate(FACTS.items()):
            shares = np.array([self.start_conditions[fact][name] for name in classes], np.float64)
            target[number] = rng.choice(len(classes), p=shares / shares.sum())
        return Conditions(target, np.full(len(FACTS), -self.blend_frames, np.int32), np.eye(_MOST_CLASSES)[target])

    def _observations(self) -> dict[str, Frame]:
        weights = self.state.conditions.weights(self.state.tick, self.blend_frames)
        if self._look is None or self._look[0] != weights.tobytes():
            self._look = (weights.tobytes(), Look.of(weights))
        look = self._look[1]
        return {agent: self._render(seat, look) for seat, agent in enumerate(self.agents)}

    def _render(self, seat: int, look: Look) -> Frame:
        frame = self.state.frames[seat]
        discs: list[Disc] = []
        for other in [*(number for number in range(self.num_players) if number != seat), seat]:
            height = float(np.sin(np.pi * self.state.airborne[other] / (self.jump_frames + 1)))
            place, radius = self.state.positions[other], self.player_radius
            if height > 0:
                below = moved(
                    frame_at(place, 0.0) if other != seat else frame,
                    np.asarray(0.3 * radius),
                    np.asarray(-0.5 * radius),
                )
                discs.append(Disc(below[:, 2], radius, _SHADOW, opacity=0.4 * height, softness=4.0))
            discs.append(Disc(place, radius * (1 + 0.3 * height), PLAYER_COLOURS[other], rim=0.55))
        return self.view.render(self.planet, look, frame, discs, self.state.tick)


def _camera(kind: str, height: int, width: int, view_angle: float) -> OverheadCamera:
    if kind != "overhead":
        raise ValueError(f"Snowglobe's cameras are ['overhead'], got camera={kind!r}")
    return OverheadCamera(height, width, view_angle)
