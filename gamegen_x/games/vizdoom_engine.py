"""The Doom engines of all players, each a process, driven in step by one process of ours.

The engines talk to each other over the loopback network, as in a game among friends. The host applies its player's
keys at once, but a guest's keys travel, and act one tic later or more. So before the world moves for a frame, it stands
still (Doom's pause) until everybody's keys have arrived. Then all keys of a row act in the same tics, those that the
frame shows. Standing changes nothing in the world, not even its clock.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from gamegen_x.games.vizdoom_arena import write_arena

# No prediction: a player sees itself where the others see it. A turn has one speed from its first tic on.
_HOST = "-host {num_seats} -port {port} -netmode {netmode} -deathmatch +sv_forcerespawn 1 +viz_respawn_delay 1"
_GUEST = "-join 127.0.0.1 -port {port}"
_EVERYONE = (
    "-nosound +viz_nocheat 0 +cl_noprediction 1 +turnspeeds {turn} {turn} {turn} {turn} +sb_deathmatch_enable 0 "
    "+name P{seat} +colorset {colour}"
)
_COLOURS = (3, 7, 0, 4, 2, 1, 5, 6)  # Doom's numbers for the seats' armours: red, light blue, green, light grey, ...
# Two engines let the host order all keys. Their game is fast and can be repeated to the bit. They are driven one after
# the other, because the guest sends its keys a tic ahead; at the first tic it may not yet: then it moves beside the
# host after a moment. With more engines that mode waits for ever: the clock that would make the host send again is
# ours. They send to each other, then, all at once, and are now and then some tics ahead with their keys.
_HOST_ORDERS, _EACH_SENDS = 1, 0
_HEAD_START = 1.0  # seconds that the host gets at most
_STANDING_TICS = {_HOST_ORDERS: 1, _EACH_SENDS: 4}
_VARIABLES = (
    *(f"{name}_{axis}" for name in ("POSITION", "VELOCITY") for axis in "XYZ"),
    *("ANGLE", "HEALTH", "SELECTED_WEAPON", "SELECTED_WEAPON_AMMO", "FRAGCOUNT", "DEATHCOUNT"),
)
_QUEUE = "ViZDoomMQCtr"  # how the name of a file begins that ends with the number of an engine
_LIVING_PLAYER = "DoomPlayer"  # a dead one has another name


@dataclass(frozen=True)
class EngineSettings:
    """What the engines need to know, as plain values."""

    num_seats: int  # seat 0 hosts
    scenario: str  # "arena", or a WAD file: a path, or a name among those that come with the engine
    map_name: str
    screen_resolution: str
    height: int  # of the pictures that are handed out
    width: int
    buttons: Sequence[str]  # the engine's name of each key's button, in the order of the keys
    turn_units: int  # 65536ths of a circle that a turning key turns in a tic
    arguments: str  # more of the engine's own

    @property
    def netmode(self) -> int:
        return _HOST_ORDERS if self.num_seats == 2 else _EACH_SENDS


@dataclass(frozen=True)
class SeatView:
    """What one engine shows after a frame: its picture, and where it believes everybody is."""

    tic: int
    frame: npt.NDArray[np.uint8]  # h w 3
    variables: Mapping[str, float]
    players: npt.NDArray[np.float64]  # n 3: where this engine has the living players, its own among them
    seen: npt.NDArray[np.float64]  # m 5: positions (3) of the players in the picture, and their pixel's x and y


class Engines:
    """Owns the process that drives the engines, and every process and file that comes from it."""

    def __init__(self, settings: EngineSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self.log = Path(tempfile.mkstemp(prefix="vizdoom-", suffix=".log")[1])
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(theirs, settings, self.log), daemon=True, name="vizdoom")
        self.process.start()
        theirs.close()

    def ask(self, seconds: float, order: str, *arguments: Any) -> list[SeatView]:
        """What the seats show after an order. Raises RuntimeError with the engines' last words where nothing comes."""
        try:
            self.connection.send((order, *arguments))
            if not self.connection.poll(seconds):
                raise RuntimeError(self._trouble(f"gave no answer for {seconds:g} seconds"))
            answer = self.connection.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError(self._trouble("ended by themselves")) from None
        if isinstance(answer, str):
            raise RuntimeError(self._trouble(f"failed: {answer}"))
        return answer

    def stop(self, seconds: float) -> None:
        """Asks the engines to leave, and after so many seconds ends their process group: they ignore SIGTERM."""
        with suppress(OSError):
            self.connection.send(("leave",))
        self.process.join(seconds)
        if self.process.is_alive():
            self.kill()
        self.connection.close()
        self.log.unlink(missing_ok=True)

    def kill(self) -> None:
        pid = self.process.pid
        shared = _shared_memory(pid)
        try:
            os.killpg(pid, signal.SIGKILL)  # type: ignore[arg-type]
        except (AttributeError, ProcessLookupError):  # no such thing here, or not yet a group of its own
            self.process.kill()
        self.process.join()
        for path in shared:
            path.unlink(missing_ok=True)

    def _trouble(self, what: str) -> str:
        words = " | ".join(line.strip() for line in self.log.read_text(errors="replace").splitlines()[-4:])
        return f"the Doom engines {what}; their last words: {words or 'none'}"


def _shared_memory(pid: int | None) -> list[Path]:
    """The files through which killed engines spoke to their process: nobody else would remove them."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return []  # only Linux keeps them as files
    queues = {Path(line.split()[-1]) for line in lines if _QUEUE in line and "(deleted)" not in line}
    return [path for queue in queues for path in queue.parent.glob(f"ViZDoom*{queue.name.removeprefix(_QUEUE)}")]


def _run(connection: Connection, settings: EngineSettings, log: Path) -> None:
    """The life of the process: a game at each "start", a frame at each "step", until told to leave."""
    with suppress(AttributeError):
        os.setsid()  # the engines join this group, so that all can be ended together
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever owns the game ends it
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    with tempfile.TemporaryDirectory(prefix="vizdoom-") as folder:
        seats = _Seats(settings, Path(folder))
        try:
            while True:
                order, *arguments = connection.recv()
                if order == "leave":
                    seats.close()
                    return
                connection.send(getattr(seats, order)(*arguments))
        except Exception as mistake:  # an EOFError says that the owner is gone
            traceback.print_exc()
            with suppress(OSError, EOFError):
                connection.send(f"{type(mistake).__name__}: {mistake}")
                connection.recv()  # the owner decides when this process ends
    for path in _shared_memory(os.getpid()):
        path.unlink(missing_ok=True)
    with suppress(AttributeError):
        os.killpg(os.getpid(), signal.SIGKILL)  # with the engines, which may wait for ever


class _Seats:
    """The engines themselves, as their process sees them: one a seat."""

    def __init__(self, settings: EngineSettings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.games: list[Any] = []
        self.threads = ThreadPoolExecutor(settings.num_seats)  # engines that wait for each other are driven at once

    def start(self, seed: int, port: int) -> list[SeatView]:
        """Lets the engines meet on a port and start a game: its first pictures."""
        self.close()
        self.games = [self._engine(seat, seed, port) for seat in range(self.settings.num_seats)]
        list(self.threads.map(lambda game: game.init(), self.games))
        return [self._view(game) for game in self.games]

    def step(self, held: npt.NDArray[np.uint8], num_tics: int) -> list[SeatView]:
        """Lets the world stand until the keys "p k" have arrived, and move for `num_tics` with them held."""
        for game, keys in zip(self.games, held, strict=True):
            game.set_action(keys.astype(float).tolist())
        standing = _STANDING_TICS[self.settings.netmode]
        for tic in range(standing + num_tics):
            if tic in (0, standing):
                self.games[0].send_game_command("pause")  # stops the world, or lets it go on
            self._advance(is_last=tic == standing + num_tics - 1)
        return [self._view(game) for game in self.games]

    def close(self) -> None:
        for game in self.games:
            game.close()

    def _advance(self, is_last: bool) -> None:
        """Moves every engine by one tic; only after the last one it draws."""
        moves: list[Future[None]] = []
        for game in self.games:
            moves.append(self.threads.submit(game.advance_action, 1, is_last))
            if self.settings.netmode == _HOST_ORDERS:
                wait(moves, _HEAD_START)  # so that engines do not spin while they wait for each other
        for move in moves:
            move.result()

    def _engine(self, seat: int, seed: int, port: int) -> Any:
        import vizdoom

        settings, game = self.settings, vizdoom.DoomGame()
        game.set_doom_config_path(str(self.folder / f"engine-{seat}.ini"))  # else settings of earlier runs come back
        game.set_doom_scenario_path(str(self._scenario(Path(vizdoom.scenarios_path))))
        game.set_doom_map(settings.map_name)
        for arguments in (_GUEST if seat else _HOST, _EVERYONE, settings.arguments):
            game.add_game_args(
                arguments.format(
                    num_seats=settings.num_seats,
                    seat=seat,
                    port=port,
                    netmode=settings.netmode,
                    turn=settings.turn_units,
                    colour=_COLOURS[seat],
                )
            )
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_window_visible(False)
        game.set_audio_buffer_enabled(False)
        game.set_render_hud(False)
        game.set_screen_resolution(getattr(vizdoom.ScreenResolution, settings.screen_resolution))
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_objects_info_enabled(True)
        game.set_labels_buffer_enabled(True)
        game.set_available_buttons([getattr(vizdoom.Button, name) for name in settings.buttons])
        game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in _VARIABLES])
        game.set_seed(seed)
        return game

    def _view(self, game: Any) -> SeatView:
        state, size = game.get_state(), (self.settings.width, self.settings.height)
        screen = state.screen_buffer
        scale = np.array(size) / (screen.shape[1], screen.shape[0])
        players = [
            (thing.position_x, thing.position_y, thing.position_z)
            for thing in state.objects
            if thing.name == _LIVING_PLAYER
        ]
        seen = [
            (
                label.object_position_x,
                label.object_position_y,
                label.object_position_z,
                (label.x + label.width / 2) * scale[0],
                (label.y + label.height / 2) * scale[1],
            )
            for label in state.labels
            if label.object_name == _LIVING_PLAYER
        ]
        return SeatView(
            tic=game.get_episode_time(),
            frame=cv2.resize(screen, size, interpolation=cv2.INTER_AREA),
            variables=dict(zip(_VARIABLES, map(float, state.game_variables), strict=True)),
            players=np.array(players, np.float64).reshape(-1, 3),
            seen=np.array(seen, np.float64).reshape(-1, 5),
        )

    def _scenario(self, shipped: Path) -> Path:
        name = self.settings.scenario
        if name != "arena":
            return Path(name) if Path(name).is_file() else shipped / name
        path = self.folder / "arena.wad"
        write_arena(path)
        return path
