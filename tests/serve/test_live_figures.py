"""The arithmetic of what a window saw."""

import pytest

from gamegen_x.serve.live_figures import (
    Picture,
    Press,
    Seen,
    gaps_between,
    key_to_frame,
    of_window,
    pictures_by_second,
    stall_share,
)


def picture(at, tick, reflects):
    return Picture(at, tick, reflects, age=10.0)


def test_pictures_are_counted_in_whole_seconds():
    assert pictures_by_second([0, 10, 999, 1000, 2500], start=0, stop=2600) == [3, 1]
    assert pictures_by_second([], start=500, stop=2500) == [0, 0]


def test_time_without_a_picture_is_counted_at_both_ends_too():
    gaps = gaps_between([1000, 1400, 2000], start=0, stop=3000)
    assert gaps == [1000, 400, 600, 1000]
    assert stall_share(gaps, longest=500) == pytest.approx(2600 / 3000)
    assert stall_share(gaps, longest=1000) == 0
    assert stall_share(gaps_between([], 0, 1000), longest=500) == 1


def test_a_press_is_shown_by_the_first_picture_of_its_tick_that_knew_it():
    block = [picture(100 + 40 * place, 8 + place, reflects=10) for place in range(4)]
    too_late = Press(at=60, tick=11)  # after its block began: the next one, which is of later ticks, shows it
    following = [picture(300 + 40 * place, 12 + place, reflects=14) for place in range(4)]
    delays = key_to_frame([Press(50, 10), too_late, Press(50, 16), Press(50, None)], following + block)
    assert delays == [130, 240, None, None]


def test_no_picture_from_before_a_press_shows_it():
    assert key_to_frame([Press(at=500, tick=3)], [picture(400, 5, 5), picture(600, 9, 9)]) == [100]


def sample(now, moments=(), presses=()):
    return {
        "now": now,
        "pictures": [{"at": at, "tick": at // 50, "reflects": at // 50, "ageMs": 20.0} for at in moments],
        "presses": [{"at": at, "tick": tick} for at, tick in presses],
        "roundTripMs": 4.0,
        "bytesIn": now * 2,
        "desyncs": 0,
        "delayTicks": 0,
        "step": "full",
    }


def test_figures_begin_with_the_first_sample_and_end_with_the_seconds_that_are_measured():
    samples = [
        sample(1000, moments=[900]),
        sample(2000, moments=range(1000, 2000, 50), presses=[(950, 19), (1100, 24)]),
        sample(4000, moments=range(2000, 4000, 50), presses=[(2990, 61), (3500, 70)]),
    ]
    found = of_window(Seen.of_samples(samples), measured_s=2, stall_s=0.5)
    assert found["frames_per_second_mean"] == found["frames_per_second_p5"] == 20
    assert found["stall_share"] == 0
    assert (found["presses"], found["presses_not_shown"]) == (2, 0)
    assert (found["key_to_frame_ms_p50"], found["key_to_frame_ms_p99"]) == (80, 99.6)
    assert found["kilobytes_per_second"] == 2
