"""Plain ways in, for programs that do not speak ggx.v1: bare JPEG over a socket; one request for one picture."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gamegen_x.serve.connection import Connection
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.frame_codec import split_pictures
from gamegen_x.serve.game_loop import Viewer
from gamegen_x.serve.player import Socket
from gamegen_x.serve.protocol import (
    PROTOCOL,
    Ack,
    Correction,
    Delta,
    Error,
    EventMessage,
    Frame,
    Hello,
    Keyframe,
    ServerMessage,
    Welcome,
    decode_server,
    encode,
)

if TYPE_CHECKING:
    from gamegen_x.serve.host import Host

CONTROL_PATIENCE_S = 5.0
_STATUS = {
    ErrorCode.UNKNOWN_ROOM: 404,
    ErrorCode.ROOM_FULL: 503,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.GOING_AWAY: 503,
    ErrorCode.RESUME_REFUSED: 410,
}


class Acknowledger:
    """Says for a plain client what a page would say: that states, events and pictures have come."""

    def __init__(self) -> None:
        self.state, self.event, self.frame = -1, 0, 0

    def ack(self, message: ServerMessage) -> bytes | None:
        """What to answer, if anything."""
        match message:
            case Welcome():
                self.event = message.event
                return None
            case Keyframe() | Delta():
                self.state = message.tick
            case EventMessage() | Correction():
                self.event = max(self.event, message.id)
            case Frame():
                self.frame = message.seq
            case _:
                return None
        return encode(Ack(self.state, self.event, self.frame))


class PlainSocket:
    """Wraps a socket: pictures go out as bare JPEG, JSON control signals come in, and the rest stays inside."""

    def __init__(self, socket: Socket, room: str) -> None:
        self.socket = socket
        self._acknowledger = Acknowledger()
        self._inside: deque[bytes] = deque([encode(Hello(PROTOCOL, room[:64]))])
        self._news = asyncio.Event()
        self._news.set()
        self._reading: asyncio.Task[Mapping[str, Any]] | None = None

    async def receive(self) -> Mapping[str, Any]:
        """What came from outside, or is to be answered from inside, whichever is first."""
        while not self._inside:
            self._news.clear()
            self._reading = self._reading or asyncio.ensure_future(self.socket.receive())
            news = asyncio.ensure_future(self._news.wait())
            try:
                await asyncio.wait({self._reading, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if self._reading.done():
                reading, self._reading = self._reading, None
                return reading.result()
        return {"type": "websocket.receive", "bytes": self._inside.popleft()}

    async def send_bytes(self, data: bytes) -> None:
        message = decode_server(data)
        if isinstance(message, Frame):
            for picture in split_pictures(message.payload):
                await self.socket.send_bytes(picture)
        elif isinstance(message, Error):
            await self.socket.send_text(f'{{"error": "{message.code.value}"}}')
        answer = self._acknowledger.ack(message)
        if answer is not None:
            self._inside.append(answer)
            self._news.set()

    async def send_text(self, data: str) -> None:
        raise AssertionError(f"a plain socket says Hello in binary, so it is answered in binary, got {data[:80]!r}")

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self.socket.close(code, reason)


class ControlError(ValueError):
    """A control request that a room did not take."""

    def __init__(self, status: int, message: str, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


async def control_once(host: Host, room: str, resume: str, signal: str) -> dict[str, Any]:
    """Takes a seat (again), holds the signal's keys until the next picture, and keeps the seat for the next call.

    Where the call fails all is as before: a seat that it took is given back, and one that it came back to keeps its
    token. Raises ControlError.
    """
    connection = Connection(host.lobby.find, host.harness.connection, host.clock.now())
    connection.receive(encode(Hello(PROTOCOL, room, resume=resume)), host.clock.now())
    welcome = _answer(connection)
    seat = connection.seat
    assert isinstance(welcome, Welcome)
    assert seat is not None
    viewer = Viewer(seat, host.best_tier)
    frame: Frame | None = None
    try:
        with host.lobby.viewing(viewer, room) as found:
            tick = found.room.tick
            connection.receive(signal, host.clock.now())
            async with asyncio.timeout(CONTROL_PATIENCE_S):
                frame = await _next_frame(connection, viewer, tick)
    except TimeoutError:
        raise ControlError(503, "no picture came in time; the world may be waiting for its model", 5) from None
    finally:
        if connection.room is not None and connection.is_seated:
            connection.room.let_go(seat)
            if frame is None and resume:
                seat.resume_before = resume
            elif frame is None:
                connection.room.leave(seat, host.clock.now())
        connection.lost(host.clock.now())
    picture = split_pictures(frame.payload)[-1]
    return {
        "seat": seat.number,
        "tick": frame.tick + frame.count - 1,
        "resume": welcome.resume,
        "codec": frame.codec,
        "frame": base64.b64encode(picture).decode(),
    }


def _answer(connection: Connection) -> ServerMessage:
    """The first thing said. Raises ControlError where it is a refusal."""
    for data in connection.take():
        message = decode_server(data)
        if isinstance(message, Error):
            raise ControlError(_STATUS.get(message.code, 422), message.message, -(-message.retry_after_ms // 1000))
        return message
    raise AssertionError("a Hello is answered at once")


async def _next_frame(connection: Connection, viewer: Viewer, tick: int) -> Frame:
    while True:
        for data in connection.take():
            message = decode_server(data)
            if isinstance(message, Error):
                raise ControlError(_STATUS.get(message.code, 422), message.message)
            if isinstance(message, Frame) and message.tick > tick:
                return message
        viewer.wake.clear()
        await viewer.wake.wait()
