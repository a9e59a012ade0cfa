"""Quality goes down soon and comes back late, one step at a time."""

import pytest
from harnesses import harness

from gamegen_x.serve.clock import Pacer
from gamegen_x.serve.ladder import PAUSE, Ladder, LadderRules

RULES = LadderRules(steps=("full", "half_rate", PAUSE), worse_after=48, better_after=240, better_at_most=7680)


def steps(ladder, overloads, start=0):
    """The moments at which the ladder changed."""
    return [now for now, is_overloaded in enumerate(overloads, start) if ladder.observe(now, is_overloaded)]


def test_two_seconds_of_overload_are_a_step_and_ten_calm_seconds_take_it_back():
    ladder = Ladder(RULES)
    assert steps(ladder, [True] * 60) == [48]
    assert steps(ladder, [False] * 300, start=60) == [300]
    assert ladder.name == "full"


def test_overload_that_comes_and_goes_changes_nothing():
    assert steps(Ladder(RULES), ([True] * 40 + [False] * 8) * 20) == []


def test_a_step_back_that_does_not_hold_is_tried_again_later_and_later():
    """S17: twice the work that fits; two steps down make it fit, and every try of more costs two seconds."""
    ladder, pacer = Ladder(harness().room.ladder), Pacer(block=1, max_behind=2, start=0.0)
    work = {"full": 2.0, "fewer_steps": 1.3, "lower_resolution": 0.8}
    now, ends = 0.0, []
    while now < 3600 * 24:
        now = max(now, pacer.next_at) + work[ladder.name]
        pacer.done(now)
        ends.append((now, pacer.is_due(now)))
        ladder.observe(now, pacer.is_due(now))
    late = [is_late for end, is_late in ends if end > 5 * 24]
    assert not any(is_late for end, is_late in ends if 5 * 24 < end < 14 * 24)  # in time after five seconds
    assert 1 - sum(late) / len(late) >= 0.99
    calm = steps(ladder, [False] * 20_000, start=round(now) + 1)
    assert (len(calm), ladder.name) == (2, "full")


def test_patience_is_forgotten_once_a_step_back_has_held():
    ladder = Ladder(RULES)
    trouble = [True] * 60 + [False] * 300
    assert steps(ladder, trouble) == [48, 300]
    assert steps(ladder, trouble, start=360) == [408]
    assert steps(ladder, [False] * 900, start=720) == [900]  # 480 after the trouble, not 240
    assert steps(ladder, trouble, start=5000) == [5048, 5300]


def test_the_last_step_is_the_last():
    ladder = Ladder(RULES)
    assert steps(ladder, [True] * 300) == [48, 96]
    assert ladder.has_reached("half_rate")
    assert ladder.has_reached(PAUSE)


def test_steps_begin_with_full_quality():
    with pytest.raises(ValueError, match="begin with 'full'"):
        LadderRules(steps=("half_rate",), worse_after=1, better_after=1, better_at_most=1)
