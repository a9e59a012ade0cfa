"""A session in virtual time: a room, its players on faulty lines, and what became of what they did.

The same code as in a real session on both ends, only that lines and clocks are made up: a minute takes seconds, and the
same seed is the same minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gamegen_x.serve.client import Client, ClientRules
from gamegen_x.serve.clock import Pacer
from gamegen_x.serve.connection import Connection, ConnectionRules
from gamegen_x.serve.fault_link import FaultLink, LinkFaults
from gamegen_x.serve.played_world import PlayedWorld
from gamegen_x.serve.protocol import EventMessage
from gamegen_x.serve.room import FinalTick, Room, RoomRules

MOMENTS = 4  # of a tick, at which lines are looked at
NAME = "rehearsal"
POLL_TICKS = 6.0  # how often a polling transport asks


@dataclass(frozen=True)
class Harness:
    """The rules of everybody in a session."""

    room: RoomRules
    connection: ConnectionRules
    client: ClientRules


@dataclass(frozen=True)
class Scenario:
    """What goes wrong in one session, and what its players do. Times in ticks."""

    seed: int
    num_ticks: int
    up: LinkFaults = field(default_factory=LinkFaults)
    down: LinkFaults = field(default_factory=LinkFaults)
    cuts: Sequence[tuple[int, float, float]] = ()  # player, from, to: nothing gets through, either way
    sentences: Sequence[str] = ()
    sentence_every: float = 60.0  # ticks, on average
    hold: float = 8.0  # ticks, on average
    work: float = 0.0  # ticks that a block takes the server, on average
    calm_ticks: int = 72  # at the end, on clean lines and without keys, until everything must have come


@dataclass
class Report:
    """What one session showed. A session is in step where `is_in_step`."""

    num_compared: int = 0  # ticks that clients have as final, summed over clients
    num_unequal: int = 0  # of these, with another hash than the server's
    num_final: int = 0  # ticks that the server has as final
    num_events: int = 0  # due to be heard, summed over clients
    num_lost_events: int = 0
    num_wrong_events: int = 0  # doubled, out of order, or never happened
    is_replayed_equal: bool = True  # the log, played again from the start, gives every hash
    num_false_alarms: int = 0  # hash mismatches, where nobody broke anything
    num_hashes: int = 0  # that were compared
    num_rollbacks: int = 0
    num_reconnects: int = 0
    num_sentences: int = 0
    key_latency: list[float] = field(default_factory=list)  # ticks from a key to another player's state with it
    state_gaps: list[float] = field(default_factory=list)  # ticks between states, as they come to clients
    num_skipped: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def is_in_step(self) -> bool:
        return (
            self.num_unequal == self.num_lost_events == self.num_wrong_events == 0
            and self.is_replayed_equal
            and self.num_compared > 0
        )


@dataclass
class Player:
    """A client, its line, and its habits."""

    number: int
    client: Client
    rng: np.random.Generator
    phase: float  # of a tick, at which it steps
    clock_ms: float = 0.0  # what its clock is ahead of the server's
    held: int = 0
    release_at: float = 0.0
    next_step: float = 0.0
    up: FaultLink | None = None
    down: FaultLink | None = None
    connection: Connection | None = None
    heard: list[EventMessage] = field(default_factory=list)
    finals: dict[int, int] = field(default_factory=dict)
    first_tick: int | None = None  # of which it hears everything
    num_joins: int = 0
    num_lines: int = 0
    pressed_at: dict[int, float] = field(default_factory=dict)
    state_at: float | None = None
    seen: dict[int, int] = field(default_factory=dict)  # of each other player, the newest keys seen to act

    @property
    def seat(self) -> int:
        return -1 if self.client.welcome is None else self.client.welcome.seat


class Rehearsal:
    """One session. `run` plays it to its end; a test may step in between through `at_tick`."""

    def __init__(self, world: PlayedWorld, harness: Harness, scenario: Scenario) -> None:
        self.world, self.harness, self.scenario = world, harness, scenario
        sync = harness.room.sync
        self.log: list[FinalTick] = []
        self.report = Report()
        self._count = 0
        self.room = Room(NAME, world, harness.room, new_token=self._token, on_final=self.log.append)
        self.pacer = Pacer(harness.room.block, max_behind=2, start=0.0, is_fixed=sync.fixed_step)
        self.rng = np.random.default_rng([scenario.seed, 1])
        self.players = [self._player(number) for number in range(world.num_players)]
        self.old_connections: list[Connection] = []
        self.at_tick: Callable[[int], Any] = lambda _: None
        self._is_calm = False
        self._busy_until = 0.0
        self._bound: dict[int, list[int]] = {}  # tick -> newest keys of each seat that its state, as sent, reflects

    def run(self) -> Report:
        total = self.scenario.num_ticks + self.scenario.calm_ticks
        for moment in range(total * MOMENTS):
            now = moment / MOMENTS
            if moment == self.scenario.num_ticks * MOMENTS:
                self._calm_down()
            if moment % MOMENTS == 0:
                self.at_tick(moment // MOMENTS)
            for player in self.players:
                self._play(player, now)
            self._serve(now)
        return self._judge()

    # The server ------------------------------------------------------------------------------------------------------

    def _serve(self, now: float) -> None:
        for player in self.players:
            if player.up is not None and player.connection is not None:
                for moment, data in player.up.receive(now):
                    player.connection.receive(data, moment)
        if now >= self._busy_until and self.pacer.is_due(now):
            work = self.rng.exponential(self.scenario.work) if self.scenario.work else 0.0
            self.room.advance(now)
            self._bound[self.room.tick] = [seat.inputs.newest for seat in self.room.seats]
            self._busy_until = now + work
            skipped = self.pacer.done(self._busy_until)
            self.report.num_skipped += skipped
            self.room.skip(skipped)
            for connection in (*self.old_connections, *(player.connection for player in self.players)):
                if connection is not None:
                    connection.poll(now)
        for player in self.players:
            if player.connection is not None and player.down is not None:
                for data in player.connection.take():
                    player.down.send(data, now)

    # The players -----------------------------------------------------------------------------------------------------

    def _play(self, player: Player, now: float) -> None:
        client, milliseconds = player.client, self._milliseconds(player, now)
        if player.down is not None:
            for moment, data in player.down.receive(now):
                before = client.newest
                client.receive(data, self._milliseconds(player, moment))
                if client.newest is not before:
                    self._note_state(player, moment)
        if player.num_lines == 0 or (client.is_lost and now >= player.next_step):
            self._connect(player, now)
        if client.welcome is not None and client.num_joins > player.num_joins:  # a seat of its own, not one resumed
            player.num_joins, player.first_tick = client.num_joins, client.welcome.tick + 1
        if now < player.next_step:
            return
        player.next_step += 1.0
        self._choose(player, now)
        last = client.newest_key_tick
        client.step(milliseconds, player.held)
        for tick in range(last + 1, client.newest_key_tick + 1):
            player.pressed_at[tick] = now
        assert player.up is not None
        for data in client.take():
            player.up.send(data, now)

    def _choose(self, player: Player, now: float) -> None:
        if self._is_calm:
            player.held = 0
            return
        if now >= player.release_at:
            player.release_at = now + player.rng.exponential(self.scenario.hold)
            player.held = int(player.rng.integers(1 << self.world.keys.num_keys) & player.rng.integers(1 << 16))
        if self.scenario.sentences and player.rng.uniform() < 1 / self.scenario.sentence_every:
            player.client.say(str(player.rng.choice(list(self.scenario.sentences))))
            self.report.num_sentences += 1

    def _note_state(self, player: Player, now: float) -> None:
        newest = player.client.newest
        if newest is None:
            return
        if player.state_at is not None:
            self.report.state_gaps.append(now - player.state_at)
        player.state_at = now
        for other in self.players:
            if other is player or other.seat < 0 or newest.tick not in self._bound:
                continue
            last = min(newest.tick, self._bound[newest.tick][other.seat])
            for tick in range(player.seen.get(other.number, last) + 1, last + 1):
                if tick in other.pressed_at:
                    self.report.key_latency.append(now - other.pressed_at[tick])
            player.seen[other.number] = max(last, player.seen.get(other.number, last))

    def _connect(self, player: Player, now: float) -> None:
        if player.connection is not None:
            self.old_connections.append(player.connection)
            self.report.num_reconnects += 1
        seed = (self.scenario.seed * 97 + player.number) * 1009 + player.num_lines
        player.num_lines += 1
        player.up = FaultLink(self._faults(self.scenario.up, player.number), 2 * seed)
        player.down = FaultLink(self._faults(self.scenario.down, player.number), 2 * seed + 1)
        player.connection = Connection(self._find_room, self.harness.connection, now)
        player.client.connect(self._milliseconds(player, now))

    def _faults(self, faults: LinkFaults, number: int) -> LinkFaults:
        if self._is_calm:
            return LinkFaults(delay=faults.delay)
        outages = [(begin, end) for player, begin, end in self.scenario.cuts if player == number]
        poll = faults.poll_ticks if self.harness.room.sync.tuned_transport else POLL_TICKS
        return replace(faults, outages=(*faults.outages, *outages), poll_ticks=poll)

    def _calm_down(self) -> None:
        self._is_calm = True
        for player in self.players:
            for link in (player.up, player.down):
                if link is not None:
                    link.faults = LinkFaults(delay=link.faults.delay)

    # The verdict -----------------------------------------------------------------------------------------------------

    def _judge(self) -> Report:
        report, room = self.report, self.room
        hashes = {final.tick: final.hash for final in self.log}
        report.num_final = len(hashes)
        for player in self.players:
            known = {tick: value for tick, value in player.finals.items() if tick in hashes}
            report.num_compared += len(known)
            report.num_unequal += sum(value != hashes[tick] for tick, value in known.items())
            report.num_false_alarms += player.client.num_desyncs
            self._judge_events(player)
        report.is_replayed_equal = self._replays()
        report.num_false_alarms += room.metrics.num_desyncs
        report.num_hashes = room.metrics.num_hashes
        report.num_rollbacks = room.metrics.num_rollbacks
        report.refused = room.metrics.refused
        report.metrics = room.metrics.summary(self.world.fps)
        tick_ms = 1000 / self.world.fps
        if report.key_latency:  # what was measured at the other end replaces what the server could only guess
            report.metrics["action_latency_ms_p50"] = float(np.quantile(report.key_latency, 0.5)) * tick_ms
            report.metrics["action_latency_ms_p95"] = float(np.quantile(report.key_latency, 0.95)) * tick_ms
        if report.state_gaps:
            gaps = np.array(report.state_gaps)
            report.metrics["state_gap_variation"] = float(gaps.std() / max(gaps.mean(), 1e-9))
        return report

    def _judge_events(self, player: Player) -> None:
        """Every event of the world that was to be heard was heard, once and in order."""
        if player.first_tick is None:
            return
        due = []
        span = range(
            player.first_tick, self.scenario.num_ticks + self.scenario.calm_ticks // 2
        )  # the rest is on its way
        for final in self.log:
            if final.tick in span:
                due += [
                    (final.tick, each.kind, each.where, each.subject, "")
                    for each in self.world.heard(final.state)[player.seat]
                ]
                due += [(final.tick, "said", -1, number, text) for number, text in final.texts]
        heard = [
            (each.tick, each.kind, each.where, each.subject, each.text)
            for each in player.heard
            if each.tick in span and (each.scope != "room" or each.kind == "said")
        ]
        self.report.num_events += len(due)
        missing = Counter(due) - Counter(heard)
        self.report.num_lost_events += sum(missing.values())
        self.report.num_wrong_events += sum((Counter(heard) - Counter(due)).values())
        self.report.num_wrong_events += not missing and heard != due

    def _replays(self) -> bool:
        state = self.world.start()
        for final in self.log:
            for _, text in final.texts:
                state = self.world.told(state, text)
            bits = np.array(final.keys, np.uint16)[:, None] >> np.arange(self.world.keys.num_keys, dtype=np.uint16)
            state = self.world.advanced(state, (bits & 1).astype(np.uint8))
            if self.room.codec.pack(final.tick, state).hash != final.hash:
                return False
        return [final.tick for final in self.log] == list(range(len(self.log)))

    # Making ----------------------------------------------------------------------------------------------------------

    def _player(self, number: int) -> Player:
        rng = np.random.default_rng([self.scenario.seed, 2, number])
        client = Client(self.harness.client, self.harness.room.sync, NAME)
        player = Player(number, client, rng, phase=float(rng.uniform()))
        player.next_step = player.phase
        client.on_event = player.heard.append
        client.on_final = player.finals.__setitem__
        return player

    def _find_room(self, name: str) -> Room | None:
        return self.room if name == NAME else None

    def _token(self) -> str:
        self._count += 1
        return f"token-{self._count}"

    def _milliseconds(self, player: Player, now: float) -> float:
        return now * 1000 / self.world.fps + player.clock_ms
