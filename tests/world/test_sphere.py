import numpy as np
import pytest
from astropy_healpix import healpy as oracle
from astropy_healpix import neighbours
from hypothesis import given, settings
from hypothesis import strategies as st

from gamegen_x.world.sphere import Cells, angle_between, cross, frame_at, moved, normalised, random_directions, turned

seeds = st.integers(0, 2**31)
steps = st.floats(-3, 3, allow_subnormal=False)


def random_frame(seed):
    rng = np.random.default_rng(seed)
    return frame_at(random_directions(rng, 1)[0], rng.uniform(0, 2 * np.pi))


def is_lawful(frames):
    identity = np.swapaxes(frames, -1, -2) @ frames
    return np.allclose(identity, np.eye(3), atol=1e-12) and np.allclose(np.linalg.det(frames), 1)


@given(seeds, st.lists(st.tuples(steps, steps, steps), max_size=20))
@settings(max_examples=50)
def test_a_frame_stays_right_handed_and_orthonormal_wherever_it_rolls(seed, way):
    frame = random_frame(seed)
    for right, up, turn in way:
        frame = turned(moved(frame, np.asarray(right), np.asarray(up)), np.asarray(turn))
    assert is_lawful(frame)


@given(seeds, steps, steps)
def test_going_there_and_back_again_ends_where_it_began(seed, right, up):
    frame = random_frame(seed)
    there = moved(frame, np.asarray(right), np.asarray(up))
    np.testing.assert_allclose(moved(there, np.asarray(-right), np.asarray(-up)), frame, atol=1e-9)


@given(seeds, st.floats(-1, 1), st.floats(-1, 1))
def test_a_walk_is_as_long_as_its_step(seed, right, up):
    frame = random_frame(seed)
    walked = angle_between(frame[:, 2], moved(frame, np.asarray(right), np.asarray(up))[:, 2])
    assert walked == pytest.approx(np.hypot(right, up), abs=1e-9)


@given(seeds, st.integers(1, 50))
@settings(max_examples=20)
def test_walking_straight_around_the_planet_leads_home_without_turning(seed, num_steps):
    frame = start = random_frame(seed)
    for _ in range(num_steps):
        frame = moved(frame, np.asarray(0.0), np.asarray(2 * np.pi / num_steps))
    np.testing.assert_allclose(frame, start, atol=1e-9)


def test_many_frames_move_as_each_would_alone():
    frames = np.stack([random_frame(seed) for seed in range(5)])
    right, up = np.linspace(-1, 1, 5), np.linspace(0.5, 0, 5)
    together = moved(frames, right, up)
    for index in range(5):
        np.testing.assert_allclose(together[index], moved(frames[index], right[index], up[index]), atol=1e-14)


def test_a_turn_is_counter_clockwise_seen_from_above():
    frame = frame_at(np.array([0, 0, 1.0]), 0.0)
    quarter = turned(frame, np.asarray(np.pi / 2))
    np.testing.assert_allclose(quarter[:, 0], frame[:, 1], atol=1e-12)


@given(seeds)
def test_the_angle_between_two_directions_is_exact_near_and_far(seed):
    point = random_directions(np.random.default_rng(seed), 1)[0]
    assert angle_between(point, point) == 0
    assert angle_between(point, -point) == pytest.approx(np.pi)


def test_the_cross_product_is_numpys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    np.testing.assert_allclose(cross(a, b), np.cross(a, b))


@pytest.mark.parametrize("nside", [1, 4, 16])
def test_cells_are_those_of_healpix(nside):
    points = random_directions(np.random.default_rng(1), 2000)
    np.testing.assert_array_equal(Cells(nside).of(points), oracle.vec2pix(nside, *points.T))


@pytest.mark.parametrize("nside", [1, 4, 16])
def test_no_point_is_farther_from_its_cells_centre_than_the_radius(nside):
    cells = Cells(nside)
    points = random_directions(np.random.default_rng(2), 20000)
    assert angle_between(points, cells.centres[cells.of(points)]).max() <= cells.radius


def test_a_disc_misses_no_cell_that_it_touches():
    cells, rng = Cells(8), np.random.default_rng(3)
    for _ in range(50):
        middle, angle = random_directions(rng, 1)[0], rng.uniform(0, 1)
        frame = frame_at(middle, 0.0)
        radius, way = angle * np.sqrt(rng.uniform(size=200)), rng.uniform(0, 2 * np.pi, 200)
        inside = moved(np.broadcast_to(frame, (200, 3, 3)), radius * np.cos(way), radius * np.sin(way))[..., 2]
        assert set(cells.of(inside)) <= set(cells.around(middle, angle))


def test_neighbours_hold_all_cells_that_touch_a_cell():
    cells = Cells(4)
    for cell in range(cells.count):
        with np.errstate(invalid="ignore"):  # where three cells meet, one is missing
            touching = neighbours(cell, 4, order="ring")
        assert {cell, *(int(other) for other in touching if other >= 0)} <= set(cells.neighbours(cell))
        assert len(cells.neighbours(cell)) < 30


def test_a_cell_number_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="power of two, got 12"):
        Cells(12)


def test_normalised_vectors_have_length_one():
    np.testing.assert_allclose(np.linalg.norm(normalised([[3, 4, 0], [0, 0, 1e-8]]), axis=1), 1)
