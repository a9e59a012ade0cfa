"""The clock of a room, and the lobby that starts and stops it: real asyncio, a small world."""

import asyncio
import threading
import time

import numpy as np
import pytest
import simplejpeg
from harnesses import harness

from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.frame_codec import Jpeg, split_pictures
from gamegen_x.serve.game_loop import GameLoop, TickClock, Viewer
from gamegen_x.serve.lobby import Lobby, LobbyRules, OpenRoom, RoomOrder
from gamegen_x.serve.pebbles import Pebbles
from gamegen_x.serve.protocol import PROTOCOL, Frame, Hello, Role
from gamegen_x.serve.recorder import Played, Recorder, RecordingRules
from gamegen_x.serve.room import Room
from gamegen_x.serve.seat import JoinError

FPS = 100.0
CRISP, THIN = (
    Jpeg(name="crisp", quality=90, subsampling="444"),
    Jpeg(name="thin", quality=40, subsampling="420", every=2),
)


class Grey:
    """Pictures whose grey is the tick; each takes a while."""

    can_skip = True

    def __init__(self, seconds=0.0, num_players=2):
        self.seconds, self.num_players, self.is_ready, self.num_drawn = seconds, num_players, True, 0

    async def draw(self, block):
        await asyncio.sleep(self.seconds)
        self.num_drawn += 1
        grey = [np.full((16, 16, 3), 8 * (state.tick % 32), np.uint8) for state in block.states]
        return [[each] * self.num_players for each in grey]


def made(views, rules=None):
    room = Room("r", Pebbles(2, seed=1, fps=FPS), rules or harness().room)
    return room, GameLoop(room, views, TickClock(FPS), max_behind=2)


def seated(room, loop, tier=CRISP):
    viewer = Viewer(room.join(Hello(PROTOCOL, "r"), 0.0)[0], tier)
    loop.viewers.append(viewer)
    return viewer


async def played(loop, is_enough):
    """Plays until something is true; a busy machine may take its time."""
    task = asyncio.create_task(loop.run())
    await until(is_enough)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def frame_of(viewer):
    found = None
    while (message := viewer.seat.outbox.take()) is not None:
        found = message if isinstance(message, Frame) else found
    return found


def test_ticks_follow_the_clock_and_what_is_too_late_is_left_out_and_counted():
    room, loop = made(Grey(seconds=0.05))  # five ticks for the work of one
    began = time.monotonic()
    asyncio.run(played(loop, lambda: room.metrics.num_skipped_ticks > 10))
    ticks = (time.monotonic() - began) * FPS
    assert room.tick + 1 + room.metrics.num_skipped_ticks <= ticks + 6


def test_a_slow_player_gets_the_newest_picture_and_no_backlog():
    room, loop = made(Grey())
    slow = seated(room, loop)
    asyncio.run(played(loop, lambda: slow.seat.outbox.num_skipped_frames > 3))
    assert frame_of(slow).seq == loop.num_drawn
    assert len(slow.seat.outbox) == 0


def test_each_gets_their_own_tier_and_half_its_size_when_the_room_is_in_trouble():
    room, loop = made(Grey())
    crisp, thin = seated(room, loop), seated(room, loop, THIN)
    asyncio.run(played(loop, lambda: loop.num_drawn >= 4))
    frame, other = frame_of(crisp), frame_of(thin)
    assert len(frame.payload) > len(other.payload)
    assert len(split_pictures(frame.payload)) == room.rules.block
    assert size_of(frame) == size_of(other) == (16, 16)
    room.ladder.step = list(room.rules.ladder.steps).index("lower_resolution")
    crisp.seat.outbox.acknowledge_frame(frame.seq)
    asyncio.run(played(loop, lambda: loop.num_drawn > frame.seq + 2))
    assert size_of(frame_of(crisp)) == (8, 8)


def test_a_line_of_two_thirds_of_what_pictures_need_gets_smaller_ones_within_five_seconds():
    """S4: and whole ones again once it has had room for ten."""
    room, _ = made(Grey())
    viewer = Viewer(room.join(Hello(PROTOCOL, "r"), 0.0)[0], CRISP)
    outbox, shrinks = viewer.seat.outbox, []
    for tick in range(800):
        outbox.put(Frame(tick, tick, 1, "jpeg", True, 0, 0.0, b""))
        if tick >= 240 or tick % 3:
            outbox.take()
            outbox.acknowledge_frame(tick)
        viewer.watch_line(float(tick), room.rules.ladder)
        shrinks.append(viewer.tier_now(is_room_in_trouble=False).shrink)
    assert shrinks.index(2) <= 5 * 24
    assert 240 + room.rules.ladder.better_after <= 800 - shrinks[::-1].index(2) <= 540
    assert shrinks[-1] == 1


def size_of(frame):
    return simplejpeg.decode_jpeg(split_pictures(frame.payload)[0]).shape[:2]


def test_pictures_get_smaller_after_two_seconds_of_overload_and_whole_again_after_ten_without():
    """S17: what a room gives up it takes back, late, and overload that comes and goes changes nothing."""
    room, loop = made(Grey())
    viewer = Viewer(room.join(Hello(PROTOCOL, "r"), 0.0)[0], CRISP)
    shrinks = {}
    for tick in range(3000):
        room.is_overloaded = tick < 110 or (300 <= tick < 310 and tick % 2 == 0)
        room.advance(float(tick))
        shrinks.setdefault(loop._tier(viewer).shrink, []).append(tick)
    rules = room.rules.ladder
    assert list(shrinks) == [1, 2]
    assert shrinks[2][0] == 2 * rules.worse_after
    assert np.ptp(shrinks[2]) + 1 == len(shrinks[2])  # once, without flicker
    assert shrinks[2][-1] >= 110 + rules.better_after - 1


def test_a_world_without_its_model_stands_still_and_goes_on():
    views = Grey()
    views.is_ready = False
    room, loop = made(views)
    asyncio.run(played(loop, lambda: len(loop.times.late) > 5))
    assert room.tick == -1
    views.is_ready = True
    asyncio.run(played(loop, lambda: room.tick > 0))


def lobby(max_rooms=2, keep_s=0.05, closed=None):
    def make(order):
        room, loop = made(Grey())
        recorder = Recorder(RecordingRules(None, 1, 1, 1, 0), Played(order.name, {}, 0, FPS, "truth"), b"k")
        return OpenRoom(
            order, room, loop, None, recorder, lambda: closed.append(order.name) if closed is not None else None
        )

    return Lobby(make, LobbyRules(max_rooms, keep_s, 0.02))


async def until(is_true):
    async with asyncio.timeout(60):
        while not is_true():
            await asyncio.sleep(0.01)


def order(name):
    return RoomOrder(name, "truth", 2, "overhead", 0)


def test_a_loop_runs_while_somebody_is_there_and_its_room_goes_when_nobody_comes_back():
    closed = []

    async def session():
        rooms = lobby(closed=closed)
        async with rooms.running():
            found = await rooms.open(order("hill"))
            viewer = Viewer(found.room.join(Hello(PROTOCOL, "hill"), 0.0)[0], CRISP)
            with rooms.viewing(viewer, "hill"):
                assert found.task is not None
                await until(lambda: found.room.tick > 0)
                found.room.leave(viewer.seat, 0.0)
            await until(lambda: not rooms.rooms)

    asyncio.run(session())
    assert closed == ["hill"]


def test_a_full_lobby_gives_up_an_empty_room_but_never_one_with_players():
    async def session():
        rooms = lobby(max_rooms=1, keep_s=60)
        await rooms.open(order("empty"))
        found = await rooms.open(order("busy"))
        assert list(rooms.rooms) == ["busy"]
        found.room.join(Hello(PROTOCOL, "busy"), 0.0)
        with pytest.raises(JoinError) as refused:
            await rooms.open(order("one-more"))
        assert refused.value.code is ErrorCode.OVERLOADED
        assert await rooms.open(order("busy")) is found

    asyncio.run(session())


def test_a_room_that_is_there_is_found_while_another_one_is_built():
    async def session():
        rooms = lobby()
        found = await rooms.open(order("home"))
        make, may_go_on = rooms.make, threading.Event()
        rooms.make = lambda wish: (may_go_on.wait(60), make(wish))[1]
        building = asyncio.create_task(rooms.open(order("slow")))
        await asyncio.sleep(0.01)
        assert await asyncio.wait_for(rooms.open(order("home")), 30) is found
        may_go_on.set()
        await building
        assert list(rooms.rooms) == ["home", "slow"]

    asyncio.run(session())


def test_a_room_that_nobody_asked_for_closes_none():
    async def session():
        rooms = lobby(max_rooms=1, keep_s=60)
        await rooms.open(order("empty"))
        with pytest.raises(JoinError):
            await rooms.open(order("busy"), may_make_space=False)
        assert list(rooms.rooms) == ["empty"]

    asyncio.run(session())


def test_a_room_that_made_space_while_it_was_flushed_does_not_stop_the_lobby():
    async def session():
        rooms = lobby(max_rooms=1, keep_s=0.01)
        found = await rooms.open(order("empty"))
        flushing, has_gone = threading.Event(), threading.Event()
        found.recorder.flush = lambda: (flushing.set(), has_gone.wait(30))
        async with rooms.running():
            await until(flushing.is_set)
            await rooms.open(order("busy"))
            has_gone.set()
            await until(lambda: not rooms.rooms)  # the keeper lives, and closes the other one, too

    asyncio.run(session())


def test_spectators_see_through_the_eyes_of_somebody_who_is_here():
    room, loop = made(Grey())
    viewer = Viewer(room.join(Hello(PROTOCOL, "r", Role.SPECTATOR), 0.0)[0], CRISP)
    assert (viewer.view([]), viewer.view([1, 2]), viewer.view([0, 1]), viewer.view([0])) == (0, 1, 0, 0)
    assert seated(room, loop).view([1]) == 0  # who plays sees their own


@pytest.mark.parametrize("name", ["", "-x", "Ä", "a/b", "..", "x" * 33, "a b"])
def test_a_name_that_cannot_stand_in_a_link_is_refused(name):
    with pytest.raises(ValueError, match="small letters"):
        order(name)
