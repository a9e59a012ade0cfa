"""ErrorCode: everything that can go wrong between a player and a room, each with what the player should do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Meaning:
    """What an error code says: whether trying again can help, and with which code a socket is closed (0: it stays)."""

    said: str
    is_retryable: bool = False
    close: int = 0


class ErrorCode(Enum):
    """The codes of `Error.code` on the wire. They are only ever added to."""

    MALFORMED = "malformed"
    TOO_MUCH_MALFORMED = "too_much_malformed"
    TOO_LARGE = "too_large"
    UNKNOWN_PROTOCOL = "unknown_protocol"
    HELLO_EXPECTED = "hello_expected"
    HELLO_TIMEOUT = "hello_timeout"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    UNKNOWN_ROOM = "unknown_room"
    ROOM_FULL = "room_full"
    RESUME_REFUSED = "resume_refused"
    REPLACED = "replaced"
    RATE_LIMITED = "rate_limited"
    FLOODING = "flooding"
    OTHER_SEAT = "other_seat"
    INPUT_TOO_LATE = "input_too_late"
    INPUT_IN_FUTURE = "input_in_future"
    INPUT_CHANGED = "input_changed"
    UNKNOWN_KEY = "unknown_key"
    TEXT_NOT_UNDERSTOOD = "text_not_understood"
    OVERLOADED = "overloaded"
    PAUSED = "paused"
    GOING_AWAY = "going_away"
    INTERNAL = "internal"

    @property
    def meaning(self) -> Meaning:
        return _MEANINGS[self]


_MEANINGS = {
    ErrorCode.MALFORMED: Meaning("the message could not be read; `field` names the part at fault, nothing was done"),
    ErrorCode.TOO_MUCH_MALFORMED: Meaning("too many unreadable messages in a short time", close=4400),
    ErrorCode.TOO_LARGE: Meaning("the message is longer than `Welcome.limits.message_bytes`", close=4413),
    ErrorCode.UNKNOWN_PROTOCOL: Meaning("this server speaks another version of the protocol; reload", close=4426),
    ErrorCode.HELLO_EXPECTED: Meaning("the first message must be a Hello; nothing was done"),
    ErrorCode.HELLO_TIMEOUT: Meaning("no Hello came in time", is_retryable=True, close=4408),
    ErrorCode.UNAUTHORIZED: Meaning("the token is missing, wrong, expired or revoked; log in again", close=4401),
    ErrorCode.FORBIDDEN: Meaning("this role may not send such a message, e.g. a spectator an Input"),
    ErrorCode.UNKNOWN_ROOM: Meaning("there is no such room", close=4404),
    ErrorCode.ROOM_FULL: Meaning("every seat is taken; try later, or watch", is_retryable=True, close=4409),
    ErrorCode.RESUME_REFUSED: Meaning(
        "the resume token is unknown, used, or its seat was released; join anew", close=4410
    ),
    ErrorCode.REPLACED: Meaning("another connection took this seat with its resume token", close=4411),
    ErrorCode.RATE_LIMITED: Meaning("more messages than allowed; this one was dropped", is_retryable=True),
    ErrorCode.FLOODING: Meaning("far more messages than allowed, for long", is_retryable=True, close=4429),
    ErrorCode.OTHER_SEAT: Meaning("an input for somebody else's seat; it was dropped"),
    ErrorCode.INPUT_TOO_LATE: Meaning("the input's tick is older than the room can go back; it was dropped"),
    ErrorCode.INPUT_IN_FUTURE: Meaning("the input's tick is further ahead than the room plans; check the clock"),
    ErrorCode.INPUT_CHANGED: Meaning("keys for a tick whose keys were already given; the first ones stay"),
    ErrorCode.UNKNOWN_KEY: Meaning("a key that this world does not know; it was ignored"),
    ErrorCode.TEXT_NOT_UNDERSTOOD: Meaning("the world does not understand this sentence"),
    ErrorCode.OVERLOADED: Meaning("the room takes nobody new until it has caught up", is_retryable=True, close=4503),
    ErrorCode.PAUSED: Meaning("the world stands still until its model is back", is_retryable=True),
    ErrorCode.GOING_AWAY: Meaning("the server restarts; come back with the resume token", True, close=1012),
    ErrorCode.INTERNAL: Meaning("a mistake of the server; it was logged", is_retryable=True, close=4500),
}
