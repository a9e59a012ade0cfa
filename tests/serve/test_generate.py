"""Clips made to order, each in a process of its own."""

import asyncio

import pytest

from gamegen_x.sampling.video_file import read_video
from gamegen_x.serve.generate import DONE, FAILED, WAITING, ClipOrder, GenerateRules, Generator, QueueFullError

WEIGHTS = "weights/snowglobe-tiny"


def order(**changes):
    wish = {"prompt": "", "keys": "W*4", "num_frames": 8, "instruction": "Make it night.", "instruction_frame": 4}
    return ClipOrder(**{**wish, "num_players": 1, "seed": 0, **changes})


def generator(folder, **changes):
    rules = {
        "weights": WEIGHTS,
        "folder": str(folder),
        "max_waiting": 1,
        "max_kept": 1,
        "max_frames": 16,
        "niceness": 10,
        "patience_s": 300,
        "scale": 2,
        "crf": 18,
    }
    return Generator(GenerateRules(**rules | changes), "cpu")


async def finished(maker, job):
    async with asyncio.timeout(400):
        while maker.jobs[job.id].stage not in (DONE, FAILED):
            await asyncio.sleep(0.05)
    return maker.jobs[job.id]


def test_a_clip_is_made_and_says_how_far_it_is(tmp_path):
    async def session():
        maker = generator(tmp_path)
        async with maker.running():
            return await finished(maker, maker.submit(order()))

    job = asyncio.run(session())
    assert (job.stage, job.percent) == (DONE, 100)
    frames, fps = read_video(job.path)
    assert (frames.shape, fps) == ((8, 128, 128, 3), 24)


def test_a_sentence_is_told_as_it_was_learned_and_others_are_warned_of(tmp_path):
    maker = generator(tmp_path, max_waiting=2)
    known, strange = (maker.submit(order(instruction=said)) for said in ("make it NIGHT", "A dragon comes."))
    assert (known.order.instruction, known.said) == ("Make it night.", "")
    assert "never heard 'A dragon comes.'" in strange.said


def test_a_clip_that_takes_too_long_is_given_up(tmp_path):
    async def session():
        maker = generator(tmp_path, patience_s=0.05)
        async with maker.running():
            return await finished(maker, maker.submit(order()))

    assert "longer than 0.05 seconds" in asyncio.run(session()).said


def test_orders_are_checked_at_the_door(tmp_path):
    maker = generator(tmp_path)
    with pytest.raises(ValueError, match="unknown key 'FLY'"):
        maker.submit(order(keys="FLY*3"))
    with pytest.raises(ValueError, match="at most 16"):
        maker.submit(order(num_frames=17))
    assert maker.submit(order(instruction_frame=None)).stage == WAITING
    with pytest.raises(QueueFullError):
        maker.submit(order())
    with pytest.raises(ValueError, match="instruction_frame=16 is beyond the clip, whose 16 frames"):
        maker.submit(order(num_frames=16, instruction_frame=16))
    with pytest.raises(FileNotFoundError, match="weights/snowglobe-tiny"):
        generator(tmp_path, weights=str(tmp_path / "none")).submit(order())
