"""Client: a player's half of the wire without a socket: for bots, for tests, and as the pattern of the page's script.

Whoever owns the line calls `step` for each frame of the client, `receive` for each message, sends what `take` gives,
and opens a new line with `connect` when `is_lost`. Times are milliseconds of the client's own clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gamegen_x.serve.clock import TickEstimate
from gamegen_x.serve.delta import Packed, StateCodec, hash_of
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.inputs import bytes_of
from gamegen_x.serve.pace import SyncRules
from gamegen_x.serve.protocol import (
    MAX_INPUT_COPIES,
    PROTOCOL,
    Ack,
    Correction,
    Delta,
    Error,
    EventMessage,
    Frame,
    HashReport,
    Hello,
    Input,
    Keyframe,
    Leave,
    Message,
    Ping,
    Pong,
    Quality,
    Resync,
    ResyncReason,
    Role,
    Text,
    Welcome,
    WireError,
    decode_server,
    encode,
    encode_text,
)

Told = EventMessage | Correction


@dataclass(frozen=True)
class ClientRules:
    """Times in milliseconds."""

    hello_every: float  # until a Welcome comes
    first_ping_every: float  # until the first Pong comes
    ping_every: float
    resync_every: float  # until a Keyframe comes
    text_every: float  # until the text was handled
    silence: float  # after which the line counts as lost
    delay_every: float  # between two changes of the input delay, each of one tick
    free_jitter: float  # ticks of jitter for which keys are not sent earlier
    max_delay: int  # ticks that keys are sent earlier because of jitter
    state_ring: int  # ticks for which states are kept


class Client:
    """`on_event` hears every event once, in order; `on_final` the hash of every tick that this client has as final."""

    def __init__(
        self,
        rules: ClientRules,
        sync: SyncRules,
        room: str,
        role: Role = Role.PLAYER,
        token: str = "",
        on_event: Callable[[EventMessage], None] = lambda _: None,
        on_final: Callable[[int, int], None] = lambda _tick, _hash: None,
    ) -> None:
        self.rules, self.sync, self.room, self.role, self.token = rules, sync, room, role, token
        self.on_event, self.on_final = on_event, on_final
        self.welcome: Welcome | None = None
        self.is_lost = False
        self.is_restarting = False  # the server said that it ends, and will be back
        self.newest: Packed | None = None
        self.states: dict[int, Packed] = {}
        self.frame: Frame | None = None
        self.errors: deque[Error] = deque(maxlen=64)
        self.num_desyncs = self.num_full_states = self.num_joins = 0
        self.confirmed = -1
        self.delay = 0  # ticks
        self._resume = self._life = ""
        self._out: list[Message] = []
        self._begin_anew()

    def connect(self, now_ms: float) -> None:
        """Says Hello on a new line; with the token of an earlier one, to get the same seat again."""
        self.welcome, self.is_lost = None, False
        self._heard_at, self._last_step = now_ms, now_ms
        self._out.clear()
        self._hello(now_ms)

    def closed(self, close_code: int) -> None:
        """The line is gone. Open another and `connect`, patiently where the server `is_restarting`."""
        self.is_lost = True
        self.is_restarting = self.is_restarting or close_code == ErrorCode.GOING_AWAY.meaning.close

    def say(self, text: str) -> None:
        self._texts.append(text)

    def leave(self) -> None:
        self._resume = ""
        self._out.append(Leave())

    def take(self) -> list[bytes | str]:
        """What is to be sent now."""
        found: list[bytes | str] = [
            encode(message) if self.sync.binary else encode_text(message) for message in self._out
        ]
        self._out.clear()
        return found

    def step(self, now_ms: float, held: int) -> None:
        """One frame of the client, with the keys held in it as bits."""
        self._follow_clock(now_ms)
        if self.welcome is None:
            if now_ms - self._hello_at >= self.rules.hello_every:
                self._hello(now_ms)
        elif not self.is_lost:
            is_ready = self._estimate.is_measured or not self.sync.tick_sync  # keys sent before would come too late
            if self.role is Role.PLAYER and is_ready:
                self._send_keys(self.welcome, now_ms, held)
            else:
                self._out.append(Ack(self._newest_tick(), self.event, self._newest_frame()))
            self._ask_and_report(now_ms)
        self.is_lost = self.is_lost or now_ms - self._heard_at > self.rules.silence

    def receive(self, data: bytes | str, now_ms: float) -> None:
        """Takes in a message; what cannot be read is skipped."""
        try:
            message = decode_server(data)
        except WireError:
            return
        self._heard_at = now_ms
        match message:
            case Welcome():
                self._begin(message, now_ms)
            case Keyframe() | Delta() if self.welcome is not None:
                self._take_state(message, now_ms)
            case EventMessage() | Correction() if self.welcome is not None:  # which says where their numbers begin
                self._take_event(message)
            case Pong() if self.sync.tick_sync and self.welcome is not None:
                self._estimate.pong(message, now_ms)
            case Quality():
                self._hash_every = message.hash_every
            case Frame():
                self.frame = message
            case Error():
                self._take_error(message)
            case _:
                pass

    def server_tick(self, now_ms: float) -> float:
        """The tick that plays at the server now, as far as this client knows."""
        return self._estimate.tick(now_ms)

    # Getting in ------------------------------------------------------------------------------------------------------

    def _begin_anew(self) -> None:
        self.event, self.confirmed = 0, -1
        self.states, self.newest = {}, None
        self._early: dict[int, Told] = {}
        self._rewritten: set[int] = set()
        self._claims: list[tuple[int, int]] = []  # (event, tick): with the event known, the tick is final
        self._keys: dict[int, int] = {}
        self.newest_key_tick = -1
        self._sent_key_tick = -1
        self._tapped = 0
        self._texts: deque[str] = deque()
        self._texts_done = 0
        self._needs: ResyncReason | None = None
        self._hash_every, self._hash_at = 1, -1
        self._seq = 0

    def _hello(self, now_ms: float) -> None:
        self._hello_at = now_ms
        self._out.append(Hello(PROTOCOL, self.room, self.role, self.token, self._resume, self.event))

    def _begin(self, welcome: Welcome, now_ms: float) -> None:
        if self.welcome is not None:
            return  # the answer to a Hello that was sent again
        if not self._resume or welcome.life != self._life:
            texts = self._texts
            self._begin_anew()
            self._texts, self.event, self.confirmed = texts, welcome.event, welcome.tick
        self.num_joins += not self._resume
        self.welcome, self._resume, self._life = welcome, welcome.resume, welcome.life
        self.is_restarting = False
        self._texts_handled(welcome.text)
        self._codec = StateCodec(welcome.layout)
        self._estimate = TickEstimate(welcome.fps)
        self._estimate.set(welcome.tick, now_ms)
        self._hash_every = welcome.hash_every
        self._seq, self.newest_key_tick = 0, max(self.newest_key_tick, welcome.tick)
        self._delay_at = self._text_at = self._resync_at = -math.inf
        self._ping_at = -math.inf

    def _take_error(self, message: Error) -> None:
        self.errors.append(message)
        if message.code is ErrorCode.RESUME_REFUSED:
            self._resume = ""
        if message.code.meaning.close:
            self.closed(message.code.meaning.close)

    def _follow_clock(self, now_ms: float) -> None:
        """A clock that was set, backwards or far ahead: all that was known in its terms begins anew."""
        step = now_ms - self._last_step
        self._last_step = now_ms
        if 0 <= step <= self.rules.silence:
            return
        self._heard_at = self._hello_at = now_ms
        if self.welcome is not None:
            self._delay_at = self._text_at = self._resync_at = self._ping_at = -math.inf
            self._estimate.set(max(self._newest_tick(), self.welcome.tick), now_ms)

    # Keys ------------------------------------------------------------------------------------------------------------

    def _send_keys(self, welcome: Welcome, now_ms: float, held: int) -> None:
        self._follow_jitter(now_ms)
        arrival = self._estimate.tick(now_ms) + self._estimate.one_way + self.delay
        target = min(math.floor(arrival) + 1, self._furthest_tick(welcome))
        if target <= self.newest_key_tick:
            self._tapped |= held  # the next tick that is sent has it
            return
        copies = min(welcome.input_copies, MAX_INPUT_COPIES)
        for tick in range(max(self.newest_key_tick + 1, target - copies + 1), target + 1):
            self._keys[tick] = held | self._tapped
            self._tapped = 0
        self.newest_key_tick = target
        if target - self._sent_key_tick >= self.sync.batch_ticks:
            self._sent_key_tick = target
            self._send_input(welcome, target, copies, now_ms)

    def _furthest_tick(self, welcome: Welcome) -> int:
        """The last tick that keys are sent for: the tick after the one that may have begun since the newest state left.

        A world that is slower than `fps` is soon far behind its estimate, and keys would wait there for seconds; but
        while no newer state has come, the next block began a trip ago at the most.
        """
        newest = max(self._newest_tick(), welcome.tick)
        return newest + 2 + math.ceil(2 * self._estimate.one_way) + self.delay

    def _send_input(self, welcome: Welcome, tick: int, copies: int, now_ms: float) -> None:
        first = tick
        while first > tick - copies + 1 and first - 1 in self._keys:
            first -= 1
        bits = [self._keys[each] for each in range(first, tick + 1)]
        for old in [each for each in self._keys if each <= tick - MAX_INPUT_COPIES]:
            del self._keys[old]
        self._seq += 1
        acks = (self._newest_tick(), self.event, self._newest_frame())
        self._out.append(Input(self._seq, tick, welcome.seat, bytes_of(bits), *acks, max(now_ms, 0.0)))

    def _follow_jitter(self, now_ms: float) -> None:
        if self.sync.input_delay and now_ms - self._delay_at >= self.rules.delay_every:
            self._delay_at = now_ms
            jitter = self._estimate.jitter
            wanted = min(math.ceil(jitter), self.rules.max_delay) if jitter > self.rules.free_jitter else 0
            self.delay += (wanted > self.delay) - (wanted < self.delay)

    # What is asked, said and reported again --------------------------------------------------------------------------

    def _ask_and_report(self, now_ms: float) -> None:
        every = self.rules.ping_every if self._estimate.is_measured else self.rules.first_ping_every
        if now_ms - self._ping_at >= every:
            self._ping_at = now_ms
            self._out.append(Ping(max(now_ms, 0.0)))
        if self._texts and now_ms - self._text_at >= self.rules.text_every:
            self._text_at = now_ms
            self._out.append(Text(self._texts_done + 1, self._texts[0]))
        if self._needs is not None and now_ms - self._resync_at >= self.rules.resync_every:
            self._resync_at = now_ms
            self._out.append(Resync(self._needs))
        if self.sync.hash_only and self.newest is not None and self.newest.tick - self._hash_at >= self._hash_every:
            self._hash_at = self.newest.tick
            self._out.append(HashReport(self.newest.tick, hash_of(self.newest.folded)))

    # States and events -----------------------------------------------------------------------------------------------

    def _take_state(self, message: Keyframe | Delta, now_ms: float) -> None:
        self._texts_handled(message.text)
        if message.tick in self.states and isinstance(message, Delta):
            return
        packed = self._read(message)
        if packed is None:
            self._resync_at = self._resync_at if self._needs is not None else -math.inf
            return
        if isinstance(message, Keyframe):
            self._needs, self.num_full_states = None, self.num_full_states + 1
        self.states[message.tick] = packed
        if self.newest is None or message.tick >= self.newest.tick:
            self.newest = packed
            if not self.sync.tick_sync and self.num_full_states == 1 and isinstance(message, Keyframe):
                self._estimate.set(message.tick, now_ms)
        if message.tick <= self.confirmed and message.tick not in self._rewritten:
            self.on_final(message.tick, packed.hash)  # overtaken by a later one
        self._claims.append((message.event, message.confirmed))
        self._confirm()
        self._forget()

    def _read(self, message: Keyframe | Delta) -> Packed | None:
        """The state of a message; None where a Keyframe is needed instead."""
        base = None
        if isinstance(message, Delta):
            base = self.states.get(message.base)
            if base is None:
                self._needs = self._needs or ResyncReason.BASE
                return None
        try:
            packed = self._codec.apply(base, message.tick, message.blob)
        except ValueError:
            self._needs = ResyncReason.HASH
            return None
        if packed.hash != message.hash:
            self._needs = ResyncReason.HASH
            self.num_desyncs += 1
            return None
        return packed

    def _take_event(self, message: Told) -> None:
        if message.id > self.event:
            self._early[message.id] = message
        while self.event + 1 in self._early:
            self.event += 1
            told = self._early.pop(self.event)
            if isinstance(told, Correction):
                self._rewritten.update(range(told.first, told.last + 1))
            else:
                self.on_event(told)
        self._confirm()

    def _confirm(self) -> None:
        """Ticks are final here once the server says so and every correction before that has come."""
        known = [tick for event, tick in self._claims if event <= self.event]
        self._claims = [claim for claim in self._claims if claim[0] > self.event]
        final = max(known, default=-1)
        for tick in sorted(self.states):
            if self.confirmed < tick <= final and tick not in self._rewritten:
                self.on_final(tick, self.states[tick].hash)
        self.confirmed = max(self.confirmed, final)

    def _forget(self) -> None:
        oldest = self._newest_tick() - self.rules.state_ring
        for tick in [tick for tick in self.states if tick < oldest]:
            del self.states[tick]
        if len(self._rewritten) > 2 * self.rules.state_ring:
            self._rewritten = {tick for tick in self._rewritten if tick >= oldest}

    def _texts_handled(self, seq: int) -> None:
        while self._texts and self._texts_done < seq:
            self._texts.popleft()
            self._texts_done += 1
        self._texts_done = max(self._texts_done, seq)

    def _newest_tick(self) -> int:
        return -1 if self.newest is None else self.newest.tick

    def _newest_frame(self) -> int:
        return 0 if self.frame is None else self.frame.seq
