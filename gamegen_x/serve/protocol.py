"""The wire `ggx.v1`: what browser and server say to each other, and how bytes become messages.

Every message is an array whose first item is the number of its kind: MessagePack in binary frames, the same as JSON
in text frames. A text frame that holds a JSON object is the `ControlSignal` of the schema. `docs/wire.md` is
generated from this file.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from gamegen_x.schema.control_signal import ControlSignal
from gamegen_x.serve.errors import ErrorCode

PROTOCOL = "ggx.v1"
MAX_CLIENT_BYTES = 4096  # of one message
MAX_INPUT_COPIES = 16  # ticks in one Input
MAX_KEYS = 16  # of an action space: they travel as 16 bits
BYTES_PER_TICK = MAX_KEYS // 8
MAX_TEXT = 512  # characters; an instruction has at most 300 tokens
MAX_MILLISECONDS = 1e15

Tick = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Hash = Annotated[int, Meta(ge=0, le=2**32 - 1)]
SeatNumber = Annotated[int, Meta(ge=0, le=255)]
Milliseconds = Annotated[float, Meta(ge=0, le=MAX_MILLISECONDS)]
Name = Annotated[str, Meta(max_length=64)]
Token = Annotated[str, Meta(max_length=1024)]
Sentence = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
KeyBits = Annotated[bytes, Meta(min_length=BYTES_PER_TICK, max_length=BYTES_PER_TICK * MAX_INPUT_COPIES)]


class Role(Enum):
    PLAYER = "player"
    SPECTATOR = "spectator"


class ResyncReason(Enum):
    """Why somebody needs a whole state."""

    HASH = "hash"  # a state's hash was not what the server said
    BASE = "base"  # a delta is built on a state that is not there
    LATE = "late"  # too far behind to be corrected


class Message(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What all messages share: strict arrays with the kind in front."""


# From a client ------------------------------------------------------------------------------------------------------


class Hello(Message, tag=1, frozen=True):
    """The first message of a connection. Sent again until a Welcome or an Error comes."""

    protocol: Name  # "ggx.v1"
    room: Name
    role: Role = Role.PLAYER
    token: Token = ""  # who this is; empty where the server asks for none
    resume: Token = ""  # `Welcome.resume` of an earlier connection: back to the same seat
    last_event: Count = 0  # newest event known; a resumed seat is told what came after it


class Input(Message, tag=2, frozen=True):
    """The keys held at the last ticks, the newest last; older ones are repeated, so a lost message costs nothing."""

    seq: Count  # one more with every Input
    tick: Tick  # which tick the newest keys are for
    seat: SeatNumber
    keys: KeyBits  # two bytes a tick, little-endian; bit i is key i of `Welcome.keys`
    ack_state: Tick  # newest state applied, -1 for none
    ack_event: Count  # every event up to this one has come
    ack_frame: Count  # newest frame shown
    t_client: Milliseconds  # of the client's monotonic clock


class Text(Message, tag=3, frozen=True):
    """An instruction to the world. Sent again until `Delta.text` reaches its number."""

    seq: Count  # counts from 1
    text: Sentence


class Ack(Message, tag=4, frozen=True):
    """What has come, for those who send no Input; gives back the credit of a frame."""

    ack_state: Tick
    ack_event: Count
    ack_frame: Count
    decode_ms: Milliseconds = 0.0
    buffer_ms: Milliseconds = 0.0


class Ping(Message, tag=5, frozen=True):
    """Asks for the server's clock."""

    t0: Milliseconds  # of the client's monotonic clock


class HashReport(Message, tag=6, frozen=True):
    """What the client has for a tick; the server compares, and sends a Keyframe where it differs."""

    tick: Tick
    hash: Hash


class Resync(Message, tag=7, frozen=True):
    """Asks for a Keyframe. Sent again until one comes."""

    why: ResyncReason


class Leave(Message, tag=8, frozen=True):
    """Gives the seat back at once."""


# From the server ----------------------------------------------------------------------------------------------------


class Leaf(Message, frozen=True):
    """One array of the state, in the order of the state's integers."""

    name: str
    kind: str  # "fraction": integers of 1/2^28; "axes": the same, last two axes are 3 3; "integer"; "truth": 0 or 1
    shape: tuple[int, ...]


class Limits(Message, frozen=True):
    """What a client may do before it is refused."""

    message_bytes: int
    messages_per_second: float
    text_chars: int
    texts_per_second: float
    ticks_ahead: int  # of an Input
    ticks_late: int  # of an Input: how far the room goes back


class Welcome(Message, tag=16, frozen=True):
    """The answer to Hello: who you are, how the world is laid out, and the way back."""

    room: str
    seat: int
    role: Role
    tick: int  # newest tick of the world
    fps: float
    block: int  # ticks that are generated at once
    keys: tuple[str, ...]
    layout: tuple[Leaf, ...]
    limits: Limits
    input_copies: int  # ticks that an Input should repeat
    hash_every: int  # ticks between HashReports
    resume: str  # brings you back to this seat, once
    event: int  # newest event before this connection: the first you get is the next
    text: int  # newest Text of this seat that was handled: number yours from the next
    here: tuple[int, ...]  # seats that are taken
    world: dict[str, str | int | float]  # facts that never change, e.g. {"game": "snowglobe", "planet": 7}
    life: str = ""  # another than before: the world was taken up from its session; forget ticks, states and events


class Keyframe(Message, tag=17, frozen=True):
    """A whole state: `blob` is a delta on a state of zeros."""

    tick: int
    blob: bytes
    hash: int  # xxh32 of the state's integers, little-endian
    confirmed: int  # ticks up to this one are final
    event: int  # newest event told so far
    input_tick: int  # newest tick for which your keys have come
    slack: int  # ticks that your newest keys came early; negative: late
    text: int  # your newest Text that was handled


class Delta(Message, tag=18, frozen=True):
    """What changed since the newest state that you acknowledged. See "States" for the bytes of `blob`."""

    tick: int
    base: int
    blob: bytes
    hash: int
    confirmed: int
    event: int
    input_tick: int
    slack: int
    text: int


class Frame(Message, tag=19, frozen=True):
    """Pictures of one block; sending it takes one credit."""

    seq: int
    tick: int  # of the first picture
    count: int  # pictures in the payload
    codec: str  # jpeg, or as WebCodecs names it
    is_key: bool  # whether it can be read without those before it: always, so far
    input_tick: int  # newest of your inputs that these pictures reflect
    t_generated: float  # milliseconds of the server's clock
    payload: bytes


class EventMessage(Message, tag=20, frozen=True):
    """Something that happened. Sent again until acknowledged; numbered without gaps for each seat."""

    id: int
    tick: int
    kind: str
    scope: str  # "global", "cell", "player", or "room" for what is not of the world
    where: int = -1
    subject: int = -1
    text: str = ""


class Correction(Message, tag=21, frozen=True):
    """Ticks that were simulated again because keys came late: what was said of them before no longer holds.

    Takes part in the numbering of events.
    """

    id: int
    first: int
    last: int
    seat: int  # whose keys were late


class Quality(Message, tag=22, frozen=True):
    """How well the room is doing, sent when it changes."""

    step: int  # of the ladder; 0 is full quality
    name: str
    state_every: int  # ticks between states
    hash_every: int


class Queue(Message, tag=23, frozen=True):
    """Where you stand in line for a seat."""

    position: int
    depth: int
    eta_s: float


class Pong(Message, tag=24, frozen=True):
    """The server's clock, for an estimate of delay and offset as in NTP."""

    t0: float  # of the Ping
    t1: float  # milliseconds of the server's clock when the Ping came
    t2: float  # and when this left
    tick: float  # of the world at t2, with its fraction


class Error(Message, tag=25, frozen=True):
    """What was wrong. Codes are listed under "Errors"; a socket that is closed for it gets the code's close code."""

    code: ErrorCode
    message: str
    field: str = ""  # the part of the message at fault
    is_retryable: bool = False
    retry_after_ms: int = 0


ClientMessage: TypeAlias = Hello | Input | Text | Ack | Ping | HashReport | Resync | Leave
ServerMessage: TypeAlias = (
    Welcome | Keyframe | Delta | Frame | EventMessage | Correction | Quality | Queue | Pong | Error
)
CLIENT_MESSAGES: tuple[type[Message], ...] = (Hello, Input, Text, Ack, Ping, HashReport, Resync, Leave)
SERVER_MESSAGES: tuple[type[Message], ...] = (
    Welcome, Keyframe, Delta, Frame, EventMessage, Correction, Quality, Queue, Pong, Error,
)  # fmt: skip


class WireError(ValueError):
    """Bytes that are no message. `to_message` is what the sender is told: never a traceback."""

    def __init__(self, code: ErrorCode, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code, self.field = code, field

    def to_message(self) -> Error:
        return error(self.code, str(self), self.field)


def error(code: ErrorCode, message: str = "", field: str = "", retry_after_ms: int = 0) -> Error:
    """An Error with what its code says of it."""
    meaning = code.meaning
    return Error(code, message or meaning.said, field, meaning.is_retryable, retry_after_ms)


def decode_client(data: bytes | str) -> ClientMessage | ControlSignal:
    """What a client said. Raises WireError, and nothing else, whatever the bytes."""
    size = len(data)
    if size > MAX_CLIENT_BYTES:
        raise WireError(ErrorCode.TOO_LARGE, f"a message has at most {MAX_CLIENT_BYTES} bytes, got {size}")
    if isinstance(data, str) and data.lstrip()[:1] == "{":
        return _control_signal(data)
    message: ClientMessage = _decoded(_CLIENT_JSON if isinstance(data, str) else _CLIENT_BINARY, data)
    if isinstance(message, Input) and len(message.keys) % BYTES_PER_TICK:
        raise WireError(ErrorCode.MALFORMED, f"keys take {BYTES_PER_TICK} bytes a tick", "keys")
    return message


def decode_server(data: bytes | str) -> ServerMessage:
    """What a server said. Raises WireError."""
    message: ServerMessage = _decoded(_SERVER_JSON if isinstance(data, str) else _SERVER_BINARY, data)
    return message


def encode(message: Message) -> bytes:
    """A message for a binary frame."""
    return _ENCODER.encode(message)


def encode_text(message: Message) -> str:
    """A message for a text frame: larger and slower, for people who read along."""
    return msgspec.json.encode(message).decode()


def message_named(tag: int) -> type[Message] | None:
    """The kind of message with a number."""
    return _BY_TAG.get(tag)


def tag_of(message: type[Message]) -> int:
    tag = message.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


_CLIENT_BINARY = msgspec.msgpack.Decoder(ClientMessage)
_CLIENT_JSON = msgspec.json.Decoder(ClientMessage)
_SERVER_BINARY = msgspec.msgpack.Decoder(ServerMessage)
_SERVER_JSON = msgspec.json.Decoder(ServerMessage)
_ENCODER = msgspec.msgpack.Encoder()
_BY_TAG = {tag_of(kind): kind for kind in (*CLIENT_MESSAGES, *SERVER_MESSAGES)}


def _decoded(decoder: Any, data: bytes | str) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as mistake:
        said, _, path = str(mistake).partition(" - at `$")
        raise WireError(ErrorCode.MALFORMED, said[:200], _field_name(data, path.rstrip("`"))) from None


def _field_name(data: bytes | str, path: str) -> str:
    """A path such as `[2]` as the name of the field, for the kind of message that the data begins with."""
    place, _, rest = path.lstrip("[").partition("]")
    kind = _BY_TAG.get(_tag_in(data))
    if not place.isdigit():
        return ""
    if place == "0":
        return "kind"
    fields = kind.__struct_fields__ if kind is not None else ()
    return f"{fields[int(place) - 1]}{rest}" if int(place) <= len(fields) else f"item {place}"


def _tag_in(data: bytes | str) -> int:
    if isinstance(data, str):
        head = data.lstrip()[1:5].partition(",")[0].strip()
        return int(head) if head.isdecimal() else -1
    return data[1] if len(data) > 1 and data[0] & 0xF0 == 0x90 else -1  # a short array, whose first item is its tag


def _control_signal(text: str) -> ControlSignal:
    try:
        signal = ControlSignal.from_json(text)
    except ValueError as mistake:
        said = str(mistake)
        field = said.split(" ")[0] if said.split(" ")[0].split(".")[0] in _CONTROL_FIELDS else ""
        raise WireError(ErrorCode.MALFORMED, said[:200], field) from None
    if signal.instruction:
        try:
            msgspec.convert(signal.instruction, Sentence)
        except msgspec.ValidationError as mistake:
            raise WireError(ErrorCode.MALFORMED, str(mistake)[:200], "instruction.text") from None
    return signal


_CONTROL_FIELDS = ("timestamp", "keyboard", "instruction", "parameters")
