"""One player's Doom engine, in a process of its own, in step with the engines of the other players.

The engines talk to each other over the loopback network, as in a game among friends. The host applies its player's
keys at once, but a guest's keys travel, and act one tic later or more. So before the world moves for a frame, it stands
still (Doom's pause) until everybody's keys have arrived. Then all keys of a row act in the same tics, those that the
frame shows. Standing changes nothing in the world, not even its clock.
"""

from __future__ import annotations

import os
import signal
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
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
# Two engines let the host order all keys: their game is fast and can be repeated to the bit. That mode waits for ever
# with more of them, because the clock that would make the host send again is ours. They send to each other, then, and
# are now and then some tics ahead with their keys.
_HOST_ORDERS, _EACH_SENDS = 1, 0
_STANDING_TICS = {_HOST_ORDERS: 1, _EACH_SENDS: 4}
_VARIABLES = (
    *(f"{name}_{axis}" for name in ("POSITION", "VELOCITY") for axis in "XYZ"),
    *("ANGLE", "HEALTH", "SELECTED_WEAPON", "SELECTED_WEAPON_AMMO", "FRAGCOUNT", "DEATHCOUNT"),
)
_QUEUE = "ViZDoomMQCtr"  # how the name of a file begins that ends with the number of an engine
_LIVING_PLAYER = "DoomPlayer"  # a dead one has another name


@dataclass(frozen=True)
class EngineSettings:
    """What an engine needs to know, as plain values."""

    seat: int  # seat 0 hosts
    num_seats: int
    scenario: str  # "arena", or a WAD file: a path, or a name among those that come with the engine
    map_name: str
    screen_resolution: str
    height: int  # of the picture that is handed out
    width: int
    buttons: Sequence[str]  # the engine's name of each key's button, in the order of the keys
    turn_units: int  # 65536ths of a circle that a turning key turns in a tic
    arguments: str  # more of the engine's own
    seconds: float  # how long to wait for the other seats

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


class Engine:
    """Owns a process that runs one engine, and every process and file that comes from it."""

    def __init__(self, settings: EngineSettings, context: Any, barrier: Barrier) -> None:
        self.settings = settings
        self.log = Path(tempfile.mkstemp(prefix=f"vizdoom-seat{settings.seat}-", suffix=".log")[1])
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_run, args=(theirs, barrier, settings, self.log), daemon=True, name=f"vizdoom-seat{settings.seat}"
        )
        self.process.start()
        theirs.close()

    def send(self, *order: Any) -> None:
        with suppress(OSError):  # the answer will say what happened
            self.connection.send(order)

    def receive(self, seconds: float) -> Any:
        """The answer to the order sent last. Raises RuntimeError with the engine's last words where there is none."""
        try:
            if not self.connection.poll(seconds):
                raise RuntimeError(self._trouble(f"gave no answer for {seconds:g} seconds"))
            answer = self.connection.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError(self._trouble("ended by itself")) from None
        if isinstance(answer, str):
            raise RuntimeError(self._trouble(f"failed: {answer}"))
        return answer

    def stop(self, seconds: float) -> None:
        """Asks the engine to leave, and after so many seconds ends its process group: engines ignore SIGTERM."""
        self.send("leave")
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
        words = " | ".join(self.log.read_text(errors="replace").split("\n")[-4:]).strip(" |")
        return f"the engine of seat {self.settings.seat} {what}; its last words: {words or 'none'}"


def _shared_memory(pid: int | None) -> list[Path]:
    """The files through which a killed engine spoke to its process: nobody else would remove them."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return []  # only Linux keeps them as files
    queues = {Path(line.split()[-1]) for line in lines if _QUEUE in line and "(deleted)" not in line}
    return [path for queue in queues for path in queue.parent.glob(f"ViZDoom*{queue.name.removeprefix(_QUEUE)}")]


def _run(connection: Connection, barrier: Barrier, settings: EngineSettings, log: Path) -> None:
    """The life of an engine's process: a game at each "start", a frame at each "step", until told to leave."""
    with suppress(AttributeError):
        os.setsid()  # the engine joins this group, so that both can be ended together
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever owns the game ends it
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    with tempfile.TemporaryDirectory(prefix="vizdoom-") as folder:
        seat = _Seat(settings, barrier, Path(folder))
        try:
            while True:
                order, *arguments = connection.recv()
                if order == "leave":
                    seat.close()
                    return
                connection.send(getattr(seat, order)(*arguments))
        except Exception as mistake:  # an EOFError says that the owner is gone
            traceback.print_exc()
            with suppress(OSError, EOFError):
                connection.send(f"{type(mistake).__name__}: {mistake}")
                connection.recv()  # the owner decides when this process ends
    for path in _shared_memory(os.getpid()):
        path.unlink(missing_ok=True)
    with suppress(AttributeError):
        os.killpg(os.getpid(), signal.SIGKILL)  # with the engine, which may wait for ever


class _Seat:
    """The engine itself, as its process sees it."""

    def __init__(self, settings: EngineSettings, barrier: Barrier, folder: Path) -> None:
        self.settings, self.barrier, self.folder = settings, barrier, folder
        self.game: Any = None

    def start(self, seed: int, port: int) -> SeatView:
        """Meets the other seats and starts a game: its first picture."""
        import vizdoom

        self.close()
        settings = self.settings
        game = self.game = vizdoom.DoomGame()
        game.set_doom_config_path(str(self.folder / "engine.ini"))
        game.set_doom_scenario_path(str(self._scenario(Path(vizdoom.scenarios_path))))
        game.set_doom_map(settings.map_name)
        role = _GUEST if settings.seat else _HOST
        for arguments in (role, _EVERYONE, settings.arguments):
            game.add_game_args(
                arguments.format(
                    num_seats=settings.num_seats,
                    seat=settings.seat,
                    port=port,
                    netmode=settings.netmode,
                    turn=settings.turn_units,
                    colour=_COLOURS[settings.seat],
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
        game.init()
        return self._view()

    def step(self, held: npt.NDArray[np.uint8], num_tics: int) -> SeatView:
        """Lets the world stand until the keys `[k]` have arrived, and move for `num_tics` with them held."""
        standing = _STANDING_TICS[self.settings.netmode]
        self.game.set_action(held.astype(float).tolist())
        for tic in range(standing + num_tics):
            self.barrier.wait(self.settings.seconds)  # nobody runs ahead
            if self.settings.seat == 0 and tic in (0, standing):
                self.game.send_game_command("pause")  # stops the world, or lets it go on
            self.game.advance_action(1, tic == standing + num_tics - 1)
        return self._view()

    def close(self) -> None:
        if self.game is not None:
            self.game.close()

    def _view(self) -> SeatView:
        state, size = self.game.get_state(), (self.settings.width, self.settings.height)
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
            tic=self.game.get_episode_time(),
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
