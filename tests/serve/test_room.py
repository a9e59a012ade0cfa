"""A room: who sits where, which keys act when, and that going back changes nothing but what it must."""

from dataclasses import replace

import numpy as np
import pytest
from harnesses import harness
from hypothesis import given, settings
from hypothesis import strategies as st

from gamegen_x.schema.control_signal import ControlSignal
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.inputs import bytes_of
from gamegen_x.serve.pebbles import Pebbles
from gamegen_x.serve.protocol import (
    PROTOCOL,
    Ack,
    Correction,
    Delta,
    Error,
    EventMessage,
    HashReport,
    Hello,
    Input,
    Keyframe,
    Leave,
    Ping,
    Pong,
    Resync,
    ResyncReason,
    Role,
    Text,
)
from gamegen_x.serve.room import Room
from gamegen_x.serve.seat import JoinError, Presence
from gamegen_x.serve.soak import shuffled_arrivals, sync_test

RULES = harness().room
HELLO = Hello(PROTOCOL, "cave")
UP, RIGHT, SPACE = 1, 8, 16


class Table:
    """A room with players that say what a test wants, and what was said to them."""

    def __init__(self, num_players=2, seed=1, **changes):
        self.finals = []
        rules = replace(RULES, **changes)
        self.room = Room("cave", Pebbles(num_players, seed), rules, rewind_ticks=8, on_final=self.finals.append)
        self.now = 0.0
        self.seqs = {}

    def join(self, **fields):
        hello = Hello(PROTOCOL, "cave", **fields)
        return self.room.join(hello, self.now)[0]

    def say(self, seat, message):
        self.room.receive(seat, message, self.now)
        return self.heard(seat)

    def press(self, seat, tick, *bits, seq=None, number=None):
        self.seqs[id(seat)] = self.seqs.get(id(seat), -1) + 1
        seq = self.seqs[id(seat)] if seq is None else seq
        number = seat.number if number is None else number
        message = Input(seq, tick, number, bytes_of(list(bits)), self.room.tick, seat.last_event, 0, 0.0)
        return self.say(seat, message)

    def play(self, num_ticks=1):
        blocks = []
        for _ in range(num_ticks):
            blocks.append(self.room.advance(self.now))
            self.now += 1
        return blocks

    def heard(self, seat):
        found = []
        while (message := seat.outbox.take()) is not None:
            found.append(message)
        return found


def codes(messages):
    return [message.code for message in messages if isinstance(message, Error)]


# Seats


def test_seats_are_given_in_order_and_a_full_room_says_so():
    table = Table()
    assert [table.join().number, table.join().number] == [0, 1]
    with pytest.raises(JoinError) as refusal:
        table.join()
    assert refusal.value.code is ErrorCode.ROOM_FULL
    assert refusal.value.retry_after_ms > 0


def test_who_comes_back_with_the_token_has_the_same_seat_and_hears_what_was_missed_once():
    table = Table()
    stayer, gone = table.join(), table.join()
    token = gone.resume
    table.play(5)
    known = gone.last_event
    table.room.lose(gone, table.now)
    table.say(stayer, Text(1, "snow"))
    table.play(200)
    seat = table.join(resume=token, last_event=known)
    table.play(1)
    told = [message for message in table.heard(seat) if isinstance(message, EventMessage)]
    assert seat is gone
    assert any(message.text == "snow" for message in told)
    assert [message.id for message in told] == list(range(known + 1, known + 1 + len(told)))


def test_a_token_brings_back_once_and_again_only_while_the_welcome_may_be_lost():
    table = Table()
    seat = table.join()
    token = seat.resume
    table.room.lose(seat, table.now)
    table.join(resume=token)
    assert table.join(resume=token) is seat  # its Welcome did not come, so it asked again
    table.say(seat, Ping(0.0))
    for used in (token, "made up"):
        with pytest.raises(JoinError) as refusal:
            table.join(resume=used)
        assert refusal.value.code is ErrorCode.RESUME_REFUSED


def test_a_seat_waits_for_its_player_for_a_while_and_is_then_free():
    table = Table()
    table.join()
    seat = table.join()
    token = seat.resume
    table.room.lose(seat, table.now)
    table.play(RULES.away_ticks + 2)
    assert seat.presence is Presence.EMPTY
    with pytest.raises(JoinError):
        table.join(resume=token)
    assert table.join().number == 1


def test_a_seat_that_was_kept_too_long_is_free_though_nobody_played_meanwhile():
    """Where everybody has gone no block is played, and so it is whoever comes next who looks."""
    table = Table()
    seats = [table.join() for _ in table.room.seats]
    for seat in seats:
        table.room.lose(seat, table.now)
    with pytest.raises(JoinError):
        table.join()
    table.now += RULES.away_ticks + 1
    assert table.join().number == 0


def test_spectators_see_the_state_and_may_say_nothing():
    table = Table()
    table.join()
    watcher = table.join(role=Role.SPECTATOR)
    table.play(3)
    assert any(isinstance(message, Keyframe) for message in table.heard(watcher))
    assert codes(table.press(watcher, 5, UP, number=0)) == [ErrorCode.FORBIDDEN]
    table.now += 30
    assert codes(table.say(watcher, Text(1, "snow"))) == [ErrorCode.FORBIDDEN]
    table.say(watcher, Ack(2, watcher.last_event, 0))
    table.play()
    assert any(isinstance(message, Delta) for message in table.heard(watcher))


def test_coming_and_going_a_hundred_times_leaves_the_others_bit_for_bit_and_nothing_behind():
    """S18: players who hold no key come, go and vanish in the middle of everything."""

    def played(has_storm):
        table = Table(num_players=4)
        stayer = table.join()
        rng, storm = np.random.default_rng(5), np.random.default_rng(6)
        guests = []
        for tick in range(600):
            table.press(stayer, tick, int(rng.integers(16)))
            if has_storm and storm.uniform() < 0.5 and len(guests) < 3:
                guests.append(table.join())
            elif has_storm and guests:
                guest = guests.pop(int(storm.integers(len(guests))))
                (table.room.leave if storm.uniform() < 0.5 else table.room.lose)(guest, table.now)
                table.room.leave(guest, table.now)
            table.play()
        return table

    calm, stormy = played(False), played(True)
    both = min(len(calm.finals), len(stormy.finals))
    assert both > 550
    assert [final.hash for final in calm.finals[:both]] == [final.hash for final in stormy.finals[:both]]
    room = stormy.room
    assert sum(seat.visit for seat in room.seats) > 200
    assert len(room._past) < 2 * RULES.ticks_late
    assert len(room._sent) <= RULES.state_ring + 2


# Keys


def test_keys_that_come_in_time_act_in_their_tick_and_nothing_is_played_again():
    table = Table()
    seat = table.join()
    before = table.room.state.places[0].copy()
    table.press(seat, 0, RIGHT)
    table.play()
    assert (table.room.state.places[0] - before).tolist() == [1, 0]
    assert table.room.metrics.num_rollbacks == 0


def test_late_keys_take_the_world_back_and_those_who_saw_it_are_told():
    table = Table()
    late, other = table.join(), table.join()
    for tick in range(6):
        table.press(other, tick, UP)
        if tick != 2:
            table.press(late, tick, 0)
        table.play()
    table.press(late, 2, SPACE)
    table.play()
    corrections = [message for message in table.heard(other) if isinstance(message, Correction)]
    assert [(each.first, each.last, each.seat) for each in corrections] == [(2, 5, 0)]
    straight = Table()
    one, two = straight.join(), straight.join()
    for tick in range(7):
        straight.press(two, tick, UP) if tick < 6 else None
        straight.press(one, tick, SPACE if tick == 2 else 0) if tick < 6 else None
        straight.play()
    assert straight.room.state.chance == table.room.state.chance


@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_any_order_and_delay_of_the_same_keys_gives_the_same_world(seed):
    """S21, briefly; `only=arrivals` plays a thousand."""
    assert shuffled_arrivals(Pebbles(2, seed), RULES, num_ticks=30, seed=seed) == 0


@pytest.mark.parametrize("distance", [2, 5, 8])
def test_every_tick_taken_back_and_played_again_is_the_same(distance):
    """S20, briefly; `python -m gamegen_x.serve.soak only=sync_test` plays 10,000 ticks at every distance."""
    assert sync_test(Pebbles(2, 3), RULES, distance, num_ticks=60, seed=0) == 0


def test_a_world_that_is_not_a_function_of_its_keys_fails_the_sync_test():
    class Forgetful(Pebbles):
        def advanced(self, state, held):
            self.calls = getattr(self, "calls", 0) + 1
            return replace(super().advanced(state, held), chance=self.calls)

    assert sync_test(Forgetful(2, 3), RULES, 2, num_ticks=40, seed=0) > 0


def test_what_comes_too_late_acts_in_the_next_block_where_the_world_does_not_go_back():
    table = Table(late="rebind", block=4)
    seat = table.join()
    table.play(1)  # ticks 0 to 3
    table.press(seat, 1, UP | SPACE)
    table.press(seat, 3, 0)  # pressed and let go while the block was drawn
    block = table.play(1)[0]
    assert block.keys[:, 0, [0, 4]].tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]
    assert table.room.metrics.num_rollbacks == 0
    assert table.room.final == table.room.tick == 7


@pytest.mark.parametrize("changes", [{}, {"late": "rebind"}])
def test_what_keys_wait_is_time_that_passed_however_slow_the_world_is(changes):
    table = Table(**changes)
    seat = table.join()
    table.play(1)
    table.press(seat, 1, UP)
    table.press(seat, 2, UP)
    for table.now in (9.0, 17.0):
        table.play(1)
    assert list(table.room.metrics.input_waits) == [8.0, 16.0]
    table.now = 18.0
    table.press(seat, 2, UP)  # known
    table.now = 25.0
    table.play(1)
    table.now = 30.0
    table.press(seat, 3, UP)  # late, and acts with the next tick
    table.now = 33.0
    table.play(1)
    assert list(table.room.metrics.input_waits) == [8.0, 16.0, 3.0]
    tick_ms = 1000 / table.room.world.fps
    trips = table.room.metrics.round_trips
    wanted = (8.0 + np.median(trips if trips else [0.0])) * tick_ms
    assert table.room.metrics.summary(table.room.world.fps)["action_latency_ms_p50"] == pytest.approx(wanted)


def test_pictures_that_nobody_has_seen_are_drawn_again():
    """R2: only from where nobody has seen anything."""
    table = Table(block=2)
    seat = table.join()
    table.play(3)  # ticks 0 to 5
    table.room.mark_delivered(1)
    table.press(seat, 3, UP)
    block = table.play(1)[0]
    assert (block.rewind_to, block.first_tick, len(block.states)) == (2, 2, 6)
    assert block.keys[:, 0, 0].tolist() == [0, 1, 1, 1, 1, 1]
    table.room.mark_delivered(7)
    table.press(seat, 4, 0)
    assert table.play(1)[0].rewind_to is None


# What is refused


@pytest.mark.parametrize(
    ("tick", "bits", "number", "code"),
    [
        (20, UP, 1, ErrorCode.OTHER_SEAT),
        (2, UP, 0, ErrorCode.INPUT_TOO_LATE),
        (20 + RULES.ticks_ahead, UP, 0, ErrorCode.INPUT_IN_FUTURE),
        (2**31 - 1, UP, 0, ErrorCode.INPUT_IN_FUTURE),
        (20, RIGHT | 1 << 9, 0, ErrorCode.UNKNOWN_KEY),
        (15, SPACE, 0, ErrorCode.INPUT_CHANGED),
    ],
)
def test_keys_that_are_not_lawful_are_refused_with_their_reason_and_change_nothing(tick, bits, number, code):
    """S12."""
    table, honest = Table(), Table()
    for each in (table, honest):
        seat = each.join()
        each.join()
        for now in range(20):
            if now >= 10:
                each.press(seat, now, RIGHT)
            each.play()
        each.heard(seat)
    seat = table.room.seats[0]
    assert codes(table.press(seat, tick, bits, number=number)) == [code]
    table.play()
    honest.play()
    assert table.room.state.chance == honest.room.state.chance
    assert table.room.metrics.refused[code.value] == 1


def test_a_replayed_message_is_taken_once():
    table = Table()
    seat = table.join()
    message = Input(4, 3, 0, bytes_of([UP]), -1, 0, 0, 0.0)
    for _ in range(50):
        table.say(seat, message)
    assert table.room.metrics.refused == {"replayed": 49}


def test_a_lie_about_what_was_seen_is_not_believed():
    table = Table()
    seat = table.join()
    table.play(3)
    table.say(seat, Ack(2**31 - 1, 2**32 - 1, 2**32 - 1))
    table.play()
    assert seat.acked_state == -1
    assert any(isinstance(message, Keyframe) for message in table.heard(seat))


def test_a_mistake_is_answered_once_a_second():
    table = Table()
    seat = table.join()
    answers = []
    for _ in range(48):
        answers += codes(table.press(seat, 500, UP))
        table.play()
    assert answers == [ErrorCode.INPUT_IN_FUTURE] * 2


# Words


def test_a_sentence_changes_the_world_for_all_and_is_told_to_all():
    table = Table()
    one, other = table.join(), table.join()
    table.play(2)
    table.say(one, Text(1, "Snow."))
    table.play(RULES.ticks_late + 2)
    assert table.room.state.weather.tolist() == [2]
    for seat in (one, other):
        assert [m.text for m in table.heard(seat) if isinstance(m, EventMessage) and m.kind == "said"] == ["Snow."]
    assert one.text_seq == 1


def test_sentences_that_come_too_fast_or_make_no_sense_are_refused():
    table = Table()
    seat = table.join()
    assert codes(table.say(seat, Text(1, "sing"))) == [ErrorCode.TEXT_NOT_UNDERSTOOD]
    assert codes(table.say(seat, Text(2, "snow"))) == []
    assert codes(table.say(seat, Text(3, "rain"))) == [ErrorCode.RATE_LIMITED]
    assert seat.text_seq == 2  # the third may be said again
    table.now += RULES.text_ticks
    table.say(seat, Text(3, "rain"))
    assert seat.text_seq == 3


def test_a_sentence_that_comes_twice_acts_once():
    table = Table()
    seat = table.join()
    for _ in range(3):
        table.say(seat, Text(1, "snow"))
        table.now += 2 * RULES.text_ticks
    assert sum(len(texts) for texts in table.room._texts.values()) == 1


def test_control_signals_hold_keys_until_they_are_let_go_and_a_tap_acts_once():
    table = Table()
    seat = table.join()
    table.say(seat, ControlSignal(0.0, ("d",)))
    table.say(seat, ControlSignal(0.1, ("w",)))
    table.say(seat, ControlSignal(0.2, ("w",), is_down=False))
    blocks = table.play(2)
    table.say(seat, ControlSignal(0.3, ("d",), is_down=False, instruction="snow"))
    blocks += table.play(1)
    assert [block.keys[0, 0, [0, 3]].tolist() for block in blocks] == [[1, 1], [0, 1], [0, 0]]
    assert table.room.state.weather.tolist() == [2]
    assert codes(table.say(seat, ControlSignal(0.4, ("fly",)))) == [ErrorCode.UNKNOWN_KEY]


# States


def test_a_wrong_hash_brings_a_whole_state_and_closer_watch():
    table = Table()
    seat = table.join()
    table.play(3)
    packed = table.room._sent[2]
    table.say(seat, Ack(2, seat.last_event, 0))
    table.say(seat, HashReport(2, packed.hash))
    assert table.room.metrics.num_desyncs == 0
    table.say(seat, HashReport(2, packed.hash ^ 1))
    table.play()
    assert any(isinstance(message, Keyframe) for message in table.heard(seat))
    assert seat.hash_every == RULES.pace.alert.hash
    assert (table.room.metrics.num_hashes, table.room.metrics.num_desyncs) == (2, 1)


def test_who_asks_for_a_whole_state_gets_it():
    table = Table()
    seat = table.join()
    table.play(3)
    table.say(seat, Ack(2, seat.last_event, 0))
    table.play()
    assert not any(isinstance(message, Keyframe) for message in table.heard(seat)[1:])
    table.say(seat, Resync(ResyncReason.BASE))
    table.play()
    assert any(isinstance(message, Keyframe) for message in table.heard(seat))


def test_an_event_is_sent_again_until_it_is_acknowledged():
    table = Table()
    seat = table.join()
    table.join()
    table.play(3)
    first = [message.id for message in table.heard(seat) if isinstance(message, EventMessage)]
    table.play(round(RULES.resend_ticks) + 1)
    assert [message.id for message in table.heard(seat) if isinstance(message, EventMessage)] == first == [1]
    table.say(seat, Ack(-1, 1, 0))
    table.play(40)
    assert not [message for message in table.heard(seat) if isinstance(message, EventMessage)]


def test_a_pong_tells_the_tick_that_plays_with_its_fraction():
    table = Table(block=4)
    seat = table.join()
    table.play(1)
    table.now = 2.5
    (pong,) = [message for message in table.say(seat, Ping(7.0)) if isinstance(message, Pong)]
    assert (pong.t0, pong.tick) == (7.0, 2.5)


# Too much to do


def test_an_overloaded_room_gives_up_spectators_then_joins_then_time_and_recovers():
    table = Table()
    player, watcher = table.join(), table.join(role=Role.SPECTATOR)
    table.room.is_overloaded = True
    reached = {}
    for _ in range(400):
        table.press(player, table.room.tick + 1, 0)
        table.play()
        reached.setdefault(table.room.ladder.name, table.now)
    assert watcher.dismissed is ErrorCode.OVERLOADED
    with pytest.raises(JoinError) as refusal:
        table.join()
    assert refusal.value.code is ErrorCode.OVERLOADED
    seats = table.room.seats
    table.room.seats = seats[:1]  # whoever finds no seat is told so, and waits for one
    with pytest.raises(JoinError) as refusal:
        table.join()
    assert refusal.value.code is ErrorCode.ROOM_FULL
    table.room.seats = seats
    stopped = table.room.tick
    assert table.play(10) == [None] * 10
    assert table.room.tick == stopped
    names = list(reached)
    waits = np.diff([reached[name] for name in names])
    assert names == list(RULES.ladder.steps)
    assert set(waits.tolist()) == {RULES.ladder.worse_after}
    table.room.is_overloaded = False
    table.play(round(RULES.ladder.better_after) + 2)
    assert table.room.tick > stopped
    told = [m.text for m in table.heard(player) if isinstance(m, EventMessage) and m.kind == "quality"]
    assert told[-1] == "refuse_joins"


def test_who_leaves_by_a_message_gives_the_seat_back_at_once():
    table = Table()
    seat = table.join()
    table.say(seat, Leave())
    assert table.join().number == 0


def test_unlawful_rules_are_refused_where_they_are_made():
    with pytest.raises(ValueError, match="rollback"):
        replace(RULES, late="never")
    with pytest.raises(ValueError, match="state_ring"):
        replace(RULES, state_ring=5)
