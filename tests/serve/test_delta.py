"""States on the wire: what is read back is what was sent, in few bytes, and damage is noticed."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import RULES, random_state, random_wishes

from gamegen_x.serve.delta import StateCodec, hash_of
from gamegen_x.world.snapshot import GRID, quantise

LIKE = random_state(0)
CODEC = StateCodec.of_state(LIKE)


def walked(state, num_ticks, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(num_ticks):
        state = state.step(random_wishes(rng), RULES)
    return state


def test_a_vector_holds_every_number_of_a_state():
    arrays = CODEC.arrays(CODEC.pack(0, LIKE))
    for name, array in quantise(LIKE).items():
        found = arrays[name]
        assert np.array_equal(np.rint(found * GRID) if found.dtype.kind == "f" else found, array)


def test_both_ends_have_the_same_layout_from_the_welcome():
    again = StateCodec(CODEC.layout)
    packed = CODEC.pack(3, LIKE)
    assert again.apply(None, 3, CODEC.difference(None, packed)).hash == packed.hash


@settings(max_examples=60)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 30))
def test_a_difference_makes_the_new_state_of_the_old_one(one, other, num_ticks):
    base = CODEC.pack(5, random_state(one))
    new = CODEC.pack(9, walked(random_state(other), num_ticks))
    found = CODEC.apply(base, 9, CODEC.difference(base, new))
    assert np.array_equal(found.folded, new.folded)
    assert found.hash == new.hash


@settings(max_examples=100)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=CODEC.size, max_size=CODEC.size))
def test_any_integers_at_all_are_read_back(numbers):
    base, new = CODEC.pack(0, LIKE), CODEC.packed(1, np.array(numbers, np.int32))
    assert np.array_equal(CODEC.apply(base, 1, CODEC.difference(base, new)).folded, new.folded)
    assert np.array_equal(CODEC.unpacked(new), numbers)


def test_a_state_that_did_not_change_takes_a_handful_of_bytes():
    packed = CODEC.pack(0, LIKE)
    assert len(CODEC.difference(packed, packed)) <= 4


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_bytes_that_are_no_difference_are_refused(blob):
    try:
        found = CODEC.apply(None, 0, blob)
    except ValueError as mistake:
        assert "keyframe" in str(mistake)  # noqa: PT017
    else:
        assert found.folded.shape == (CODEC.size,)


def test_one_flipped_bit_changes_the_hash():
    vector = CODEC.vector(LIKE)
    hashes = {hash_of(vector)}
    for place in range(CODEC.size):
        changed = vector.copy()
        changed[place] ^= 1
        hashes.add(hash_of(changed))
    assert len(hashes) == CODEC.size + 1


def test_a_tick_of_walking_takes_a_twentieth_of_the_whole_state_as_json():
    state, sizes, whole = random_state(2, num_players=3, num_entities=12), [], []
    codec = StateCodec.of_state(state)
    rng = np.random.default_rng(0)
    packed = codec.pack(0, state)
    for tick in range(40):
        state = state.step(random_wishes(rng), RULES)
        new = codec.pack(tick, state)
        sizes.append(len(codec.difference(packed, new)))
        whole.append(len(json.dumps({k: v.tolist() for k, v in codec.arrays(new).items()})))
        packed = new
    assert np.mean(sizes) < np.mean(whole) / 20


def test_an_integer_beyond_32_bits_is_refused_when_the_world_is_laid_out():
    from dataclasses import replace

    with pytest.raises(ValueError, match="32 bits"):
        StateCodec.of_state(replace(LIKE, seed=2**40))
