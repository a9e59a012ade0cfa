"""Seat: who sits where, what they pressed, and what they know."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from hmac import compare_digest

from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.inputs import InputBuffer, SeqWindow
from gamegen_x.serve.outbox import Outbox
from gamegen_x.serve.pace import PaceKeeper
from gamegen_x.serve.protocol import Correction, EventMessage, Role

SPECTATOR = -1  # the number of who has no seat


class Presence(Enum):
    EMPTY = "empty"
    HERE = "here"
    AWAY = "away"  # the connection is lost, the seat is kept


class JoinError(ValueError):
    """Somebody asked for what a room does not give."""

    def __init__(self, code: ErrorCode, message: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(message or code.meaning.said)
        self.code, self.retry_after_ms = code, retry_after_ms


@dataclass
class Told:
    """An event or correction that was said and not yet acknowledged."""

    message: EventMessage | Correction
    sent_at: float


@dataclass
class Seat:
    """One place in a room, or one spectator. `visit` counts who took it: an older connection is no longer heard."""

    number: int
    inputs: InputBuffer
    outbox: Outbox
    pace: PaceKeeper
    presence: Presence = Presence.EMPTY
    visit: int = 0
    came_at: int = -1  # tick; what happened up to it is not told
    resume: str = ""  # brings its player back
    resume_before: str = ""  # still good until the new connection has spoken: its Welcome may be lost
    resume_digest: str = ""  # of a token that an earlier life of this world gave; good as long as `resume_before`
    away_since: float = 0.0
    dismissed: ErrorCode | None = None  # why its connection is to be closed

    seqs: SeqWindow = field(default_factory=SeqWindow)
    text_seq: int = 0
    text_at: float = -1e9
    held: int | None = None  # keys of control signals; None for who sends Inputs
    tapped: int = 0  # keys that went down and up, or came too late, since the last tick
    slack: int = 0  # ticks that the newest keys came early

    acked_state: int = -1
    state_sent_at: int = -(10**9)
    hash_every: int = 0
    needs_keyframe: str = "join"  # why; empty where it needs none
    last_event: int = 0
    untold: deque[Told] = field(default_factory=deque)
    errors_at: dict[ErrorCode, float] = field(default_factory=dict)

    @property
    def role(self) -> Role:
        return Role.SPECTATOR if self.number == SPECTATOR else Role.PLAYER

    @property
    def is_here(self) -> bool:
        return self.presence is Presence.HERE

    def is_resumed_by(self, token: str) -> bool:
        return self.is_restored_by(token) or any(
            known and compare_digest(known.encode(), token.encode()) for known in (self.resume, self.resume_before)
        )

    def is_restored_by(self, token: str) -> bool:
        """Whether the token is from before the server ended: what its client counted then counts no more."""
        return bool(self.resume_digest) and compare_digest(self.resume_digest, digest_of(token))


def digest_of(token: str) -> str:
    """What a session keeps of a resume token: enough to know it again, too little to come back with."""
    return sha256(token.encode()).hexdigest()[:32]
