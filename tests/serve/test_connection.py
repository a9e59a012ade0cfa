"""One socket's server half: whatever a client sends, it gets a code, and nobody else notices."""

import resource

import msgspec
import numpy as np
import pytest
from harnesses import harness

from gamegen_x.serve.connection import Connection
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.pebbles import Pebbles
from gamegen_x.serve.protocol import (
    MAX_CLIENT_BYTES,
    PROTOCOL,
    Error,
    Hello,
    Input,
    Leave,
    Ping,
    Pong,
    Text,
    Welcome,
    decode_server,
    encode,
    encode_text,
)
from gamegen_x.serve.room import Room

HARNESS = harness()
RULES = HARNESS.connection
HELLO = Hello(PROTOCOL, "cave")


@pytest.fixture
def room():
    return Room("cave", Pebbles(2, 1), HARNESS.room)


def connected(room, now=0.0, hello=HELLO, **options):
    connection = Connection({"cave": room}.get, RULES, now, **options)
    connection.receive(encode(hello), now)
    return connection


def answers(connection):
    return [decode_server(data) for data in connection.take()]


def codes(connection):
    return [message.code for message in answers(connection) if isinstance(message, Error)]


def malformed(rng):
    """Bytes that are no message: cut short, of wrong types, too deep, too large, or noise."""
    good = encode(Input(1, 5, 0, b"\x01\x00\x01\x00", 1, 0, 0, 2.5))
    packed = msgspec.msgpack.encode
    makers = [
        lambda: good[: rng.integers(1, len(good))],
        lambda: packed([2, 1, float("nan"), 0, b"ab", 0, 0, 0, 0.0]),
        lambda: packed([2, 2**63, 1, 0, b"ab", 0, 0, 0, 0.0]),
        lambda: packed([int(rng.integers(9, 100)), "x"]),
        lambda: b"\x91" * int(rng.integers(1, 3000)),
        lambda: b"\x93\x03\x01\xa4\xff\xfe\xfd\xfc",
        lambda: "[" * int(rng.integers(1, 3000)),
        lambda: '{"type": "control", "timestamp": 1e999}',
        lambda: b"\xc1" + rng.bytes(int(rng.integers(1, 200))),
    ]
    return makers[rng.integers(len(makers))]()


def test_a_thousand_unreadable_messages_end_nothing_and_leave_nothing_behind(room):
    """S1."""
    connection, rng = connected(room), np.random.default_rng(0)
    gap = RULES.malformed_ticks / (RULES.max_malformed - 2)
    refused, before = 0, 0
    for number in range(1000):
        connection.receive(malformed(rng), number * gap)
        refused += codes(connection).count(ErrorCode.MALFORMED)
        if number == 200:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert refused == 1000
    connection.receive(encode(Ping(1.0)), 1000 * gap)
    assert any(isinstance(message, Pong) for message in answers(connection))
    assert grown_kb <= 5 * 1024


def test_an_error_names_the_field_and_shows_no_traceback(room):
    connection = connected(room)
    answers(connection)
    connection.receive(msgspec.msgpack.encode([3, 1, "x" * 600]), 1.0)
    (error,) = answers(connection)
    assert (error.code, error.field) == (ErrorCode.MALFORMED, "text")
    assert "File" not in error.message


def test_twenty_unreadable_messages_in_ten_seconds_close_the_socket_and_keep_the_seat(room):
    connection, rng = connected(room), np.random.default_rng(1)
    token = connection.seat.resume
    for number in range(RULES.max_malformed):
        assert connection.close_code == 0
        connection.receive(malformed(rng), float(number))
    assert connection.close_code == 4400
    assert codes(connection)[-1] is ErrorCode.TOO_MUCH_MALFORMED
    again = connected(room, 30.0, Hello(PROTOCOL, "cave", resume=token))
    assert again.seat.number == 0


@pytest.mark.parametrize("data", [b"x" * 1_000_000, "x" * 1_000_000, encode(Text(1, "a" * MAX_CLIENT_BYTES))])
def test_what_is_too_large_closes_the_socket_unread(room, data):
    """S2."""
    connection = connected(room)
    connection.receive(data, 1.0)
    assert connection.close_code == 4413
    assert ErrorCode.TOO_LARGE in codes(connection)


def test_a_flood_is_dropped_then_closed_and_the_room_hears_only_what_is_allowed(room):
    """S11: a thousand messages a second."""
    flooder, honest = connected(room), connected(room)
    answers(flooder)
    taken, number = [], 0
    room.receive = lambda seat, message, now, receive=room.receive: (taken.append(seat), receive(seat, message, now))
    for tick in range(24):
        for _ in range(42):
            number += 1
            flooder.receive(encode(Input(number, tick, 0, b"\x01\x00", -1, 0, 0, 0.0)), float(tick))
        honest.receive(encode(Input(tick, tick, 1, b"\x02\x00", -1, 0, 0, 0.0)), float(tick))
        room.advance(float(tick))
    assert flooder.close_code == 4429
    assert taken.count(flooder.seat) == RULES.max_messages - 1  # Hello was one of them
    assert codes(flooder) == [ErrorCode.RATE_LIMITED, ErrorCode.FLOODING]
    assert taken.count(honest.seat) == 24
    assert room.tick == 23


def test_two_hundred_connections_that_say_nothing_take_no_seat_and_are_closed(room):
    silent = [Connection({"cave": room}.get, RULES, 0.0) for _ in range(200)]
    for connection in silent:
        connection.poll(RULES.hello_ticks + 1)
    assert {connection.close_code for connection in silent} == {4408}
    assert not any(seat.is_here for seat in room.seats)


def test_nothing_is_heard_before_hello(room):
    connection = Connection({"cave": room}.get, RULES, 0.0)
    connection.receive(encode(Leave()), 0.0)
    assert codes(connection) == [ErrorCode.HELLO_EXPECTED]


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (Hello("ggx.v0", "cave"), ErrorCode.UNKNOWN_PROTOCOL),
        (Hello(PROTOCOL, "nowhere"), ErrorCode.UNKNOWN_ROOM),
        (Hello(PROTOCOL, "cave", resume="made up"), ErrorCode.RESUME_REFUSED),
    ],
)
def test_a_hello_that_leads_nowhere_is_answered_and_closed(room, hello, code):
    connection = connected(room, hello=hello)
    assert codes(connection) == [code]
    assert connection.close_code == code.meaning.close


def test_who_may_not_come_in_is_told_so(room):
    connection = connected(room, authorize=lambda hello: hello.token == "secret")
    assert connection.close_code == 4401
    assert not any(seat.is_here for seat in room.seats)


def test_a_hello_that_is_sent_again_is_answered_again_and_takes_no_second_seat(room):
    connection = connected(room)
    connection.receive(encode(HELLO), 1.0)
    welcomes = [message for message in answers(connection) if isinstance(message, Welcome)]
    assert len(welcomes) == 2
    assert welcomes[0] == welcomes[1]
    assert sum(seat.is_here for seat in room.seats) == 1


def test_the_server_answers_in_the_form_of_the_hello(room):
    connection = Connection({"cave": room}.get, RULES, 0.0)
    connection.receive(encode_text(HELLO), 0.0)
    room.advance(0.0)
    assert all(isinstance(data, str) for data in connection.take())


def test_an_older_connection_is_closed_when_its_player_comes_back_on_another(room):
    """S6: the address changed, and the old socket does not know yet."""
    old = connected(room)
    new = connected(room, 1.0, Hello(PROTOCOL, "cave", resume=old.seat.resume))
    old.receive(encode(Leave()), 2.0)  # no longer listened to
    old.poll(2.0)
    assert old.close_code == 4411
    assert new.seat is old.seat
    assert new.seat.is_here
    assert any(isinstance(message, Welcome) for message in answers(new))


def test_silence_is_a_lost_connection_and_the_seat_stays(room):
    connection = connected(room)
    connection.poll(RULES.silent_ticks + 1)
    assert connection.close_code == 1000
    assert room.seats[0].presence.value == "away"


def test_a_server_that_goes_away_says_so(room):
    connection = connected(room)
    answers(connection)
    connection.go_away()
    assert codes(connection) == [ErrorCode.GOING_AWAY]
    assert connection.close_code == 1012  # registered for a service that restarts
