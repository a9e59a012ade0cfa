import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gamegen_x.models.layers.positions import REFERENCE_SIZE, RotaryPositions, picture_positions, rotate, sinusoid

half_sizes = st.integers(1, 32)  # of a head
places = st.integers(0, 60)
seeds = st.integers(0, 2**31)


def a_vector(half, seed):
    return torch.randn(1, 1, 1, 2 * half, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(vector, place):
    angles = RotaryPositions(vector.shape[-1], 10_000.0)(torch.arange(place + 1))[place:].double()
    return rotate(vector, angles)


@given(half_sizes, places, seeds)
def test_a_rotation_keeps_lengths_and_leaves_the_first_place_as_it_is(half, place, seed):
    vector = a_vector(half, seed)
    assert torch.allclose(at(vector, place).norm(), vector.norm())
    assert torch.equal(at(vector, 0), vector)


@given(half_sizes, places, places, places, seeds)
def test_products_of_rotated_vectors_depend_on_their_distance_only(half, query_place, key_place, shift, seed):
    query, key = a_vector(half, seed), a_vector(half, seed + 1)
    here = (at(query, query_place) * at(key, key_place)).sum()
    there = (at(query, query_place + shift) * at(key, key_place + shift)).sum()
    assert torch.allclose(here, there, atol=1e-4)  # angles are made in fp32


@given(half_sizes, st.integers(2, 30), seeds)
def test_rotating_many_frames_rotates_each_by_its_own_place(half, num_places, seed):
    vectors = a_vector(half, seed).expand(1, 1, num_places, -1)
    together = rotate(vectors, RotaryPositions(2 * half, 10_000.0)(torch.arange(num_places)).double())
    for place in range(num_places):
        assert torch.equal(together[:, :, place : place + 1], at(vectors[:, :, :1], place))


@given(half_sizes, st.floats(0, 1e4), st.floats(2, 1e5))
def test_a_sinusoid_is_a_sine_and_a_cosine_of_the_same_angles(half, position, longest):
    values = sinusoid(torch.tensor(position), 2 * half, longest)
    assert values.shape == (2 * half,)
    assert torch.allclose(values[:half].square() + values[half:].square(), torch.ones(half), atol=1e-5)
    assert values[0] == pytest.approx(math.sin(position), abs=1e-3)  # the first wavelength is 2 pi


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 8))
def test_every_patch_of_a_picture_has_a_place_of_its_own_row_by_row(height, width, quarter):
    dim = 4 * quarter
    grid = picture_positions(height, width, 512.0, dim, torch.device("cpu")).unflatten(0, (height, width))
    assert torch.equal(grid[..., : dim // 2], grid[:1, :, : dim // 2].expand(height, -1, -1))  # columns
    assert torch.equal(grid[..., dim // 2 :], grid[:, :1, dim // 2 :].expand(-1, width, -1))  # rows
    assert len(grid.flatten(0, 1).unique(dim=0)) == height * width


@given(st.integers(1, 16))
def test_a_square_of_the_reference_size_counts_its_patches(side):
    grid = picture_positions(side, side, float(REFERENCE_SIZE), 8, torch.device("cpu"))
    counted = sinusoid(torch.arange(float(side)), 4, 10_000.0)
    assert torch.allclose(grid[:side, :4], counted, atol=1e-5)


def test_a_width_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="even head size, got 3"):
        RotaryPositions(3, 10_000.0)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        picture_positions(2, 2, 512.0, 6, torch.device("cpu"))
