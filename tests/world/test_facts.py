"""Facts of frames one after the other, and of a world that is stepped."""

from dataclasses import dataclass

import numpy as np

from gamegen_x.world.facts import stacked, stepped


@dataclass(frozen=True)
class Counting:
    """A world that counts how often each player's keys were down."""

    count: np.ndarray

    @property
    def num_players(self):
        return len(self.count)

    def after(self, held):
        return Counting(self.count + held.sum(1, dtype=np.int32))

    def told(self, text):
        return Counting(self.count + len(text))

    def facts(self):
        return {"count": self.count}


def test_facts_of_single_frames_get_an_axis_of_time_and_keep_their_types():
    frames = [{"planet": np.uint32(7), "near": np.eye(2, dtype=bool), "pose": np.full((2, 3), t, "f4")} for t in (0, 1)]
    found = stacked(frames)
    assert {name: (values.shape, values.dtype) for name, values in found.items()} == {
        "planet": ((2,), np.uint32),
        "near": ((2, 2, 2), bool),
        "pose": ((2, 2, 3), np.float32),
    }
    assert found["pose"][:, 0, 0].tolist() == [0, 1]


def test_a_stepped_world_tells_of_the_frame_after_each_row_of_keys():
    keys = np.array([[[1, 1], [0, 0]], [[0, 1], [1, 0]]], np.uint8)
    world, facts = stepped(Counting(np.zeros(2, np.int32)), keys)
    np.testing.assert_array_equal(facts["count"], [[2, 0], [3, 1]])
    np.testing.assert_array_equal(world.count, [3, 1])


def test_a_sentence_is_heard_before_the_row_at_which_it_is_said():
    keys = np.array([[[1]], [[0]], [[1]]], np.uint8)
    _, facts = stepped(Counting(np.zeros(1, np.int32)), keys, {1: "snow"})
    np.testing.assert_array_equal(facts["count"], [[1], [5], [6]])
