import numpy as np
import pytest
from worlds import random_state

from gamegen_x.world.state import Conditions


def test_a_condition_fades_in_over_its_ticks_and_stays():
    conditions = Conditions(np.zeros(2, np.int32), np.full(2, -9, np.int32), np.eye(3)[[0, 0]])
    conditions = conditions.changed(fact=1, target=2, tick=10, blend_ticks=4)
    weights = [conditions.weights(tick, 4)[1, 2] for tick in range(9, 16)]
    assert weights == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert conditions.weights(12, 4)[0].tolist() == [1, 0, 0]


def test_a_change_of_mind_goes_on_from_what_is_seen():
    conditions = Conditions(np.zeros(1, np.int32), np.full(1, -9, np.int32), np.eye(3)[[0]])
    conditions = conditions.changed(0, target=1, tick=0, blend_ticks=8)
    seen = conditions.weights(3, 8)
    conditions = conditions.changed(0, target=2, tick=4, blend_ticks=8)
    for tick in range(4, 13):
        weights = conditions.weights(tick, 8)
        assert weights.sum() == pytest.approx(1)
        assert np.abs(weights - seen).max() <= 1 / 8 + 1e-9
        seen = weights
    assert seen[0].tolist() == [0, 0, 1]


def test_what_is_asked_for_shows_from_the_next_tick_on():
    state = random_state(0)
    asked = state.asked(fact=0, target=1, blend_ticks=8)
    assert asked.conditions.weights(state.tick, 8)[0, 1] == 0
    assert asked.conditions.weights(state.tick + 1, 8)[0, 1] == 1 / 8
    assert state.conditions.target[0] == 0


def test_chance_depends_on_seed_tick_and_purpose_alone():
    state = random_state(0)
    assert state.chance(1).integers(2**40) == state.chance(1).integers(2**40)
    assert state.chance(1).integers(2**40) != state.chance(2).integers(2**40)
