"""The model's process: pictures of several rooms at once, and what happens when it is killed or hangs."""

import asyncio
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from servers import serve_config

from gamegen_x.config import build
from gamegen_x.games.snowglobe_conditions import FACTS
from gamegen_x.serve.model_process import ModelProcess, ModelViews
from gamegen_x.serve.played_world import TruthWorld, scene_of, sentence_for
from gamegen_x.serve.protocol import PROTOCOL, Hello, Text
from gamegen_x.serve.room import REBIND, Room

WEIGHTS = "weights/snowglobe-tiny"
PATIENCE_S = 900


def room_of(cfg, process, seed):
    truth = TruthWorld(build(cfg.game), seed)
    views = ModelViews(process, truth, seed)
    rules = replace(build(cfg.room).room, block=process.shape.frames, late=REBIND)
    views.room = Room(f"room-{seed}", truth, rules)
    return views.room, views


async def until(is_true):
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():
            await asyncio.sleep(0.05)


def test_one_model_draws_for_several_rooms_and_comes_back_when_killed_or_hung():
    cfg = serve_config(
        "game.num_players=2",
        "model.num_steps=1",
        "model.threads=1",
        "model.wait_s=0.05",
        "model.hang_s=200",
        "model.load_s=900",
    )

    async def session():
        process = ModelProcess(build(cfg.model), WEIGHTS, "cpu", max_rooms=3)
        async with process.running():
            await until(lambda: process.is_ready)
            rooms = [room_of(cfg, process, seed) for seed in (1, 2)]
            for room, _ in rooms:
                room.join(Hello(PROTOCOL, room.name), 0.0)
            await both_are_drawn(process, rooms)
            assert max(process.rooms_together) == 2

            os.kill(process.pid, signal.SIGKILL)
            room, views = rooms[0]
            assert await views.draw(room.advance(20.0)) is None
            await until(lambda: process.is_ready and process.generation == 2)
            assert looks_like_a_world(await views.draw(room.advance(24.0)))

            process.rules = replace(process.rules, hang_s=0.2)
            os.kill(process.pid, signal.SIGSTOP)
            room.join(Hello(PROTOCOL, room.name), 25.0)  # what they have seen is more than a pipe holds
            assert await views.draw(room.advance(28.0)) is None
            await until(lambda: process.generation == 3)
            views.close()
            assert process.take_region() == 2

    asyncio.run(session())


async def both_are_drawn(process, rooms):
    """A newcomer's first picture goes on from what the truth showed; a second player may come and go."""
    (one, one_views), (two, two_views) = rooms
    blocks = [one.advance(4.0), two.advance(4.0)]
    os.kill(process.pid, signal.SIGSTOP)  # so that it finds both requests when it looks
    drawing = asyncio.gather(one_views.draw(blocks[0]), two_views.draw(blocks[1]))
    await until(lambda: len(process._waiting) == 2)
    os.kill(process.pid, signal.SIGCONT)
    pictures = await drawing
    assert all(looks_like_a_world(each) for each in pictures)
    truth = one_views.truth.draw([blocks[0].states[0]], blocks[0].keys[:1])[0][0]
    other = two_views.truth.draw([blocks[1].states[0]], blocks[1].keys[:1])[0][0]
    distance = [np.abs(pictures[0][0][0].astype(int) - each.astype(int)).mean() for each in (truth, other)]
    assert distance[0] < distance[1]
    seat, _ = one.join(Hello(PROTOCOL, one.name), 5.0)
    both = await one_views.draw(one.advance(8.0))
    assert both[0][1].any()
    one.leave(seat, 9.0)
    alone = await one_views.draw(one.advance(12.0))
    assert not alone[0][1].any()


def looks_like_a_world(pictures):
    picture = pictures[-1][0]
    return picture.shape == (64, 64, 3) and picture.std() > 5


def test_the_model_hears_what_the_world_was_asked_for():
    cfg = serve_config("game.num_players=1")
    shape = SimpleNamespace(frames=4, height=64, width=64, keys=tuple(cfg.game["keys"]["keys"]))
    process = SimpleNamespace(shape=shape, rules=SimpleNamespace(past_blocks=2), take_region=lambda: 0)
    views = ModelViews(process, TruthWorld(build(cfg.game), 3), 3)
    room = Room("r", views.truth, build(cfg.room).room)
    seat, _ = room.join(Hello(PROTOCOL, "r"), 0.0)
    wanted = next(
        name for name in FACTS["weather"] if FACTS["weather"].index(name) != views._heard.conditions.target[0]
    )
    sentence = sentence_for(0, FACTS["weather"].index(wanted))
    room.receive(seat, Text(1, sentence), 30.0)
    views._listen(room.advance(31.0).states[-1])
    assert views._instruction == sentence
    assert scene_of(room.state, 2).startswith("Two players walk through a")
