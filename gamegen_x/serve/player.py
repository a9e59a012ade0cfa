"""One player's socket: bytes are carried between it and a Connection until one of them is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gamegen_x.serve.connection import CLOSE_NORMALLY, Connection, ConnectionRules
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.frame_codec import Tier
from gamegen_x.serve.game_loop import TickClock, Viewer
from gamegen_x.serve.lobby import Lobby

POLL_SECONDS = 0.25  # how often a connection looks for what did not come


class Socket(Protocol):
    """What is used of a WebSocket."""

    async def receive(self) -> Mapping[str, Any]: ...
    async def send_bytes(self, data: bytes) -> None: ...
    async def send_text(self, data: str) -> None: ...
    async def close(self, code: int = CLOSE_NORMALLY, reason: str | None = None) -> None: ...


@dataclass(frozen=True)
class SocketRules:
    stall_s: float  # a send that takes longer belongs to somebody who reads no more
    max_sockets: int  # at once
    max_sockets_per_address: int
    message_bytes: int  # a longer one closes the socket before anything of ours reads it
    ping_s: float  # how often a socket is asked whether it still lives

    def __post_init__(self) -> None:
        if min(self.stall_s, self.ping_s) <= 0 or min(self.max_sockets, self.max_sockets_per_address) < 1:
            raise ValueError(
                "stall_s and ping_s are above 0 seconds, max_sockets and max_sockets_per_address at least 1"
            )


class Player:
    """Reads, writes and watches in three tasks; whichever ends first ends the others, and the seat is given back."""

    def __init__(
        self,
        socket: Socket,
        lobby: Lobby,
        rules: ConnectionRules,
        clock: TickClock,
        tier: Tier,
        stall_s: float,
        gone: tuple[type[Exception], ...] = (OSError,),  # what a socket raises when the other side has gone
    ) -> None:
        self.socket, self.lobby, self.clock, self.tier, self.stall_s = socket, lobby, clock, tier, stall_s
        self.connection = Connection(lobby.find, rules, clock.now())
        self.gone = (*gone, TimeoutError)
        self.viewer: Viewer | None = None
        self.wake = asyncio.Event()
        self._viewing = contextlib.ExitStack()

    async def play(self) -> None:
        tasks = {asyncio.create_task(work) for work in (self._read(), self._write(), self._watch())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with contextlib.suppress(*self.gone):
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.connection.lost(self.clock.now())
            self._viewing.close()

    async def _read(self) -> None:
        while not self.connection.close_code:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            self.connection.receive(message.get("text") or "" if data is None else data, self.clock.now())
            self._take_place()
            self.wake.set()
        await asyncio.sleep(self.stall_s)  # the writer says why and closes

    async def _write(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            is_closing = self.connection.close_code
            for data in self.connection.take():
                sending = self.socket.send_text(data) if isinstance(data, str) else self.socket.send_bytes(data)
                await asyncio.wait_for(sending, self.stall_s)
            if is_closing:
                await self.socket.close(is_closing, reason_of(is_closing))
                return

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.connection.poll(self.clock.now())
            if self.lobby.is_draining and not self.connection.close_code:
                self.connection.go_away()
            if self.connection.close_code:
                self.wake.set()

    def _take_place(self) -> None:
        """After Hello: the room's pictures are for this viewer too."""
        seat, room = self.connection.seat, self.connection.room
        if self.viewer is None and seat is not None and room is not None:
            self.viewer = Viewer(seat, self.tier, wake=self.wake)
            self._viewing.enter_context(self.lobby.viewing(self.viewer, room.name))


def reason_of(code: int) -> str:
    """What a close code says, for browsers that show it."""
    return next((each.value for each in ErrorCode if each.meaning.close == code), "")
