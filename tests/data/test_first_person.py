"""The first-person drawer: rays, and others where they are seen."""

import numpy as np
import pytest

from gamegen_x.data.first_person import FirstPersonDrawer
from gamegen_x.data.state import StateDrawer

WAVES, SLOTS, FRAMES = 3, 3, 2
PER_RAY = 4 + 4 * WAVES


@pytest.fixture
def drawer():
    return FirstPersonDrawer(SLOTS, FRAMES, (100.0, 100.0), 100.0, WAVES, 90.0, 50.0)


def facts(num_frames=4):
    """Player 0 in the middle looks east; 1 stands 50 ahead and 25 to the right, and looks at 0; 2 stands behind 0."""
    position = np.array([[100, 100, 0], [150, 75, 0], [60, 100, 0]], np.float32)
    angle = np.array([0, 180, 0], np.float32)
    return {"position": np.tile(position, (num_frames, 1, 1)), "angle": np.tile(angle, (num_frames, 1))}


def of_others(drawn, drawer, layer):
    """`[p t f q h w]`"""
    players, latents, _, height, width = drawn.shape
    start = FRAMES * (PER_RAY + layer * SLOTS)
    return drawn[:, :, start : start + FRAMES * SLOTS].reshape(players, latents, FRAMES, SLOTS, height, width)


def rays(drawn):
    """`[p t f c h w]`"""
    players, latents, _, height, width = drawn.shape
    return drawn[:, :, : FRAMES * PER_RAY].reshape(players, latents, FRAMES, PER_RAY, height, width)


def test_its_channels_are_as_many_as_it_says(drawer):
    drawn = drawer.draw(facts(), (8, 8), (64, 64))
    assert isinstance(drawer, StateDrawer)
    assert drawn.shape == (3, 2, drawer.num_channels, 8, 8)
    assert drawn.dtype == np.float32


def test_another_player_is_drawn_where_a_pinhole_camera_sees_it(drawer):
    presence = of_others(drawer.draw(facts(), (8, 8), (64, 64)), drawer, 0)
    columns = (presence[0, 0, 0, 1].sum(0) * np.arange(8)).sum()
    assert presence[0, 0, 0, 1].sum() == pytest.approx(1)
    assert columns == pytest.approx((25 / 50 + 1) / 2 * 8 - 0.5)  # half of the way to the right edge
    assert presence[0, 0, 0, 2].sum() == 0  # behind
    assert presence[2, 0, 0, 0].sum() == pytest.approx(1)  # but 2 sees 0
    assert presence[0, 0, 0, 0].sum() == 0  # nobody stands before themselves


def test_how_near_and_facing_whither_another_player_is(drawer):
    drawn = drawer.draw(facts(), (8, 8), (64, 64))
    nearness, cosine, sine = (of_others(drawn, drawer, layer)[0, 0, 0, 1].sum() for layer in (1, 2, 3))
    assert nearness == pytest.approx(0.5)
    assert cosine == pytest.approx(-1)
    assert sine == pytest.approx(0, abs=1e-6)


def test_rays_turn_with_the_player_and_the_left_edge_looks_left(drawer):
    looks = rays(drawer.draw(facts(), (8, 8), (64, 64)))[0, 0, 0, :2, 0]
    degrees = np.rad2deg(np.arctan2(looks[1], looks[0]))
    assert (np.diff(degrees) < 0).all()
    assert degrees[0] == pytest.approx(np.rad2deg(np.arctan(7 / 8)), abs=1e-4)
    np.testing.assert_allclose(degrees, -degrees[::-1], atol=1e-4)
    turned = {**facts(), "angle": facts()["angle"] + 90}
    left = rays(drawer.draw(turned, (8, 8), (64, 64)))[0, 0, 0, :2, 0]
    np.testing.assert_allclose(np.stack([left[1], -left[0]]), looks, atol=1e-6)


def test_frames_stand_in_their_order_inside_a_latent(drawer):
    moving = facts()
    moving["position"] = moving["position"] + np.arange(4)[:, None, None] * np.array([10, 0, 0])
    place = rays(drawer.draw(moving, (8, 8), (64, 64)))[0, :, :, 2, 0, 0]
    np.testing.assert_allclose(place, [[0, 0.1], [0.2, 0.3]], atol=1e-6)


def test_a_view_that_is_no_view_is_refused():
    with pytest.raises(ValueError, match=r"between 0 and 180 degrees wide, .* view_angle=180"):
        FirstPersonDrawer(2, 4, (0.0, 0.0), 1.0, 2, 180.0, 1.0)
