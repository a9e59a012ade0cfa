"""Lobby: rooms by name. A game loop runs while somebody is in its room, and rests when the last has gone."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import numpy as np

from gamegen_x.games.door import Frame
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.game_loop import GameLoop, Viewer
from gamegen_x.serve.played_world import ServedWorld
from gamegen_x.serve.recorder import Recorder
from gamegen_x.serve.room import Room
from gamegen_x.serve.seat import JoinError, Presence

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
TRUTH, MODEL = "truth", "model"


@dataclass(frozen=True)
class RoomOrder:
    """What somebody asks of a new room. Raises ValueError on a name that cannot stand in a link."""

    name: str
    world: str
    num_players: int
    camera: str
    seed: int
    prompt: str = ""  # what a model is told of the world; empty: what the world looks like

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"a room's name has 1 to 32 small letters, digits and dashes, got {self.name[:40]!r}; try 'snow-hill'"
            )


@dataclass(eq=False)
class OpenRoom:
    """A room with all that belongs to it while it is open."""

    order: RoomOrder
    room: Room
    loop: GameLoop
    truth: ServedWorld
    recorder: Recorder
    close: Callable[[], None] = lambda: None  # what else is to be given back
    task: asyncio.Task[None] | None = None
    empty_since: float = field(default_factory=time.monotonic)
    _true_views: tuple[int, Sequence[Frame]] = (-1, ())  # of the tick that was asked for last, whoever asked

    @property
    def is_empty(self) -> bool:
        return not self.room.spectators and all(seat.presence is Presence.EMPTY for seat in self.room.seats)

    def true_view(self, seat: int) -> Frame:
        """What a player would see now if the game itself drew it."""
        tick, views = self._true_views
        if tick != self.room.tick or not views:
            tick = self.room.tick
            keys = np.zeros((1, self.room.world.num_players, self.room.world.keys.num_keys), np.uint8)
            views = self.truth.draw([self.room.state], keys)[0]
            self._true_views = tick, views
        return views[seat]


@dataclass(frozen=True)
class LobbyRules:
    max_rooms: int
    keep_empty_s: float  # how long a world waits for somebody to come back
    fsync_every_s: float  # how much of a session a crash may cost

    def __post_init__(self) -> None:
        if self.max_rooms < 1 or min(self.keep_empty_s, self.fsync_every_s) <= 0:
            raise ValueError(
                f"max_rooms is at least 1 and times are above 0 seconds, got {self.max_rooms}, "
                f"{self.keep_empty_s} and {self.fsync_every_s}"
            )


class Lobby:
    def __init__(self, make: Callable[[RoomOrder], OpenRoom], rules: LobbyRules) -> None:
        self.make, self.rules = make, rules
        self.rooms: dict[str, OpenRoom] = {}
        self.is_draining = False  # nobody new is let in
        self._opening = asyncio.Lock()

    def find(self, name: str) -> Room | None:
        found = self.rooms.get(name)
        return None if found is None or self.is_draining else found.room

    async def open(self, order: RoomOrder, may_make_space: bool = True) -> OpenRoom:
        """The room of that name: the one that is there, or a new one. Raises JoinError where no more fit: where none
        is empty, or none may be closed for it."""
        if order.name in self.rooms:  # whatever else is being built meanwhile
            return self.rooms[order.name]
        async with self._opening:
            if order.name not in self.rooms:
                if self.is_draining:
                    raise JoinError(ErrorCode.GOING_AWAY)
                is_full = len(self.rooms) >= self.rules.max_rooms
                if is_full and not (may_make_space and self._make_space()):
                    raise JoinError(ErrorCode.OVERLOADED, f"{self.rules.max_rooms} rooms are open, and no more fit")
                self.rooms[order.name] = await asyncio.to_thread(self.make, order)
        return self.rooms[order.name]

    @contextmanager
    def viewing(self, viewer: Viewer, name: str) -> Iterator[OpenRoom]:
        """Counts somebody in while they look at a room, and keeps its game loop going."""
        found = self.rooms[name]
        found.loop.viewers.append(viewer)
        if found.task is None:
            found.task = asyncio.create_task(found.loop.run(), name=f"loop of {name}")
        try:
            yield found
        finally:
            found.loop.viewers.remove(viewer)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks after the rooms until the server ends; then everything that was played is on the disk."""
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            self.is_draining = True
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
            for name in list(self.rooms):
                await self._close(name, is_over=False)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.rules.fsync_every_s)
            now = time.monotonic()
            for name, each in list(self.rooms.items()):
                await asyncio.to_thread(each.recorder.flush)
                if self.rooms.get(name) is not each:  # it made space for another one meanwhile
                    continue
                if each.task is not None and each.task.done():
                    await self._give_up(each, each.task)
                elif each.task is not None and not each.is_empty:
                    each.empty_since = now
                elif each.task is not None:
                    await _cancelled(each)
                elif now - each.empty_since > self.rules.keep_empty_s:
                    await self._close(name, is_over=True)

    async def _give_up(self, each: OpenRoom, task: asyncio.Task[None]) -> None:
        """A loop that fell over is a bug: it is logged, its players are let go, and other rooms notice nothing."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"the game loop of room {each.order.name!r} ended", "exception": task.exception()}
        )
        for seat in each.room.everybody():
            seat.dismissed = ErrorCode.INTERNAL
        each.task = None
        await self._close(each.order.name, is_over=True)

    def _make_space(self) -> bool:
        """Closes the room that has been empty for longest."""
        empty = [each for each in self.rooms.values() if each.is_empty and each.task is None]
        if not empty:
            return False
        oldest = min(empty, key=lambda each: each.empty_since)
        del self.rooms[oldest.order.name]
        oldest.recorder.close(is_over=True)
        oldest.close()
        return True

    async def _close(self, name: str, is_over: bool) -> None:
        found = self.rooms.pop(name)
        await _cancelled(found)
        found.close()
        await asyncio.to_thread(found.recorder.close, is_over)


async def _cancelled(each: OpenRoom) -> None:
    task, each.task = each.task, None
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
