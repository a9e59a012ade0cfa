import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamegen_x.world.proximity import near_pairs
from gamegen_x.world.sphere import angle_between, frame_at, moved, random_directions


def test_pairs_are_those_that_a_plain_search_finds():
    positions = random_directions(np.random.default_rng(0), 40)
    none = np.zeros((40, 40), bool)
    expected = angle_between(positions[:, None], positions[None]) < 0.5
    np.fill_diagonal(expected, False)
    np.testing.assert_array_equal(near_pairs(positions, none, 0.5, 0.6), expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_pair_changes_only_beyond_the_border_of_its_state(distances):
    enter, leave = 0.4, 0.6
    frame = frame_at(np.array([0, 0, 1.0]), 0.0)
    near = np.zeros((2, 2), bool)
    for distance in distances:
        positions = np.stack([frame[:, 2], moved(frame, np.asarray(distance), np.asarray(0.0))[:, 2]])
        before, near = near[0, 1], near_pairs(positions, near, enter, leave)
        if before:
            assert near[0, 1] == (distance < leave) or distance == pytest.approx(leave)
        else:
            assert near[0, 1] == (distance < enter) or distance == pytest.approx(enter)
        assert near[0, 1] == near[1, 0]
        assert not near.diagonal().any()
