from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import RULES, random_state, random_wishes

from gamegen_x.world.events import Event, Scope
from gamegen_x.world.snapshot import apply_delta, delta, keyframe, quantise, read_keyframe, settled, state_hash

seeds = st.integers(0, 2**31 - 1)


def assert_same(one, other):
    for (name, a), (_, b) in zip(quantise(one).items(), quantise(other).items(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert one.events == other.events
    np.testing.assert_array_equal(one.players.frames, other.players.frames)


@given(seeds)
@settings(max_examples=30)
def test_a_keyframe_gives_back_the_very_state(seed):
    state = random_state(seed)
    assert_same(read_keyframe(keyframe(state), like=random_state(seed + 1)), state)


@given(seeds, st.integers(1, 30))
@settings(max_examples=30)
def test_deltas_lead_from_any_state_through_every_later_one(seed, num_ticks):
    rng = np.random.default_rng(seed)
    state = mirrored = random_state(seed)
    for _ in range(num_ticks):
        following = state.step(random_wishes(rng), RULES)
        mirrored = apply_delta(mirrored, delta(state, following))
        assert state_hash(mirrored) == state_hash(following)
        state = following
    assert_same(mirrored, state)


@given(seeds)
@settings(max_examples=15)
def test_a_world_that_was_sent_goes_on_exactly_as_the_original(seed):
    rng = np.random.default_rng(seed)
    original = random_state(seed)
    received = read_keyframe(keyframe(original), like=original)
    for _ in range(20):
        wishes = random_wishes(rng)
        original, received = original.step(wishes, RULES), received.step(wishes, RULES)
    assert keyframe(original) == keyframe(received)


def test_the_hash_sees_every_single_number():
    state = random_state(1)
    hashes = {state_hash(state)}
    count = 1
    for name, array in quantise(state).items():
        for place in np.ndindex(array.shape):
            changed = array.copy()
            changed[place] = ~changed[place] if array.dtype == bool else changed[place] + 1
            hashes.add(state_hash(_with(state, name, changed)))
            count += 1
    hashes.add(state_hash(replace(state, events=(Event("hit", Scope.PLAYER, 0, 0),))))
    assert len(hashes) == count + 1


def _with(state, path, integers):
    head, _, rest = path.partition(".")
    if rest:
        return replace(state, **{head: _with(getattr(state, head), rest, integers)})
    old = getattr(state, head)
    if isinstance(old, int):
        return replace(state, **{head: int(integers)})
    return replace(state, **{head: integers / 2.0**28 if old.dtype.kind == "f" else integers})


def test_a_settled_state_is_settled():
    state = random_state(3)
    np.testing.assert_array_equal(settled(state).players.frames, state.players.frames)


def test_a_delta_of_another_state_is_refused():
    state = random_state(0)
    following = state.step(random_wishes(np.random.default_rng(0)), RULES)
    with pytest.raises(ValueError, match="ask for a keyframe"):
        apply_delta(random_state(1), delta(state, following))


@given(seeds, st.data())
@settings(max_examples=60)
def test_a_damaged_snapshot_is_refused(seed, data):
    state = random_state(seed % 7)
    whole = bytearray(keyframe(state))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="snapshot"):
        read_keyframe(bytes(whole), like=state)
    with pytest.raises(ValueError, match="snapshot"):
        read_keyframe(bytes(keyframe(state)[:place]), like=state)


def test_a_keyframe_of_another_world_is_refused():
    with pytest.raises(ValueError, match="bytes of state, this world has"):
        read_keyframe(keyframe(random_state(0, num_players=2)), like=random_state(0))


def test_a_delta_of_one_walking_player_is_much_smaller_than_the_world():
    state = random_state(2, num_players=8, num_entities=64)
    wishes = random_wishes(np.random.default_rng(0), num_players=8)
    wishes = replace(wishes, right=np.eye(8)[0], up=np.zeros(8), turn=np.zeros(8), acting=state.players.is_acting)
    assert len(delta(state, state.step(wishes, RULES))) < len(keyframe(state)) / 5
