"""Console games for several players on one shared screen. GPL packages: pip install 'gamegen-x[atari]'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame, Game, Keys, agent_names
from gamegen_x.schema.action_space import ActionSpace

_MISSING = [name for name in ("multi_agent_ale_py", "ale_py") if find_spec(name) is None]
if _MISSING:
    raise ImportError(f"this game needs the packages {_MISSING}; install them with: pip install 'gamegen-x[atari]'")

TICKS_PER_SECOND = 60  # of the console
SIZE_UNIT = 8  # pixels that become one latent
SWITCHES = ("UP", "DOWN", "RIGHT", "LEFT", "FIRE")  # of a joystick
_POSES = ("", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")
# The emulator's numbers of what a joystick can do; "" is to let it go.
_ACTIONS = ("", "FIRE", *_POSES[1:], *(f"{pose}FIRE" for pose in _POSES[1:]))


class AtariGame(Game):
    """A console game whose players all look at one screen: every seat's view is that screen.

    The truth is the console's memory. Frame t shows the world after the keys of row t acted: a frame takes
    `60 / fps` of the console's ticks on average, and shows the brighter of the last two, because these consoles draw
    some figures only at every other tick. When all lives are lost a new game begins at once, so an episode never ends
    by itself. Same seed and keys, same pictures.
    """

    metadata = {"name": "atari", "render_modes": []}  # noqa: RUF012  (PettingZoo reads it from the class)

    def __init__(
        self,
        keys: ActionSpace,
        name: str,  # of the traces, and what error messages call the game
        rom: str,  # the name of a game that comes with ale-py, or the path of a file
        num_players: int,
        height: int,
        width: int,
        fps: float,
        joystick: Mapping[str, str],  # key -> the switch it closes: UP, DOWN, RIGHT, LEFT or FIRE
        places: Mapping[str, Sequence[int]],  # where the memory holds the players' x and y, one byte a player; or empty
        place_offset: Sequence[float],  # of a player's middle, in the console's pixels right and down of its x and y
        warm_up_seconds: Sequence[float],  # an episode starts in a game that was played at random for so long: from, to
        warm_up_hold: float,  # seconds that a random key is held in it
        licence: str,
        attribution: str,
    ) -> None:
        import multi_agent_ale_py

        if not 0 < fps <= TICKS_PER_SECOND:
            raise ValueError(f"{name} makes {TICKS_PER_SECOND} pictures a second at most, got fps={fps}")
        if height % SIZE_UNIT or width % SIZE_UNIT or min(height, width) < SIZE_UNIT:
            raise ValueError(f"height and width are multiples of {SIZE_UNIT}, got {height} x {width}")
        if sorted(joystick) != sorted(keys.keys) or not set(joystick.values()) <= set(SWITCHES):
            raise ValueError(
                f"joystick gives each of the keys {list(keys.keys)} one of {list(SWITCHES)}, got {dict(joystick)}"
            )
        if any(len(addresses) != num_players for addresses in places.values()):
            raise ValueError(
                f"places name one byte of the memory a player, got {dict(places)} for {num_players} players"
            )
        self.metadata = {**self.metadata, "name": name}
        self.keys, self.num_players, self.camera = keys, num_players, "shared_screen"
        self.height, self.width, self.fps = height, width, fps
        self.licence, self.attribution = licence, attribution
        self.possible_agents = agent_names(num_players)
        self.agents: list[str] = []
        self.joystick = [joystick[key] for key in keys.keys]
        self.places, self.place_offset = places, np.asarray(place_offset, np.float64)
        self.warm_up_seconds, self.warm_up_hold = warm_up_seconds, warm_up_hold
        self._console = multi_agent_ale_py.ALEInterface()
        self._console.setLoggerMode("error")
        self._console.setInt(b"random_seed", 0)
        self._console.setFloat(b"repeat_action_probability", 0.0)
        self._console.loadROM(str(_rom_path(rom)))
        modes = [int(mode) for mode in self._console.getAvailableModes(num_players)]
        if not modes:
            raise ValueError(f"{name} has no mode for num_players={num_players}")
        self._mode = modes[0]
        self._rng = np.random.default_rng()

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002  (PettingZoo's signature)
    ) -> tuple[dict[str, Frame], dict[str, dict[str, Any]]]:
        """Starts somewhere in the first seconds of a game, where the seed says."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._console.setMode(self._mode)
        self._frame, self._game_number = 0, 0
        self._begin_game()
        self._screens = [self._screen()] * 2
        shortest, longest = self.warm_up_seconds
        num_ticks = round(self._rng.uniform(shortest, longest) * TICKS_PER_SECOND)
        hold = max(1, round(self.warm_up_hold * TICKS_PER_SECOND))
        for start in range(0, num_ticks, hold):
            held = self._rng.integers(0, 2, (self.num_players, self.num_keys), np.uint8)
            self._play(held, min(hold, num_ticks - start))
        self.agents = list(self.possible_agents)
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Keys]
    ) -> tuple[dict[str, Frame], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Rewards are points."""
        held = np.stack([np.asarray(actions[agent], np.uint8) for agent in self.agents])
        before = self._score.copy()
        self._play(held, self._ticks_until(self._frame + 1) - self._ticks_until(self._frame))
        self._frame += 1
        return (
            self._observations(),
            dict(zip(self.agents, (self._score - before).tolist(), strict=True)),
            dict.fromkeys(self.agents, False),
            dict.fromkeys(self.agents, False),
            {agent: {} for agent in self.agents},
        )

    def facts_now(self) -> dict[str, npt.NDArray[Any]]:
        """The console's memory `ram` [128]; `score` and `lives` [p]; where `places` tell, `position` [p 2] in pixels.

        `game_number` counts the games of the episode. `screen_xy` and `visible` say the same as for other games: on
        one screen, everybody sees everybody.
        """
        ram = self._console.getRAM()
        facts = {
            "ram": ram.copy(),
            "score": self._score.astype(np.int32),
            "lives": np.array(self._console.allLives(), np.int16),
            "game_number": np.array(self._game_number, np.int32),
            "visible": np.ones((self.num_players, self.num_players), np.bool_),
        }
        if self.places:
            places = np.stack([ram[list(self.places[axis])] for axis in "xy"], axis=-1) + self.place_offset
            position = (places * self._scale()).astype(np.float32)
            facts["position"] = position
            facts["screen_xy"] = np.repeat(position[None], self.num_players, axis=0)
        return facts

    def outcome(self) -> dict[str, Any]:
        return {"score": self._score.tolist(), "games_finished": self._game_number}

    def close(self) -> None:
        """Nothing is held."""

    def _begin_game(self) -> None:
        self._console.reset_game()
        self._score = np.zeros(self.num_players, np.float64)

    def _play(self, held: npt.NDArray[np.uint8], num_ticks: int) -> None:
        """Holds the keys "p k" for so many ticks."""
        actions = [self._action(row) for row in held]
        for ticks_left in reversed(range(num_ticks)):
            if self._console.game_over():
                self._begin_game()
                self._game_number += 1
            self._score = self._score + np.asarray(self._console.act(actions))
            if ticks_left < len(self._screens):
                self._screens = [*self._screens[1:], self._screen()]

    def _action(self, held: npt.NDArray[np.uint8]) -> int:
        """The emulator's number for the keys held; opposite directions cancel out."""
        closed = {switch for switch, is_held in zip(self.joystick, held, strict=True) if is_held}
        for pair in ({"UP", "DOWN"}, {"RIGHT", "LEFT"}):
            if pair <= closed:
                closed -= pair
        return _ACTIONS.index("".join(switch for switch in SWITCHES if switch in closed))

    def _ticks_until(self, frame: int) -> int:
        return int(frame * TICKS_PER_SECOND / self.fps)

    def _screen(self) -> Frame:
        return np.array(self._console.getScreenRGB(), np.uint8)

    def _scale(self) -> npt.NDArray[np.float64]:
        height, width = self._screens[0].shape[:2]
        return np.array([self.width / width, self.height / height])

    def _observations(self) -> dict[str, Frame]:
        brighter = np.maximum(*self._screens)
        view = cv2.resize(brighter, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return {agent: view.copy() for agent in self.agents}


def _rom_path(rom: str) -> Path:
    import ale_py

    shipped = Path(ale_py.__file__).parent / "roms"
    for path in (Path(rom), shipped / f"{rom}.bin"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"no game {rom!r}: name the path of a file, or one of those in {shipped}")
