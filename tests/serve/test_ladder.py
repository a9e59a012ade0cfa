"""Quality goes down soon and comes back late, one step at a time."""

import pytest

from gamegen_x.serve.ladder import PAUSE, Ladder, LadderRules

RULES = LadderRules(steps=("full", "half_rate", PAUSE), worse_after=48, better_after=240)


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


def test_the_last_step_is_the_last():
    ladder = Ladder(RULES)
    assert steps(ladder, [True] * 300) == [48, 96]
    assert ladder.has_reached("half_rate")
    assert ladder.has_reached(PAUSE)


def test_steps_begin_with_full_quality():
    with pytest.raises(ValueError, match="begin with 'full'"):
        LadderRules(steps=("half_rate",), worse_after=1, better_after=1)
