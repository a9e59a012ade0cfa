"""Places: facts as points, and back."""

import numpy as np
import pytest

from gamegen_x.world.places import InViews, OnMap, Places


def test_where_players_stand_and_look_on_a_map_comes_back():
    draw = np.random.default_rng(0)
    places = OnMap((500.0, 300.0), 200.0)
    facts = {"position": draw.random((5, 3, 3)) * 400 + [300, 100, 0], "angle": draw.random((5, 3)) * 360}
    points, known = places.read(facts, (64, 64))
    assert isinstance(places, Places)
    assert known.all()
    assert np.abs(points).max() <= 1
    back = places.write(points, known, (64, 64))
    np.testing.assert_allclose(back["position"][..., :2], facts["position"][..., :2], atol=1e-3)
    assert {name: value.shape for name, value in back.items()} == {name: value.shape for name, value in facts.items()}
    np.testing.assert_allclose(back["angle"], facts["angle"], atol=1e-3)


def test_a_small_turn_is_a_small_step_everywhere():
    points, _ = OnMap((0.0, 0.0), 1.0).read(
        {"position": np.zeros((2, 1, 2)), "angle": np.array([[359.9], [0.1]])}, (8, 8)
    )
    assert np.abs(np.diff(points[:, 0, 1], axis=0)).max() < 0.01


def test_who_is_seen_where_comes_back_and_who_is_nowhere_is_unknown():
    facts = {"screen_xy": np.array([[[[3.0, 40.0], [np.nan, np.nan]]]]), "visible": np.array([[[True, False]]])}
    places = InViews()
    points, known = places.read(facts, (64, 48))
    assert np.isfinite(points).all()
    back = places.write(points, known, (64, 48))
    np.testing.assert_allclose(back["screen_xy"][0, 0, 0], [3, 40], atol=1e-5)
    np.testing.assert_array_equal(back["visible"], facts["visible"])


def test_a_map_without_size_is_refused():
    with pytest.raises(ValueError, match="got half=0"):
        OnMap((0.0, 0.0), 0.0)
