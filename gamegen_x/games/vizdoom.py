"""Doom for several players, all in step, each seeing through its own eyes. ViZDoom: pip install 'gamegen-x[games]'."""

from __future__ import annotations

import socket
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame, Game, Keys, agent_names
from gamegen_x.games.vizdoom_arena import COURT_NAMES, court_of
from gamegen_x.games.vizdoom_engine import Engines, EngineSettings, SeatView
from gamegen_x.schema.action_space import ActionSpace

if find_spec("vizdoom") is None:
    raise ImportError("this game needs the package vizdoom; install it with: pip install 'gamegen-x[games]'")

TICS_PER_SECOND = 35  # Doom's own clock
CIRCLE = 65536  # Doom's units of an angle
MOST_PLAYERS = 8  # that Doom lets into one game
SIZE_UNIT = 8  # pixels that become one latent
_SAME_PLACE = 1e-3  # map units


class VizdoomDuel(Game):
    """Players who hunt each other in one Doom world. Each has an engine of its own; all show the same tic.

    Frame t shows the world after the keys of row t acted, for every seat. Doom's clock ticks 35 times a second: a frame
    takes `35 / fps` tics on average (at 24 fps one or two), and the row's keys are held in all of them. An episode
    never ends by itself; who dies comes back. For two players, same seed and keys give the same pictures to the bit;
    more players are slower, and as much in step, but their engines cannot be repeated.
    """

    metadata = {"name": "vizdoom_duel", "render_modes": []}  # noqa: RUF012  (PettingZoo reads it from the class)

    def __init__(
        self,
        keys: ActionSpace,
        num_players: int,
        height: int,
        width: int,
        fps: float,
        scenario: str,  # "arena", or a WAD file: a path, or a name among those that come with ViZDoom
        map_name: str,
        screen_resolution: str,  # ViZDoom's name of the size that is rendered, before it is resized
        buttons: Mapping[str, str],  # key -> ViZDoom's name of a button
        turn_degrees: float,  # a second
        arguments: str,  # given to every engine as they are
        warm_up_seconds: float,  # played without keys before an episode starts
        answer_seconds: float,  # after which a silent engine is given up
        start_attempts: int,
    ) -> None:
        import vizdoom

        if not 2 <= num_players <= MOST_PLAYERS:
            raise ValueError(f"a duel takes 2 to {MOST_PLAYERS} players, got num_players={num_players}")
        if not 0 < fps <= TICS_PER_SECOND:
            raise ValueError(f"Doom makes {TICS_PER_SECOND} pictures a second at most, got fps={fps}")
        if height % SIZE_UNIT or width % SIZE_UNIT or min(height, width) < SIZE_UNIT:
            raise ValueError(f"height and width are multiples of {SIZE_UNIT}, got {height} x {width}")
        if sorted(buttons) != sorted(keys.keys):
            raise ValueError(f"every key needs its button: the keys are {list(keys.keys)}, got buttons {dict(buttons)}")
        _check_name("a button", buttons.values(), vizdoom.Button)
        _check_name("a screen resolution", [screen_resolution], vizdoom.ScreenResolution)
        if scenario != "arena" and not any(
            path.is_file() for path in (Path(scenario), Path(vizdoom.scenarios_path) / scenario)
        ):
            raise FileNotFoundError(
                f"no scenario {scenario!r}: name 'arena', a WAD file, or one of those in {vizdoom.scenarios_path}"
            )
        self.keys, self.num_players, self.camera = keys, num_players, "first_person"
        self.height, self.width, self.fps = height, width, fps
        self.licence = "BSD-3-Clause (Freedoom), MIT (ViZDoom)"
        self.attribution = "Pictures of Freedoom (https://freedoom.github.io), played in ViZDoom"
        self.facts = {"terrain": COURT_NAMES} if scenario == "arena" else {}
        self.possible_agents = agent_names(num_players)
        self.agents: list[str] = []
        self.warm_up_frames = round(warm_up_seconds * fps)
        self.answer_seconds, self.start_attempts = answer_seconds, start_attempts
        self._settings = EngineSettings(
            num_seats=num_players,
            scenario=scenario,
            map_name=map_name,
            screen_resolution=screen_resolution,
            height=height,
            width=width,
            buttons=[buttons[key] for key in keys.keys],
            turn_units=round(turn_degrees / TICS_PER_SECOND / 360 * CIRCLE),
            arguments=arguments,
        )
        self._engines: Engines | None = None
        self._end_engines: Callable[[], None] = lambda: None
        self._views: list[SeatView] = []
        self._frame = 0
        self._seeds = np.random.default_rng()

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002  (PettingZoo's signature)
    ) -> tuple[dict[str, Frame], dict[str, dict[str, Any]]]:
        """Starts a game from its first tic, again where an engine does not answer."""
        if seed is not None:
            self._seeds = np.random.default_rng(seed)
        engine_seed = int(self._seeds.integers(2**31))
        for attempt in range(self.start_attempts):
            try:
                self._start(engine_seed)
                break
            except RuntimeError:
                if attempt + 1 == self.start_attempts:
                    raise
        self._frame = 0
        self.agents = list(self.possible_agents)
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Keys]
    ) -> tuple[dict[str, Frame], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Rewards are frags. Raises RuntimeError where an engine is silent or the seats fell out of step."""
        frags = self._variable("FRAGCOUNT")
        self._advance(np.stack([np.asarray(actions[agent], np.uint8) for agent in self.agents]))
        rewards = self._variable("FRAGCOUNT") - frags
        return (
            self._observations(),
            dict(zip(self.agents, rewards.tolist(), strict=True)),
            dict.fromkeys(self.agents, False),
            dict.fromkeys(self.agents, False),
            {agent: {} for agent in self.agents},
        )

    def facts_now(self) -> dict[str, npt.NDArray[Any]]:
        """Where everybody is and how they are; who is `visible` to whom at which pixel, and `seen_position` [p p 3].

        `position` and `velocity` are `[p 3]` in map units and units a tic, `angle` `[p]` in degrees, anticlockwise from
        east, `terrain` `[p]` the court of the arena. `seen_position` is where the row's engine has the column's player,
        nan where it is dead.
        """
        places = self._positions()
        matches = [[_nearest(view.players, place) for place in places] for view in self._views]
        seen = [[_nearest(view.seen, place) for place in places] for view in self._views]
        for seat in range(self.num_players):
            seen[seat][seat] = None  # an engine labels its own player too, where it holds the weapon
        facts: dict[str, npt.NDArray[Any]] = {
            "position": places.astype(np.float32),
            "velocity": self._vectors("VELOCITY").astype(np.float32),
            "angle": self._variable("ANGLE").astype(np.float32),
            "health": self._variable("HEALTH").astype(np.int16),
            "weapon": self._variable("SELECTED_WEAPON").astype(np.uint8),
            "ammo": self._variable("SELECTED_WEAPON_AMMO").astype(np.int16),
            "frags": self._variable("FRAGCOUNT").astype(np.int16),
            "deaths": self._variable("DEATHCOUNT").astype(np.int16),
            "visible": np.array([[found is not None for found in row] for row in seen]),
            "screen_xy": _table(seen, slice(3, 5)).astype(np.float32),
            "seen_position": _table(matches, slice(0, 3)).astype(np.float32),
            "tic": np.array(self._views[0].tic, np.int32),
        }
        if self.facts:
            facts["terrain"] = court_of(places)
        return facts

    def outcome(self) -> dict[str, Any]:
        return {"frags": self._variable("FRAGCOUNT").tolist(), "deaths": self._variable("DEATHCOUNT").tolist()}

    def close(self) -> None:
        """Ends the engines, those that do not answer too."""
        self._end_engines()
        self._engines = None

    def _start(self, engine_seed: int) -> None:
        if self._engines is None:
            self._engines = Engines(self._settings)
            self._end_engines = weakref.finalize(self, self._engines.stop, self.answer_seconds)
        self._ask("start", engine_seed, _free_port())
        self._frame = 0
        idle = np.zeros((self.num_players, self.num_keys), np.uint8)
        frames_alive = 0  # players may start on one spot and die of it; who comes back stands still for a moment
        while frames_alive < self.warm_up_frames:
            self._advance(idle)
            frames_alive = frames_alive + 1 if min(self._variable("HEALTH")) > 0 else 0
            if self._frame > self.answer_seconds * self.fps:
                raise RuntimeError("somebody stays dead: the map has too few places to start from for so many players")

    def _advance(self, held: npt.NDArray[np.uint8]) -> None:
        num_tics = self._tics_until(self._frame + 1) - self._tics_until(self._frame)
        self._ask("step", held, num_tics)
        self._frame += 1
        self._check_step()

    def _ask(self, order: str, *arguments: Any) -> None:
        assert self._engines is not None, "reset comes before step"
        try:
            self._views = self._engines.ask(self.answer_seconds, order, *arguments)
        except RuntimeError:
            self._engines.kill()
            self.close()
            raise

    def _check_step(self) -> None:
        """All engines must show one world: the same tic, and every living player in the same place."""
        tics = [view.tic for view in self._views]
        alive = self._variable("HEALTH") > 0
        lost = [
            (row, column)
            for row, view in enumerate(self._views)
            for column, place in enumerate(self._positions())
            if alive[column] and _nearest(view.players, place) is None
        ]
        if len(set(tics)) > 1 or lost:
            raise RuntimeError(
                f"the seats fell out of step at frame {self._frame}: tics {tics}, "
                f"(seat, player it has elsewhere) {lost}; start the episode again"
            )

    def _tics_until(self, frame: int) -> int:
        return int(frame * TICS_PER_SECOND / self.fps)

    def _positions(self) -> npt.NDArray[np.float64]:
        return self._vectors("POSITION")

    def _vectors(self, name: str) -> npt.NDArray[np.float64]:
        return np.stack([self._variable(f"{name}_{axis}") for axis in "XYZ"], axis=1)

    def _variable(self, name: str) -> npt.NDArray[np.float64]:
        return np.array([view.variables[name] for view in self._views])

    def _observations(self) -> dict[str, Frame]:
        return {agent: view.frame for agent, view in zip(self.agents, self._views, strict=True)}


def _nearest(rows: npt.NDArray[np.float64], place: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """The row whose first three numbers are this place, or None."""
    for row in rows:
        if np.abs(row[:3] - place).max() < _SAME_PLACE:
            return row
    return None


def _table(rows: Sequence[Sequence[npt.NDArray[np.float64] | None]], part: slice) -> npt.NDArray[np.float64]:
    """A part of each entry, [p p n], nan where there is none."""
    nothing = np.full(part.stop - part.start, np.nan)
    return np.array([[nothing if found is None else found[part] for found in row] for row in rows])


def _check_name(what: str, names: Iterable[str], kinds: Any) -> None:
    unknown = [name for name in names if name not in kinds.__members__]
    if unknown:
        raise ValueError(f"{unknown} are not {what} of ViZDoom; it knows {sorted(kinds.__members__)}")


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
