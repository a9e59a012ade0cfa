from dataclasses import replace

import numpy as np
import pytest
from worlds import RULES, random_state, random_wishes

from gamegen_x.world.rules import Jump, Meet, Remember, Walk, Wishes
from gamegen_x.world.sphere import angle_between, frame_at, moved

WALK = RULES[0]


def wishes(num_players, **asked):
    nothing = np.zeros(num_players)
    values = {"right": nothing, "up": nothing, "turn": nothing, "acting": np.zeros((num_players, 2), bool), **asked}
    return Wishes(**values)


def test_no_walk_is_ever_called_unlawful():
    rng = np.random.default_rng(0)
    before = after = random_state(0)
    for _ in range(50):
        after = after.step(random_wishes(rng), RULES)
        assert WALK.is_lawful(before, after).all()


def test_a_teleport_is_unlawful_for_the_one_who_did_it():
    before = random_state(0)
    after = before.step(wishes(3), RULES)
    frames = after.players.frames.copy()
    frames[1] = moved(frames[1], np.asarray(0.1), np.asarray(0.0))
    after = replace(after, players=replace(after.players, frames=frames))
    assert WALK.is_lawful(before, after).tolist() == [True, False, True]


def test_a_chord_walks_as_far_as_both_its_keys():
    state = random_state(1)
    after = state.step(wishes(3, right=np.array([1.0, 1, 0]), up=np.array([1.0, 0, 0])), (WALK,))
    walked = angle_between(state.players.positions, after.players.positions)
    np.testing.assert_allclose(walked, [0.02 * np.sqrt(2), 0.02, 0], atol=1e-7)


def test_a_jump_lasts_its_ticks_and_empty_hands_are_needed():
    state = random_state(0)
    players = replace(state.players, airborne=np.zeros(3, np.int32), carrying=np.array([0, 1, 0], np.int32))
    state = replace(state, players=players)
    held = np.array([[True, False], [True, False], [False, False]])
    state = state.step(wishes(3, acting=held), (Jump(8), Remember()))
    assert state.players.airborne.tolist() == [8, 0, 0]
    for left in range(7, -1, -1):
        state = state.step(wishes(3), (Jump(8), Remember()))
        assert state.players.airborne.tolist() == [left, 0, 0]


def test_both_hear_when_they_meet_and_when_they_part():
    state = random_state(0, num_players=2)
    first = frame_at(np.array([0, 0, 1.0]), 0.0)
    rule, told = Meet(enter=0.2, leave=0.3, counter=1), []
    before = state.counters[1]
    for distance in (0.5, 0.19, 0.29, 0.31, 0.29):
        frames = np.stack([first, moved(first, np.asarray(distance), np.asarray(0.0))])
        state = replace(state, players=replace(state.players, frames=frames))
        state = state.step(wishes(2), (rule,))
        told.append([(event.kind, event.where, event.subject) for event in state.events])
    assert told == [[], [("met", 0, 1), ("met", 1, 0)], [], [("parted", 0, 1), ("parted", 1, 0)], []]
    assert state.counters[1] == before + 1


def test_parting_before_meeting_is_refused():
    with pytest.raises(ValueError, match="enter <= leave"):
        Meet(enter=0.3, leave=0.2, counter=0)


def test_a_walk_turns_before_it_goes():
    state = random_state(0)
    turn = state.step(wishes(3, turn=np.ones(3), up=np.ones(3)), (Walk(0.02, np.pi / 2),))
    sideways = state.step(wishes(3, right=-np.ones(3)), (Walk(0.02, np.pi / 2),))
    np.testing.assert_allclose(turn.players.positions, sideways.players.positions, atol=1e-7)
