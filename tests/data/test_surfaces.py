"""What a view shows of a floor plan."""

import numpy as np
import pytest

from gamegen_x.data.first_person import FirstPersonDrawer
from gamegen_x.data.surfaces import Surfaces
from gamegen_x.world.floor_plan import FloorPlan

BOXES = [(120.0, 90.0, 140.0, 110.0)]
WAVES = 2
OF_PLACE = 2 + 4 * WAVES
X, Y = 0, 1 + 2 * WAVES  # channels of a place
PLAN = FloorPlan((100.0, 100.0), 100.0, BOXES)
SIZE = (8, 8)


@pytest.fixture
def surfaces():
    return Surfaces(BOXES, eye_height=10.0, wall_height=40.0, proportion=1.0, num_frequencies=WAVES)


def drawn(surfaces, x, y, degrees):
    """`[c h w]`"""
    place, angle = np.array([[[x, y]]], np.float64), np.deg2rad([[degrees]])
    return surfaces.draw(PLAN, place, angle, 1.0, 50.0, SIZE)[0, 0]


def parts(channels):
    columns = channels[: 2 * (1 + OF_PLACE), 0].reshape(2, 1 + OF_PLACE, 8)
    walls, floors, *rest = channels[2 * (1 + OF_PLACE) :]
    return columns, walls, floors, np.stack(rest[:OF_PLACE]), np.stack(rest[OF_PLACE:])


def test_its_channels_are_as_many_as_it_says(surfaces):
    assert drawn(surfaces, 100, 100, 0).shape == (surfaces.num_channels, *SIZE)


def test_columns_are_told_the_wall_that_they_meet(surfaces):
    columns, *_ = parts(drawn(surfaces, 100, 100, 0))
    x, y = (
        columns[:, 1 + axis].T.reshape(-1) * 100 + 100 for axis in (X, Y)
    )  # in the order of rays: cells, then halves
    ahead = 50 / columns[:, 0].T.reshape(-1) - 50
    np.testing.assert_allclose(ahead, x - 100, atol=1e-6)  # who looks east measures it along x
    is_box = np.isclose(x, 120)
    assert is_box.sum() == 8  # within half of the reach, 10 to either side at 20
    assert np.allclose(x[~is_box], 200)
    np.testing.assert_allclose(y, 100 - ahead * ((np.arange(16) + 0.5) / 8 - 1), atol=1e-6)


def test_a_cell_is_wall_floor_or_sky(surfaces):
    _, walls, floors, _, _ = parts(drawn(surfaces, 100, 100, 90))  # to the outer wall, 100 ahead
    assert (walls + floors <= 1).all()
    assert floors[-1].min() == 1
    assert walls[0].max() == floors[0].max() == 0
    assert walls.sum(0) == pytest.approx(np.full(8, 40 / 100 / 2 * 8), abs=0.3)  # 40 high, of a picture 200 high there


def test_the_floor_is_told_where_the_picture_shows_it(surfaces):
    _, _, floors, places, _ = parts(drawn(surfaces, 100, 50, 0))
    bottom = places[[X, Y], -1] * 100 + 100
    ahead = 10 / (7.5 / 8 * 2 - 1)
    np.testing.assert_allclose(bottom[0], 100 + ahead, atol=1e-6)
    np.testing.assert_allclose(bottom[1], 50 - ahead * ((np.arange(8) + 0.5) / 4 - 1), atol=1e-6)
    assert (places[:, floors == 0] == 0).all()


def test_heights_are_told_where_walls_are_and_rise_upwards(surfaces):
    _, walls, _, _, heights = parts(drawn(surfaces, 110, 100, 0))  # 10 before the box
    inside = heights[0, :, 3]
    shown = inside[walls[:, 3] == 1]
    assert (np.diff(shown) < 0).all()
    assert 0 <= shown.min() < shown.max() <= 1
    assert (heights[:, walls == 0] == 0).all()


def test_a_drawer_with_surfaces_draws_the_same_before_them_and_who_is_in_sight_after(surfaces):
    settings = (3, 2, (100.0, 100.0), 100.0, WAVES, 90.0, 50.0)
    plain, more = FirstPersonDrawer(*settings), FirstPersonDrawer(*settings, surfaces)
    facts = {
        "position": np.tile(np.array([[100, 100, 0], [160, 100, 0], [100, 150, 0]], np.float32), (4, 1, 1)),
        "angle": np.tile(np.array([0, 180, 270], np.float32), (4, 1)),
    }
    without, with_them = (drawer.draw(facts, SIZE, (64, 64)) for drawer in (plain, more))
    assert with_them.shape == (3, 2, more.num_channels, *SIZE)
    assert np.array_equal(without, with_them[:, :, : plain.num_channels])
    in_sight = with_them[:, :, -2 * 3 :].reshape(3, 2, 2, 3, 8, 8).sum((-1, -2))
    presence = without[:, :, 2 * (4 + 4 * WAVES) :][:, :, : 2 * 3].reshape(3, 2, 2, 3, 8, 8).sum((-1, -2))
    assert presence[0, 0, 0, 1] == pytest.approx(1)
    assert in_sight[0, 0, 0, 1] == 0  # behind the box
    assert presence[2, 0, 0, 0] == in_sight[2, 0, 0, 0] == pytest.approx(1)


def test_eyes_in_the_floor_are_refused():
    with pytest.raises(ValueError, match=r"eyes are between the floor and the top of the walls, .* eye_height=50"):
        Surfaces(BOXES, eye_height=50, wall_height=40, proportion=1.0, num_frequencies=1)
