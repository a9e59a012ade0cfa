"""Room: one world and those who play it. A core without sockets, clock or I/O; its unit is a tick.

Whoever drives a room calls `advance(now)` for each block and hands messages to `receive`; what is to be sent waits in
the outbox of each seat. `now` is the driver's clock in ticks, as a fraction; a test's clock is as good as a real one.

State is truth. A tick is simulated with the keys that have come and guesses for those that have not. Keys that come
late take the world back and forward again (R1) for `ticks_late` ticks; older ticks are final. Pictures that nobody has
seen are drawn again (R2, `Block.rewind_to`). Who has lost the state gets it whole (R3).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.schema.control_signal import ControlSignal
from gamegen_x.serve.delta import Packed, StateCodec
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.inputs import InputBuffer, SeqWindow, Verdict, bits_of
from gamegen_x.serve.ladder import DROP_SPECTATORS, PAUSE, REFUSE_JOINS, Ladder, LadderRules
from gamegen_x.serve.metrics import SyncMetrics
from gamegen_x.serve.outbox import Outbox
from gamegen_x.serve.pace import PaceKeeper, PaceRules, SyncRules
from gamegen_x.serve.played_world import PlayedWorld, State
from gamegen_x.serve.protocol import (
    MAX_CLIENT_BYTES,
    MAX_KEYS,
    MAX_TEXT,
    Ack,
    ClientMessage,
    Correction,
    Delta,
    EventMessage,
    HashReport,
    Hello,
    Input,
    Keyframe,
    Leave,
    Limits,
    Ping,
    Pong,
    Quality,
    ResyncReason,
    Role,
    Text,
    Welcome,
    error,
)
from gamegen_x.serve.protocol import Resync as ResyncMessage
from gamegen_x.serve.seat import SPECTATOR, JoinError, Presence, Seat, Told

ROLLBACK, REBIND = "rollback", "rebind"


@dataclass(frozen=True)
class RoomRules:
    """Times in ticks. `late` says what becomes of keys for a tick that is over."""

    block: int  # ticks that are simulated, and drawn, at once
    late: str  # rollback, rebind
    ticks_late: int  # how far the world goes back
    ticks_ahead: int  # how far ahead keys may be sent
    hold_ticks: int  # how long a guess repeats what was held
    one_shot: Sequence[str]  # keys that a guess never repeats, of any game
    input_copies: int  # ticks that each Input repeats
    max_spectators: int
    keyframe_every: int  # ticks; 0: only where one is needed
    state_ring: int  # ticks for which a sent state can be the base of a delta
    away_ticks: int  # how long a seat waits for its player
    resend_ticks: float  # until an event that was not acknowledged is sent again
    max_untold: int  # events that may wait for one player; a seat that has more is given up
    text_ticks: float  # between two texts of one player
    messages_per_second: float
    retry_after_ms: int  # what those are told who find no place
    pace: PaceRules
    sync: SyncRules
    ladder: LadderRules

    def __post_init__(self) -> None:
        if self.late not in (ROLLBACK, REBIND):
            raise ValueError(f"late is {ROLLBACK!r} or {REBIND!r}, got {self.late!r}")
        if min(self.block, self.ticks_ahead, self.hold_ticks, self.input_copies) < 1 or self.ticks_late < 0:
            raise ValueError("block, ticks_ahead, hold_ticks and input_copies are at least 1, ticks_late at least 0")
        if self.state_ring <= self.ticks_late + self.block:
            raise ValueError(
                f"state_ring={self.state_ring} is longer than ticks_late + block = {self.ticks_late + self.block}"
            )


@dataclass(frozen=True)
class Block:
    """What is to be drawn: the states of some ticks, and the keys `[t p k]` that led to them.

    With `rewind_to`, pictures from that tick on are to be forgotten first: the block then begins there.
    """

    first_tick: int
    states: tuple[State, ...]
    keys: npt.NDArray[np.uint8]
    rewind_to: int | None = None

    @property
    def last_tick(self) -> int:
        return self.first_tick + len(self.states) - 1


@dataclass(frozen=True)
class FinalTick:
    """A tick that nothing can change any more: what a recording holds."""

    tick: int
    keys: tuple[int, ...]  # bits, by seat
    texts: tuple[tuple[int, str], ...]  # seat and sentence, in the order in which they were said
    state: State
    hash: int


@dataclass(frozen=True)
class _Past:
    state: State
    keys: tuple[int, ...] = ()
    texts: tuple[tuple[int, str], ...] = ()


class Room:
    def __init__(
        self,
        name: str,
        world: PlayedWorld,
        rules: RoomRules,
        rewind_ticks: int = 0,  # of the views
        new_token: Callable[[], str] = secrets.token_urlsafe,
        on_final: Callable[[FinalTick], None] = lambda _: None,
        on_seat: Callable[[Seat, Hello | None], None] = lambda _seat, _hello: None,  # who takes it; None: given back
        last_tick: int = -1,  # of the world's start: where an earlier life of this world ended
        life: str = "",  # tells its clients that ticks and events are counted anew
    ) -> None:
        if world.keys.num_keys > MAX_KEYS:
            raise ValueError(f"{MAX_KEYS} keys travel on the wire, {world.keys.name!r} has {world.keys.num_keys}")
        self.name, self.world, self.rules = name, world, rules
        self.rewind_ticks, self.new_token = rewind_ticks, new_token
        self.on_final, self.on_seat, self.life = on_final, on_seat, life
        self.tick = self.final = self.delivered = last_tick
        self.metrics, self.ladder = SyncMetrics(), Ladder(rules.ladder)
        self.codec = StateCodec.of_state(world.start())
        self.is_overloaded = False  # what the driver says of the last block
        self._one_shot = _bits(world.keys.encode(key for key in rules.one_shot if key in world.keys.keys))
        self._all_keys = (1 << world.keys.num_keys) - 1
        self._past: dict[int, _Past] = {last_tick: _Past(world.start())}
        self._texts: dict[int, list[tuple[int, str]]] = {}
        self._sent: dict[int, Packed] = {}
        self._sent_at: dict[int, float] = {}
        self._dirty: int | None = None  # oldest tick whose keys came late
        self._late_seat = -1
        self._arrivals: list[tuple[int, float]] = []  # of keys that have not acted yet: their tick, and when they came
        self._block_starts: dict[int, int] = {}
        self._advanced_at = 0.0
        self.seats = [self._new_seat(number, 0.0) for number in range(world.num_players)]
        self.spectators: list[Seat] = []

    # Who is here -----------------------------------------------------------------------------------------------------

    @property
    def here(self) -> tuple[int, ...]:
        """The seats whose players are here."""
        return tuple(seat.number for seat in self.seats if seat.is_here)

    @property
    def state(self) -> State:
        """The newest state."""
        return self._past[self.tick].state

    def _refuse_if_overloaded(self) -> None:
        if self.ladder.has_reached(REFUSE_JOINS):
            raise JoinError(ErrorCode.OVERLOADED, retry_after_ms=self.rules.retry_after_ms)

    def join(self, hello: Hello, now: float) -> tuple[Seat, Welcome]:
        """Seats somebody, or brings them back to their seat. Raises JoinError."""
        if hello.resume:
            return self._resumed(hello, now)
        if hello.role is Role.SPECTATOR:
            self._refuse_if_overloaded()
            if len(self.spectators) >= self.rules.max_spectators or self.ladder.has_reached(DROP_SPECTATORS):
                raise JoinError(ErrorCode.ROOM_FULL, retry_after_ms=self.rules.retry_after_ms)
            seat = self._new_seat(SPECTATOR, now)
            seat.presence, seat.came_at = Presence.HERE, self.tick
            self.spectators.append(seat)
            return seat, self._welcome(seat)
        self._give_up_seats(now)  # where nobody plays, no block has done so
        number = next((seat.number for seat in self.seats if seat.presence is Presence.EMPTY), None)
        if number is None:
            raise JoinError(ErrorCode.ROOM_FULL, retry_after_ms=self.rules.retry_after_ms)
        self._refuse_if_overloaded()
        seat = self._new_seat(number, now)
        seat.visit, seat.inputs = self.seats[number].visit + 1, self.seats[number].inputs
        seat.presence, seat.resume, seat.came_at = Presence.HERE, self.new_token(), self.tick
        seat.inputs.settle(self.tick)
        self.seats[number] = seat
        self._announce("joined", number, now, but=seat)
        self.on_seat(seat, hello)
        return seat, self._welcome(seat)

    def keep_seat(self, number: int, resume_digest: str, now: float) -> None:
        """Whoever shows the token with this digest has the seat again; it waits as for a player who is away."""
        seat = self.seats[number]
        seat.presence, seat.resume_digest, seat.away_since, seat.came_at = Presence.AWAY, resume_digest, now, self.tick

    def lose(self, seat: Seat, now: float) -> None:
        """The connection of a seat is gone: the seat waits for its player, and holds no keys for long."""
        if seat.number == SPECTATOR:
            self.leave(seat, now)
        elif seat.is_here:
            seat.presence, seat.away_since = Presence.AWAY, now
            seat.outbox.clear()
            self._announce("away", seat.number, now)

    def let_go(self, seat: Seat) -> None:
        """Whatever keys a seat holds act no longer, from the next tick on."""
        seat.inputs, seat.held = seat.inputs.ended(self.tick), None

    def leave(self, seat: Seat, now: float) -> None:
        """Gives a seat back. The world goes on; its body stays, and holds no key."""
        if seat.number == SPECTATOR:
            self.spectators = [each for each in self.spectators if each is not seat]
            seat.presence = Presence.EMPTY
        elif seat.presence is not Presence.EMPTY:
            empty = self._new_seat(seat.number, now)
            empty.visit, empty.inputs = seat.visit + 1, seat.inputs.ended(self.tick)
            seat.presence = Presence.EMPTY
            self.seats[seat.number] = empty
            self._announce("left", seat.number, now)
            self.on_seat(empty, None)

    def everybody(self) -> Iterator[Seat]:
        """All who listen now: players, then spectators."""
        yield from (seat for seat in (*self.seats, *self.spectators) if seat.is_here)

    # What they say ---------------------------------------------------------------------------------------------------

    def receive(self, seat: Seat, message: ClientMessage | ControlSignal, now: float) -> None:
        """Takes in what somebody said; a mistake of theirs is answered with an Error in their outbox."""
        seat.resume_before = seat.resume_digest = ""
        match message:
            case Input():
                self._receive_input(seat, message, now)
            case ControlSignal():
                self._receive_control(seat, message, now)
            case Text():
                self._receive_text(seat, message, now)
            case Ack():
                self._acknowledge(seat, message, now)
            case Ping():
                milliseconds = now * 1000 / self.world.fps
                seat.outbox.put(Pong(message.t0, milliseconds, milliseconds, self.tick_at(now)))
            case HashReport():
                self._compare(seat, message, now)
            case ResyncMessage():
                self.metrics.num_desyncs += message.why is ResyncReason.HASH
                seat.needs_keyframe = message.why.value
                seat.pace.alarm(now)
            case Leave():
                self.leave(seat, now)
            case Hello():
                self._complain(seat, ErrorCode.FORBIDDEN, "you are already seated", now)

    def tick_at(self, now: float) -> float:
        """The tick that plays at a moment, with its fraction."""
        block = self.rules.block
        return self.tick + 1 - block + min(max(now - self._advanced_at, 0.0), float(block))

    # Time ------------------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> Block | None:
        """The next block of ticks, with whatever keys have come by now. None while the world is paused."""
        if self.ladder.observe(now, self.is_overloaded):
            self._change_quality(now)
        self._give_up_seats(now)
        if self.ladder.has_reached(PAUSE):
            self._resend(now)
            return None
        rewind_to = self._go_back(now)
        first = self.tick + 1
        self._bind_held_keys(first)
        self._advanced_at = now
        for tick in range(first, first + self.rules.block):
            self._simulate(tick)
            self._block_starts[tick] = first
        self.metrics.num_ticks += self.rules.block
        self._note_waits(now)
        self._settle(now)
        self._send_states(now)
        self._resend(now)
        begin = first if rewind_to is None else rewind_to
        block = self._block(begin, rewind_to)
        self._forget()
        return block

    def skip(self, num_ticks: int) -> None:
        """The driver was so late that it left ticks out; the world does not know them, the metrics do."""
        self.metrics.num_skipped_ticks += num_ticks

    def mark_delivered(self, tick: int) -> None:
        """Pictures up to a tick were handed to somebody: they are drawn no more."""
        self.delivered = max(self.delivered, tick)

    def keys_held(self, tick: int) -> npt.NDArray[np.uint8]:
        """The keys `[p k]` that a tick was simulated with."""
        return self._array(self._past[tick].keys)

    # Keys ------------------------------------------------------------------------------------------------------------

    def _receive_input(self, seat: Seat, message: Input, now: float) -> None:
        if seat.number == SPECTATOR:
            return self._complain(seat, ErrorCode.FORBIDDEN, "spectators press no keys", now)
        if message.seat != seat.number:
            said = f"seat {message.seat} is not yours, you have {seat.number}"
            return self._complain(seat, ErrorCode.OTHER_SEAT, said, now)
        self._acknowledge(seat, message, now)
        if not seat.seqs.take(message.seq):
            self.metrics.refused["replayed"] += 1
            return None
        bits = bits_of(message.keys)
        tick = message.tick if self.rules.sync.input_ticks else self.tick + 1
        if not self.rules.sync.input_ticks:
            seat.inputs.given.pop(tick, None)  # the newest of what arrives in a tick counts
            bits = bits[-1:]
        seat.slack = min(max(tick - self.tick - 1, -128), 127)
        self.metrics.input_leads.append(tick - self.tick - 1)
        if tick > self.tick + self.rules.ticks_ahead:
            said = f"tick {tick} is more than {self.rules.ticks_ahead} ahead of {self.tick}"
            return self._complain(seat, ErrorCode.INPUT_IN_FUTURE, said, now)
        is_newest = message.seq == seat.seqs.newest
        if tick <= self.final and self.rules.late == ROLLBACK and is_newest and tick not in seat.inputs.given:
            self._complain(seat, ErrorCode.INPUT_TOO_LATE, f"tick {tick} is final, the world is at {self.tick}", now)
            seat.needs_keyframe = seat.needs_keyframe or ResyncReason.LATE.value
            return None
        for place, held in enumerate(bits, tick - len(bits) + 1):
            self._give(seat, place, held, now)
        seat.pace.watch(now, seat.seqs.loss, seat.outbox.round_trip)
        return None

    def _give(self, seat: Seat, tick: int, held: int, now: float) -> None:
        if held & ~self._all_keys:
            self._complain(seat, ErrorCode.UNKNOWN_KEY, f"this world has {self.world.keys.num_keys} keys", now)
            held &= self._all_keys
        if tick <= self.final:
            is_recent = self.rules.late == REBIND and tick > self.final - self.rules.hold_ticks
            if is_recent and seat.inputs.give(tick, held) is Verdict.NEW and tick in self._past:
                seat.tapped |= held & ~self._past[tick].keys[seat.number]  # what has not acted yet acts next
                self._arrivals.append((tick, now))
            return
        verdict = seat.inputs.give(tick, held)
        if verdict is Verdict.CHANGED:
            self._complain(seat, ErrorCode.INPUT_CHANGED, f"the keys of tick {tick} were given before", now)
        if verdict is Verdict.NEW:
            self._arrivals.append((tick, now))
            if tick <= self.tick and (self._dirty is None or tick < self._dirty):
                self._dirty, self._late_seat = tick, seat.number

    def _receive_control(self, seat: Seat, signal: ControlSignal, now: float) -> None:
        if seat.number == SPECTATOR:
            return self._complain(seat, ErrorCode.FORBIDDEN, "spectators press no keys", now)
        try:
            bits = _bits(self.world.keys.encode(signal.keys))
        except ValueError as mistake:
            return self._complain(seat, ErrorCode.UNKNOWN_KEY, str(mistake), now)
        if signal.keys:
            held = seat.held or 0
            seat.held = held | bits if signal.is_down else held & ~bits
            seat.tapped |= bits if signal.is_down else 0
        if signal.instruction:
            self._hear(seat, signal.instruction, now)
        return None

    def _bind_held_keys(self, first: int) -> None:
        """What control signals hold, and what came too late for its own tick, acts from here on."""
        for seat in self.seats:
            self.metrics.queue_depths.append(seat.inputs.depth(self.tick))
            if seat.tapped:
                seat.inputs.tap(first, seat.tapped)
                seat.tapped = 0
            if seat.held is not None and seat.is_here:
                for tick in range(first, first + self.rules.block):
                    seat.inputs.give(tick, seat.held)

    def _note_waits(self, now: float) -> None:
        """Keys of ticks up to the newest have acted now: in their tick, by going back, or late."""
        self.metrics.input_waits.extend(now - came for tick, came in self._arrivals if tick <= self.tick)
        self._arrivals = [(tick, came) for tick, came in self._arrivals if tick > self.tick]

    def _keys_at(self, tick: int) -> tuple[int, ...]:
        is_guessing = self.rules.sync.predict_keys
        return tuple(seat.inputs.at(tick, is_guessing) for seat in self.seats)

    def _array(self, keys: Sequence[int]) -> npt.NDArray[np.uint8]:
        bits = np.array(keys, np.uint16)[:, None] >> np.arange(self.world.keys.num_keys, dtype=np.uint16)
        return (bits & 1).astype(np.uint8)

    # Words -----------------------------------------------------------------------------------------------------------

    def _receive_text(self, seat: Seat, message: Text, now: float) -> None:
        if seat.number == SPECTATOR:
            return self._complain(seat, ErrorCode.FORBIDDEN, "spectators say nothing", now)
        if message.seq == seat.text_seq + 1 and self._hear(seat, message.text, now):
            seat.text_seq = message.seq
        return None

    def _hear(self, seat: Seat, text: str, now: float) -> bool:
        """Whether the sentence was dealt with: it may be said again later where it came too soon after another."""
        if now - seat.text_at < self.rules.text_ticks:
            wait = 1000 * (self.rules.text_ticks - (now - seat.text_at)) / self.world.fps
            self._complain(seat, ErrorCode.RATE_LIMITED, "one sentence after the other", now, round(wait))
            return False
        try:
            self.world.told(self.state, text)
        except ValueError as mistake:
            self._complain(seat, ErrorCode.TEXT_NOT_UNDERSTOOD, str(mistake)[:400], now)
            return True
        seat.text_at = now
        self._texts.setdefault(self.tick + 1, []).append((seat.number, text))
        return True

    # The world goes on, and back -------------------------------------------------------------------------------------

    def _simulate(self, tick: int) -> None:
        keys, texts = self._keys_at(tick), tuple(self._texts.get(tick, ()))
        state = self._past[tick - 1].state
        for _, text in texts:
            state = self.world.told(state, text)
        self._past[tick] = _Past(self.world.advanced(state, self._array(keys)), keys, texts)
        self.tick = max(self.tick, tick)

    def _go_back(self, now: float) -> int | None:
        """R1: simulates again from the first tick whose keys were not what was guessed. R2: says what to draw again."""
        if self._dirty is None:
            return None
        first, self._dirty = self._dirty, None
        while first <= self.tick and self._keys_at(first) == self._past[first].keys:
            first += 1
        if first > self.tick:
            return None
        self.metrics.num_rollbacks += 1
        self.metrics.num_replayed_ticks += self.tick + 1 - first
        for tick in range(first, self.tick + 1):
            self._simulate(tick)
        wrong = [tick for tick in range(first, self.tick + 1) if tick in self._sent and self._has_changed(tick)]
        if wrong:
            for seat in self.everybody():
                self._tell(seat, Correction(seat.last_event + 1, wrong[0], self.tick, self._late_seat), now)
        begin = self._block_starts.get(first, first)
        can_redraw = begin > self.delivered and self.tick - begin < self.rewind_ticks
        return begin if can_redraw else None

    def _has_changed(self, tick: int) -> bool:
        return self._sent[tick].hash != self.codec.pack(tick, self._past[tick].state).hash

    def _settle(self, now: float) -> None:
        """Makes ticks final whose keys have all come, or that are too old to wait for; tells what happened in them."""
        final = self.tick
        if self.rules.late == ROLLBACK:
            final = min([self.tick, *(seat.inputs.complete for seat in self.seats if seat.is_here)])
            final = max(final, self.tick - self.rules.ticks_late, self.final)
        for tick in range(self.final + 1, final + 1):
            self._finish(tick, now)
        self.final = final
        for seat in self.seats:
            seat.inputs.settle(final)

    def _finish(self, tick: int, now: float) -> None:
        past = self._past[tick]
        self.on_final(FinalTick(tick, past.keys, past.texts, past.state, self.codec.pack(tick, past.state).hash))
        heard = self.world.heard(past.state)
        for seat in (*self.seats, *self.spectators):
            if seat.presence is Presence.EMPTY or tick <= seat.came_at:
                continue
            events = past.state.events if seat.number == SPECTATOR else heard[seat.number]
            for event in events:
                place = (event.scope.value, event.where, event.subject)
                self._tell(seat, EventMessage(seat.last_event + 1, tick, event.kind, *place), now)
            for number, text in past.texts:
                self._tell(seat, EventMessage(seat.last_event + 1, tick, "said", "room", -1, number, text), now)

    def _block(self, begin: int, rewind_to: int | None) -> Block:
        ticks = range(begin, self.tick + 1)
        keys = np.stack([self.keys_held(tick) for tick in ticks])
        return Block(begin, tuple(self._past[tick].state for tick in ticks), keys, rewind_to)

    def _forget(self) -> None:
        """Drops what nothing can ask for any more."""
        oldest = min(self.final, self.tick - self.rules.block)
        for tick in [tick for tick in self._past if tick < oldest]:
            del self._past[tick]
            self._texts.pop(tick, None)
            self._block_starts.pop(tick, None)
        for tick in [tick for tick in self._sent if tick < self.tick - self.rules.state_ring]:
            del self._sent[tick], self._sent_at[tick]

    # States and hashes -----------------------------------------------------------------------------------------------

    def _send_states(self, now: float) -> None:
        blobs: dict[int, bytes] = {}
        for seat in self.everybody():
            pace = seat.pace.at(now)
            if pace.hash != seat.hash_every:
                seat.hash_every = pace.hash
                seat.outbox.put(Quality(self.ladder.step, self.ladder.name, pace.state, pace.hash))
            is_due = self.tick - seat.state_sent_at >= pace.state
            if not (is_due or seat.needs_keyframe):
                continue
            if self.tick not in self._sent:
                self._sent[self.tick] = self.codec.pack(self.tick, self.state)
                self._sent_at[self.tick] = now
            self._send_state(seat, self._sent[self.tick], blobs, pace.hash)

    def _send_state(self, seat: Seat, new: Packed, blobs: dict[int, bytes], hash_every: int) -> None:
        seat.state_sent_at = self.tick
        base = self._sent.get(seat.acked_state)
        cause = seat.needs_keyframe or ("base" if base is None else "")
        every = self.rules.keyframe_every if self.rules.sync.hash_only else hash_every
        if not cause and every and self.tick // every > (self.tick - self.rules.block) // every:
            cause = "regular"
        if not cause and not self.rules.sync.delta_states:
            cause = "always"
        if cause:
            self.metrics.full_syncs[cause] += 1
            base, seat.needs_keyframe = None, ""
        key = -1 if base is None else base.tick
        if key not in blobs:
            blobs[key] = self.codec.difference(base, new)
        rest = (new.hash, self.final, seat.last_event, seat.inputs.newest, seat.slack, seat.text_seq)
        seat.outbox.put(
            Keyframe(new.tick, blobs[key], *rest) if base is None else Delta(new.tick, base.tick, blobs[key], *rest)
        )

    def _compare(self, seat: Seat, report: HashReport, now: float) -> None:
        sent = self._sent.get(report.tick)
        if sent is None:
            return
        self.metrics.num_hashes += 1
        if report.hash != sent.hash:
            self.metrics.num_desyncs += 1
            seat.needs_keyframe = ResyncReason.HASH.value
            seat.pace.alarm(now)

    def _acknowledge(self, seat: Seat, message: Input | Ack, now: float) -> None:
        if message.ack_state > seat.acked_state and message.ack_state in self._sent:
            round_trip = now - self._sent_at[message.ack_state]
            seat.outbox.note_round_trip(round_trip)
            self.metrics.round_trips.append(round_trip)
            if seat.acked_state >= 0:
                self.metrics.state_gaps.append(message.ack_state - seat.acked_state)
            seat.acked_state = message.ack_state
        while seat.untold and seat.untold[0].message.id <= message.ack_event:
            seat.untold.popleft()
        seat.outbox.acknowledge_frame(message.ack_frame)

    # What is told ----------------------------------------------------------------------------------------------------

    def _announce(self, kind: str, subject: int, now: float, but: Seat | None = None, text: str = "") -> None:
        """Tells everybody what happened in the room, rather than in the world."""
        for seat in (*self.seats, *self.spectators):
            if seat is not but and seat.presence is not Presence.EMPTY:
                message = EventMessage(seat.last_event + 1, self.tick, kind, "room", -1, subject, text)
                self._tell(seat, message, now)

    def _tell(self, seat: Seat, message: EventMessage | Correction, now: float) -> None:
        seat.last_event = message.id
        seat.untold.append(Told(message, now))
        if seat.is_here:
            seat.outbox.put(message)

    def _resend(self, now: float) -> None:
        for seat in self.everybody():
            wait = max(self.rules.resend_ticks, 1.5 * seat.outbox.round_trip)
            for told in seat.untold:
                if now - told.sent_at >= wait:
                    told.sent_at = now
                    seat.outbox.put(told.message)

    def _give_up_seats(self, now: float) -> None:
        for seat in self.seats:
            is_forgotten = seat.presence is Presence.AWAY and now - seat.away_since > self.rules.away_ticks
            if is_forgotten or len(seat.untold) > self.rules.max_untold:
                self.leave(seat, now)
        for seat in self.spectators:
            if len(seat.untold) > self.rules.max_untold:
                self.leave(seat, now)

    def _change_quality(self, now: float) -> None:
        self._announce("quality", self.ladder.step, now, text=self.ladder.name)
        for seat in self.everybody():
            pace = seat.pace.at(now)
            seat.outbox.put(Quality(self.ladder.step, self.ladder.name, pace.state, pace.hash))
        if self.ladder.has_reached(DROP_SPECTATORS):
            for seat in list(self.spectators):
                seat.dismissed = ErrorCode.OVERLOADED
                self.leave(seat, now)

    def _complain(self, seat: Seat, code: ErrorCode, said: str, now: float, retry_after_ms: int = 0) -> None:
        """Tells somebody what was wrong, once a second for each code."""
        self.metrics.refused[code.value] += 1
        if now - seat.errors_at.get(code, -1e9) >= self.world.fps:
            seat.errors_at[code] = now
            seat.outbox.put(error(code, said, retry_after_ms=retry_after_ms))

    # Seats -----------------------------------------------------------------------------------------------------------

    def _new_seat(self, number: int, now: float) -> Seat:
        return Seat(
            number,
            InputBuffer(self._one_shot, self.rules.hold_ticks),
            Outbox(self.rules.sync.priorities),
            PaceKeeper(self.rules.pace, self.rules.sync, now),
        )

    def _resumed(self, hello: Hello, now: float) -> tuple[Seat, Welcome]:
        seat = next((each for each in self.seats if each.is_resumed_by(hello.resume)), None)
        if seat is None:
            raise JoinError(ErrorCode.RESUME_REFUSED)
        if seat.is_here:
            seat.outbox.clear()
        else:
            self._announce("back", seat.number, now, but=seat)
        known_event = 0 if seat.is_restored_by(hello.resume) else hello.last_event
        seat.resume_before = hello.resume
        seat.resume, seat.visit, seat.presence = self.new_token(), seat.visit + 1, Presence.HERE
        seat.seqs, seat.held, seat.tapped = SeqWindow(), None, 0
        seat.acked_state, seat.needs_keyframe, seat.hash_every = -1, "resume", 0
        seat.inputs.settle(self.final)
        while seat.untold and seat.untold[0].message.id <= known_event:
            seat.untold.popleft()
        seat.untold = type(seat.untold)(replace(told, sent_at=-1e9) for told in seat.untold)
        self.on_seat(seat, hello)
        return seat, self._welcome(seat)

    def _welcome(self, seat: Seat) -> Welcome:
        rules = self.rules
        first = seat.untold[0].message.id - 1 if seat.untold else seat.last_event
        return Welcome(
            room=self.name,
            seat=seat.number,
            role=seat.role,
            tick=self.tick,
            fps=self.world.fps,
            block=rules.block,
            keys=self.world.keys.keys,
            layout=self.codec.layout,
            limits=Limits(
                message_bytes=MAX_CLIENT_BYTES,
                messages_per_second=rules.messages_per_second,
                text_chars=MAX_TEXT,
                texts_per_second=self.world.fps / rules.text_ticks,
                ticks_ahead=rules.ticks_ahead,
                ticks_late=rules.ticks_late,
            ),
            input_copies=rules.input_copies,
            hash_every=seat.hash_every or rules.pace.base.hash,
            resume=seat.resume,
            event=first,
            text=seat.text_seq,
            here=self.here,
            world=dict[str, Any](self.world.facts),
            life=self.life,
        )


def _bits(held: npt.NDArray[np.uint8]) -> int:
    return int(sum(1 << place for place, is_held in enumerate(held.tolist()) if is_held))
