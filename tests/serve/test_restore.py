"""What is left when a server ends, however it ends: its worlds go on in the next one, with the same seats."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
from harnesses import harness
from servers import PATIENCE_S, serve_config

from gamegen_x.config import build
from gamegen_x.serve.bots import Bot
from gamegen_x.serve.host import Host
from gamegen_x.serve.pebbles import Pebbles
from gamegen_x.serve.played_world import TruthWorld
from gamegen_x.serve.protocol import PROTOCOL, EventMessage, Hello, Input, Text, Welcome
from gamegen_x.serve.recorder import Played, Recorder, RecordingRules
from gamegen_x.serve.replay import world_of
from gamegen_x.serve.restore import open_sessions, played_again, state_at_end
from gamegen_x.serve.room import Room
from gamegen_x.serve.seat import JoinError, digest_of
from gamegen_x.serve.session_log import read_end, read_session
from gamegen_x.world.snapshot import read_keyframe, state_hash

HARNESS = harness()
FPS = 24


# A session's end


@pytest.fixture(scope="module")
def cfg():
    return serve_config("first_room.num_players=3")


def recorded(cfg, folder, num_ticks, state_every_s=1.0):
    """A session of two players that nobody closed, as a killed server leaves it after its last flush."""
    host = Host(cfg)
    order = host.order("hill", num_players=3)
    game = host.offer.game(order)
    truth = TruthWorld(build(game), order.seed)
    rules = RecordingRules(str(folder), 60.0, 8.0, state_every_s, 600.0)
    recorder = Recorder(rules, Played("hill", game, order.seed, truth.fps, "truth"), b"key")
    recorder.begin(truth.start())
    room = Room("hill", truth, HARNESS.room, on_final=recorder.final)
    room.on_seat = lambda seat, hello: (
        recorder.rise(room.tick + 1, seat.number)
        if hello is None
        else recorder.sit(room.tick + 1, seat.number, hello.token, seat.resume)
    )
    seats = [room.join(Hello(PROTOCOL, "hill", token=name), 0.0)[0] for name in ("ann", "bob", "cy")]
    for tick in range(num_ticks):
        for seat in seats[:2]:
            keys = bytes([1 << ((tick // 8 + seat.number) % 4), 0])
            room.receive(seat, Input(tick, tick, seat.number, keys, -1, 0, 0, 0.0), float(tick))
        if tick == 10:
            room.receive(seats[0], Text(1, "Let it snow."), float(tick))
            room.leave(seats[2], float(tick))
        room.advance(float(tick))
    recorder.flush()
    return room, recorder, seats


def test_the_end_of_a_session_is_the_state_that_was_played(cfg, tmp_path):
    room, recorder, seats = recorded(cfg, tmp_path, num_ticks=60)
    end = read_end(recorder.path)
    assert (end.last_tick, end.tick, len(end.later), end.is_over) == (59, 47, 12, False)
    assert sorted(end.seats) == [0, 1]  # the third gave their seat back
    assert [end.seats[seat.number].resume for seat in seats[:2]] == [digest_of(seat.resume) for seat in seats[:2]]
    assert seats[0].resume.encode() not in recorder.path.read_bytes()  # nobody comes in with what a log says
    assert state_hash(state_at_end(world_of(end), end)) == state_hash(room.state)
    recorder.close()


def test_only_worlds_that_were_left_open_lately_are_gone_on_with(cfg, tmp_path):
    _, recorder, _ = recorded(cfg, tmp_path, num_ticks=30)
    assert [end.header.name for end in open_sessions(tmp_path, time.time() - 60)] == ["hill"]
    assert open_sessions(tmp_path, time.time() + 60) == []
    torn = recorder.path.with_name("hill-99999999-000000-0000030.ggxlog")
    torn.write_bytes(b"GGXLOG1\n\x00")  # killed while the next file was begun: the one before it counts
    assert [end.last_tick for end in open_sessions(tmp_path, 0.0)] == [29]
    recorder.close(is_over=True)
    assert open_sessions(tmp_path, 0.0) == []


def test_a_server_goes_on_only_with_worlds_that_it_would_make_itself(cfg, tmp_path):
    recorded(cfg, tmp_path, num_ticks=30)[1].close()

    def taken_up(*overrides):
        found = Host(serve_config(f"recording.folder={tmp_path}", *overrides))._open_sessions()
        return [end.header.name for end in found]

    assert taken_up() == ["hill"]
    assert taken_up("recording.restore_s=0") == taken_up("game.split=train") == []
    assert taken_up("first_room.name=hill", "first_room.num_players=2") == []  # asked for with other seats
    assert taken_up("first_room.name=hill", "first_room.num_players=3") == ["hill"]


@pytest.mark.parametrize("max_rooms", [1, 2])
def test_worlds_of_before_keep_nobody_waiting_and_are_taken_up_at_the_latest_when_somebody_asks(
    cfg, tmp_path, max_rooms
):
    recorded(cfg, tmp_path, num_ticks=30)[1].close()
    host = Host(serve_config(f"recording.folder={tmp_path}", f"lobby.max_rooms={max_rooms}"))

    async def session():
        async with host.running():
            async with asyncio.timeout(PATIENCE_S):
                while not host.stage.is_ready or len(host.lobby.rooms) < max_rooms:
                    await asyncio.sleep(0.02)
            there = list(host.lobby.rooms)
            return there, (await host.lobby.open(host.order("hill"))).room.tick

    assert asyncio.run(session()) == (["home", "hill"][:max_rooms], 29)


def test_a_recording_that_breaks_costs_its_world_and_not_the_server(cfg, tmp_path, monkeypatch):
    recorded(cfg, tmp_path, num_ticks=30)[1].close()
    host = Host(serve_config(f"recording.folder={tmp_path}", "first_room.name=hill", "first_room.num_players=3"))

    def breaks(*_):
        raise TypeError("an event of another version")

    monkeypatch.setattr("gamegen_x.serve.host.state_at_end", breaks)

    async def session():
        async with host.running(), asyncio.timeout(PATIENCE_S):
            while not host.stage.is_ready:
                await asyncio.sleep(0.02)
            return host.failure, host.lobby.rooms["hill"].room.tick

    assert asyncio.run(session()) == (None, -1)


# Seats of an earlier life


def test_a_seat_of_an_earlier_life_is_given_back_once_with_events_counted_anew():
    room = Room("r", Pebbles(2, 1), HARNESS.room, last_tick=99, life="second")
    room.keep_seat(1, digest_of("old token"), 0.0)
    other, _ = room.join(Hello(PROTOCOL, "r"), 0.0)
    assert other.number == 0  # the kept seat is nobody else's
    hello = Hello(PROTOCOL, "r", resume="old token", last_event=57)
    seat, welcome = room.join(hello, 1.0)
    assert (seat.number, welcome.tick, welcome.life, welcome.event) == (1, 99, "second", 0)
    assert [told.message.kind for told in seat.untold] == ["joined"]  # as its player missed it
    again, second = room.join(hello, 2.0)  # the first Welcome was lost
    assert (again, second.event) == (seat, 0)
    room.receive(seat, Input(1, 100, 1, b"\x00\x00", -1, 0, 0, 0.0), 3.0)
    with pytest.raises(JoinError, match="unknown, used"):
        room.join(hello, 4.0)
    room.advance(5.0)
    assert room.tick == 100
    assert isinstance(second, Welcome)
    assert any(isinstance(told.message, EventMessage) for told in seat.untold)


# Real servers, real clients


class Server:
    """A server in a process of its own, that can be killed and started again at the same address."""

    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None
        self.url, self.ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws"

    def start(self):
        overrides = (
            f"port={self.port}",
            f"recording.folder={self.folder}",
            "first_room.num_players=3",
            "room.room.away_ticks=2400",
            "room.room.ladder.worse_after=100000",
        )
        self.process = subprocess.Popen([sys.executable, "-m", "gamegen_x.serve", *overrides])
        return time.monotonic()

    async def ready(self):
        async with httpx.AsyncClient() as browser:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await browser.get(f"{self.url}/readyz")).status_code == httpx.codes.OK:
                        return
                assert self.process.poll() is None, "the server ended"
                await asyncio.sleep(0.1)

    def newest_log(self):
        return max(self.folder.glob("*.ggxlog"), key=lambda path: path.stat().st_mtime)


@pytest.fixture
def server(tmp_path):
    from gamegen_x.serve.__main__ import listen

    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    found = Server(tmp_path / "sessions", port)
    found.start()
    yield found
    if found.process.poll() is None:
        found.process.kill()
    found.process.wait()


def bots(server, num, finals):
    made = [Bot(server.ws, "home", HARNESS, seed, 0.3) for seed in range(num)]
    for bot in made:
        bot.client.on_final = lambda tick, value, client=bot.client: finals.setdefault(client._life, {}).update(
            {tick: value}
        )
    return made


async def until(is_true):
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def playing(players):
    tasks = [asyncio.create_task(each.play(float("inf"))) for each in players]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def newest(bot):
    return -1 if bot.client.newest is None else bot.client.newest.tick


def test_a_server_that_is_killed_has_its_worlds_back_with_the_same_seats_and_state(server):
    """S14: at most a second of what was done is lost, and everybody is back within thirty."""
    finals = {}

    async def session():
        await server.ready()
        players = bots(server, 2, finals)
        async with playing(players):
            await until(lambda: all(newest(bot) > 3 * FPS for bot in players))
            seats = [bot.client.welcome.seat for bot in players]
            life = players[0].client.welcome.life
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            at_kill, log = max(map(newest, players)), server.newest_log()
            end = read_end(log)
            began = server.start()
            await until(lambda: all(bot.client._life != life and newest(bot) > end.last_tick for bot in players))
            print(f"seconds: {time.monotonic() - began:.2f}")
            await until(lambda: all(newest(bot) > end.last_tick + 2 * FPS for bot in players))
            assert [bot.client.welcome.seat for bot in players] == seats
            assert [(bot.client.num_joins, bot.client.num_desyncs) for bot in players] == [(1, 0)] * 2
            return at_kill, log, end, life

    at_kill, log, end, life = asyncio.run(session())
    lost = (at_kill - end.last_tick) / FPS
    print(f"lost: {lost:.2f} s")
    assert lost <= 1.0 + HARNESS.room.ticks_late / FPS
    played = {record.tick: record.hash for record in read_session(log).ticks}
    known = {tick: value for tick, value in finals[life].items() if tick in played}
    assert known
    assert known == {tick: played[tick] for tick in known}
    second = server.newest_log()
    assert second != log
    header = read_session(second).header
    world = world_of(end)
    ended = state_at_end(world, end)
    assert header.first_tick == end.last_tick + 1
    assert state_hash(read_keyframe(header.start, world.start())) == state_hash(ended)
    assert list(played_again(world, ended, read_session(second).ticks))  # the second life is that of the same world


def test_a_server_that_is_told_to_end_says_so_and_loses_nothing(server):
    """S15: the sockets close with 1012, all that was played is on the disk, and everybody comes back by themselves."""
    finals = {}

    async def session():
        await server.ready()
        players = bots(server, 3, finals)
        async with playing(players):
            await until(lambda: all(newest(bot) > 2 * FPS for bot in players))
            seats = [bot.client.welcome.seat for bot in players]
            life = players[0].client.welcome.life
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            await until(lambda: all(bot.client.is_restarting for bot in players))
            await asyncio.to_thread(server.process.wait)
            print(f"seconds: {time.monotonic() - began:.2f}")
            assert time.monotonic() - began < 10
            at_end, end = max(map(newest, players)), read_end(server.newest_log())
            server.start()
            await until(lambda: all(bot.client._life != life and newest(bot) > end.last_tick for bot in players))
            assert [bot.client.welcome.seat for bot in players] == seats
            assert not any(bot.client.is_restarting for bot in players)
            return at_end, end, life

    at_end, end, life = asyncio.run(session())
    assert end.last_tick >= at_end
    played = {record.tick: record.hash for record in read_session(server_log(server, end)).ticks}
    known = {tick: value for tick, value in finals[life].items() if tick in played}
    assert known
    assert all(played[tick] == value for tick, value in known.items())


def server_log(server, end):
    return next(
        path for path in server.folder.glob("*.ggxlog") if read_session(path).header.first_tick == end.header.first_tick
    )
