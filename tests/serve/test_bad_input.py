"""Whatever a client sends: it gets its code, and another player notices nothing."""

import contextlib
import json
import time
from dataclasses import replace

import msgspec
import pytest
from servers import PATIENCE_S, PlayerThread, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gamegen_x.serve.protocol import PROTOCOL, Error, Hello, Input, Welcome, decode_server, encode

HELLO = encode(Hello(PROTOCOL, "home"))


@pytest.fixture(scope="module")
def honest(server):
    """Somebody who plays all the while: at the end they have seen everything, on one connection."""
    with PlayerThread(server) as player:
        yield player
        before = len(player.frames)
        wait_until(lambda: len(player.frames) > before, "the honest player sees nothing any more")
    assert player.num_connections == 1
    assert player.client.num_desyncs == 0
    # where the machine is too busy the world is slower than the clock: what else went wrong is somebody's doing
    assert {error.code.value for error in player.client.errors} <= {"input_in_future"}


@contextlib.contextmanager
def seated(server, **options):
    """A socket with a seat, and its Welcome; waits where all seats are still taken."""
    end = time.monotonic() + PATIENCE_S
    while True:
        with connect(server.ws, subprotocols=[PROTOCOL], max_size=None, **options) as socket:
            socket.send(HELLO)
            message = decode_server(socket.recv(timeout=30))
            if isinstance(message, Welcome):
                yield socket, message
                return
        assert time.monotonic() < end, message
        time.sleep(0.2)


def said(server, *messages):
    """The errors that a client hears for what it says, and the code that its socket is closed with (0: it stays)."""
    found = []
    with seated(server) as (socket, _):
        return found, closed_with(socket, messages, found, is_enough=lambda error: not error.code.meaning.close)


def closed_with(socket, messages, heard, is_enough=lambda _: False):
    """The code that a socket is closed with after these messages, 0 where it stays; errors until then are collected."""
    try:
        for message in messages:
            socket.send(message)
        while True:
            message = decode_server(socket.recv(timeout=30))
            if isinstance(message, Error):
                heard.append(message)
                if is_enough(message):
                    return 0
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


WRONG = {
    "not a message": b"\xc1",
    "cut short": encode(Input(1, 5, 0, b"\x01\x00", -1, 0, 0, 1.0))[:-4],
    "nested deeply": b"\x91" * 2000,
    "huge integers": msgspec.msgpack.encode([2, 2**63, 2**62, 0, b"\x01\x00", -1, 0, 0, 1.0]),
    "not a number": msgspec.msgpack.encode([5, float("nan")]),
    "text as bytes": b'{"type":',
    "half of JSON": '{"type": "control", ',
    "infinite time": json.dumps({"type": "control", "timestamp": float("inf")}),
    "a wrong kind": "[99]",
    "wrong types": msgspec.msgpack.encode([2, "one", None, [], 7, -1, 0, 0, True]),
    "no UTF-8": b"\x93\x03\x01\xa4\xff\xfe\xfd\xfc",
    "JSON nested deeply": "[" * 3000,
    "a sentence with control characters": msgspec.msgpack.encode([3, 1, "let\x00it\x1bsnow"]),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_read_is_answered_and_the_player_stays(server, honest, data):
    errors, code = said(server, data)
    assert [error.code.value for error in errors] == ["malformed"]
    assert code == 0
    assert "Traceback" not in errors[0].message


def test_too_much_of_it_ends_the_connection(server, honest):
    errors = []
    with seated(server) as (socket, _):
        assert closed_with(socket, [b"\xc1"] * 40, errors) == 4400
    assert errors[-1].code.value == "too_much_malformed"


def test_a_long_message_is_refused_with_its_code(server, honest):
    errors, code = said(server, "x" * 5000)
    assert ([error.code.value for error in errors], code) == (["too_large"], 4413)


def test_a_megabyte_of_text_is_cut_off_before_anybody_reads_it(server, honest):
    assert said(server, "x" * 1_000_000) == ([], 1009)


def test_text_that_is_no_utf_8_ends_the_connection_before_anybody_reads_it(server, honest):
    with seated(server) as (socket, _):
        socket.send(b"\xff\xfe\xfd", text=True)
        assert closed_with(socket, [], []) == 1007


def test_nobody_can_send_what_grows_when_it_is_unpacked(server, honest):
    """S2: messages are never compressed, whatever a client offers."""
    with seated(server, compression="deflate") as (socket, _):
        assert socket.protocol.extensions == []


def test_a_message_that_is_sent_again_acts_once(server, honest):
    before = server.rooms["home"].room.metrics.refused["replayed"]
    with seated(server) as (socket, welcome):
        once = encode(Input(1, welcome.tick + 8, welcome.seat, b"\x08\x00", -1, 0, 0, 1.0))
        errors = []
        assert closed_with(socket, [once] * 20 + [b"\xc1"], errors, is_enough=lambda _: True) == 0
    assert server.rooms["home"].room.metrics.refused["replayed"] - before == 19


def test_input_for_another_seat_or_far_ahead_is_refused_and_nothing_happens(server, honest):
    other = Input(1, 10, honest.client.welcome.seat, b"\x08\x00", -1, 0, 0, 1.0)
    assert said(server, encode(other))[0][0].code.value == "other_seat"
    errors = []
    with seated(server) as (socket, welcome):
        ahead = Input(1, 2**30, welcome.seat, b"\x08\x00", -1, 0, 0, 1.0)
        assert closed_with(socket, [encode(ahead)], errors, is_enough=lambda _: True) == 0
    assert errors[0].code.value == "input_in_future"


def test_who_sends_a_thousand_messages_a_second_is_slowed_down_and_then_shut_out(server, honest):
    ping = msgspec.msgpack.encode([5, 1.0])
    with seated(server) as (socket, _):
        assert closed_with(socket, [ping] * 3000, []) == 4429
    assert server.rooms["home"].room.metrics.refused["rate_limited"] > 0


def test_who_says_nothing_is_asked_to_leave(server, honest):
    with connect(server.ws) as socket:
        assert closed_with(socket, [], []) == 4408


@pytest.mark.parametrize(
    ("hello", "said", "code"),
    [
        (Hello(PROTOCOL, "nowhere"), "unknown_room", 4404),
        (Hello("ggx.v0", "home"), "unknown_protocol", 4426),
        (Hello(PROTOCOL, "home", resume="guessed"), "resume_refused", 4410),
    ],
)
def test_who_asks_for_what_there_is_not_is_told_so(server, honest, hello, said, code):
    errors = []
    with connect(server.ws) as socket:
        assert closed_with(socket, [encode(hello)], errors) == code
    assert [error.code.value for error in errors] == [said]


def test_who_reads_no_more_costs_nobody_anything(server, honest):
    with seated(server, ping_interval=None, max_queue=1) as (socket, welcome):
        seat = server.rooms["home"].room.seats[welcome.seat]
        before, began = len(honest.frames), time.monotonic()
        while time.monotonic() - began < 1.5:
            socket.send(msgspec.msgpack.encode([5, 1.0]))  # it talks, but never listens
            time.sleep(0.05)
        assert len(seat.outbox) <= 64 + 256 + 2
        assert len(honest.frames) > before
        assert seat.outbox.num_skipped_frames > 0 or not seat.is_here


def test_more_sockets_than_may_be_are_turned_away(server, honest, monkeypatch):
    wait_until(lambda: server.host.num_sockets == 1, "sockets of other tests stay open")
    one_more = replace(server.host.sockets, max_sockets=server.host.num_sockets + 1)
    monkeypatch.setattr(server.host, "sockets", one_more)
    with connect(server.ws), connect(server.ws) as second, pytest.raises(ConnectionClosed) as closed:
        second.recv(timeout=30)
    assert closed.value.rcvd.code == 1013
