"""Connection: one socket's server half without the socket. Bytes in, bytes out, and when to close.

It reads, limits and answers; what is lawful in the world the room decides. Whoever owns the socket calls `receive` for
each message, `poll` now and then, sends what `take` gives, and closes with `close_code` once that is set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gamegen_x.schema.control_signal import ControlSignal
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.protocol import (
    PROTOCOL,
    ClientMessage,
    Error,
    Hello,
    Leave,
    Message,
    Welcome,
    WireError,
    decode_client,
    encode,
    encode_text,
    error,
)
from gamegen_x.serve.room import Room
from gamegen_x.serve.seat import JoinError, Presence, Seat

CLOSE_NORMALLY = 1000


@dataclass(frozen=True)
class ConnectionRules:
    """Times in ticks."""

    hello_ticks: float  # until a connection that has not said Hello is closed
    silent_ticks: float  # until one that says nothing counts as lost
    window_ticks: float  # in which messages are counted
    max_messages: int  # in a window; what is beyond is dropped
    flood_messages: int  # in a window; beyond it the connection is closed
    malformed_ticks: float  # in which unreadable messages are counted
    max_malformed: int


Authorize = Callable[[Hello], bool]  # whether the token allows the role in that room


class Connection:
    def __init__(
        self,
        find_room: Callable[[str], Room | None],
        rules: ConnectionRules,
        now: float,
        authorize: Authorize = lambda _: True,
    ) -> None:
        self.find_room, self.rules, self.authorize = find_room, rules, authorize
        self.close_code = 0  # once it is set, send what is left and close
        self.room: Room | None = None
        self.seat: Seat | None = None
        self._visit = 0
        self._is_text = False
        self._opened_at = self._heard_at = now
        self._welcome: Welcome | None = None
        self._answers: deque[Message] = deque(maxlen=64)
        self._window_at, self._in_window, self._has_warned = now, 0, False
        self._malformed_at: deque[float] = deque()

    def receive(self, data: bytes | str, now: float) -> None:
        """Takes in one message, whatever it is. Never raises for what a client sent."""
        if self.close_code or not self._is_within_limits(now):
            return
        self._heard_at = now
        try:
            message = decode_client(data)
        except WireError as mistake:
            self._refuse(mistake, now)
            return
        if isinstance(message, Hello):
            self._is_text = isinstance(data, str)
            self._greet(message, now)
        elif self.seat is None or self.room is None:
            self._answer(ErrorCode.HELLO_EXPECTED)
        elif self._is_mine(self.seat):
            self._pass_on(self.room, self.seat, message, now)

    def poll(self, now: float) -> None:
        """Notices what did not come: a Hello in time, or any word for long; and whether the room let go of the seat."""
        if self.close_code:
            return
        if self.seat is None:
            if now - self._opened_at > self.rules.hello_ticks:
                self._close(ErrorCode.HELLO_TIMEOUT)
        elif self.seat.dismissed is not None:
            self._close(self.seat.dismissed)
        elif not self._is_mine(self.seat):
            self._close(ErrorCode.REPLACED)
        elif now - self._heard_at > self.rules.silent_ticks:
            self.lost(now)
            self.close_code = CLOSE_NORMALLY

    @property
    def is_seated(self) -> bool:
        """Whether its seat is still its own: somebody may have come back to it from elsewhere."""
        return self.seat is not None and self._is_mine(self.seat)

    def lost(self, now: float) -> None:
        """The socket is gone; the seat stays for a while."""
        if self.room is not None and self.seat is not None and self._is_mine(self.seat):
            self.room.lose(self.seat, now)

    def take(self) -> list[bytes | str]:
        """What is to be sent now, the most urgent first."""
        found: list[bytes | str] = [self._encoded(message) for message in self._answers]
        self._answers.clear()
        if self.seat is not None and self._is_mine(self.seat):
            while (message := self.seat.outbox.take()) is not None:
                found.append(self._encoded(message))
        return found

    def go_away(self) -> None:
        """The server shuts down: the player may come back with the resume token."""
        self._close(ErrorCode.GOING_AWAY)

    def _greet(self, hello: Hello, now: float) -> None:
        if self._welcome is not None:
            self._answers.append(self._welcome)  # the first was lost
            return None
        if hello.protocol != PROTOCOL:
            return self._close(ErrorCode.UNKNOWN_PROTOCOL, f"this server speaks {PROTOCOL}, not {hello.protocol}")
        room = self.find_room(hello.room)
        if room is None:
            return self._close(ErrorCode.UNKNOWN_ROOM, f"there is no room {hello.room!r}")
        if not self.authorize(hello):
            return self._close(ErrorCode.UNAUTHORIZED)
        try:
            self.seat, self._welcome = room.join(hello, now)
        except JoinError as refusal:
            return self._close(refusal.code, str(refusal), refusal.retry_after_ms)
        self.room, self._visit = room, self.seat.visit
        self._answers.append(self._welcome)
        return None

    def _pass_on(self, room: Room, seat: Seat, message: ClientMessage | ControlSignal, now: float) -> None:
        room.receive(seat, message, now)
        if isinstance(message, Leave):
            self.close_code = CLOSE_NORMALLY

    def _is_mine(self, seat: Seat) -> bool:
        return seat.presence is Presence.HERE and seat.visit == self._visit

    def _is_within_limits(self, now: float) -> bool:
        if now - self._window_at >= self.rules.window_ticks:
            self._window_at, self._in_window, self._has_warned = now, 0, False
        self._in_window += 1
        if self._in_window > self.rules.flood_messages:
            self._close(ErrorCode.FLOODING)
            self.lost(now)
        elif self._in_window > self.rules.max_messages:
            self._count_refused(ErrorCode.RATE_LIMITED)
            if not self._has_warned:
                self._has_warned = True
                self._answer(ErrorCode.RATE_LIMITED)
        else:
            return True
        return False

    def _refuse(self, mistake: WireError, now: float) -> None:
        self._count_refused(mistake.code)
        if mistake.code.meaning.close:
            self._answers.append(mistake.to_message())
            self.close_code = mistake.code.meaning.close
            self.lost(now)
            return
        self._malformed_at.append(now)
        while now - self._malformed_at[0] > self.rules.malformed_ticks:
            self._malformed_at.popleft()
        if len(self._malformed_at) >= self.rules.max_malformed:
            self._close(ErrorCode.TOO_MUCH_MALFORMED)
            self.lost(now)
        else:
            self._answers.append(mistake.to_message())

    def _count_refused(self, code: ErrorCode) -> None:
        if self.room is not None:
            self.room.metrics.refused[code.value] += 1

    def _answer(self, code: ErrorCode) -> None:
        self._answers.append(error(code))

    def _close(self, code: ErrorCode, said: str = "", retry_after_ms: int = 0) -> None:
        self._answers.append(error(code, said, retry_after_ms=retry_after_ms))
        self.close_code = code.meaning.close

    def _encoded(self, message: Message) -> bytes | str:
        data = encode_text(message) if self._is_text else encode(message)
        if self.room is not None and not isinstance(message, Error):
            self.room.metrics.count_message(type(message).__name__, len(data))
        return data
