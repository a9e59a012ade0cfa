"""The floor plan of a map: how far one sees."""

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, build
from gamegen_x.games.vizdoom_arena import arena_map
from gamegen_x.world.floor_plan import FloorPlan

PLAN = FloorPlan((50.0, 50.0), 50.0, [(20.0, 20.0, 40.0, 60.0), (60.0, 70.0, 80.0, 75.0)])


def is_solid(places):
    inside = [
        (places > (left, low)).all(-1) & (places < (right, high)).all(-1) for left, low, right, high in PLAN.boxes
    ]
    return np.logical_or.reduce([*inside, (places < 0).any(-1), (places > 100).any(-1)])


def test_a_ray_ends_where_somebody_who_walks_along_it_would_hit_a_wall():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 100, (400, 2))
    places = places[~is_solid(places)]
    turns = rng.uniform(0, 2 * np.pi, len(places))
    ways = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    steps = np.arange(0, 150, 0.05)
    walked = places[:, None] + ways[:, None] * steps[:, None]
    first = steps[is_solid(walked).argmax(axis=1)]
    grazes = np.abs(PLAN.distances(places, ways) - first) > 0.06  # a corner that is cut by less than a step
    assert grazes.mean() < 0.01


def test_along_the_axes_too():
    places = np.array([[10.0, 50.0], [10.0, 50.0], [10.0, 50.0], [10.0, 80.0]])
    ways = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(PLAN.distances(places, ways), [10, 10, 50, 90])


@pytest.mark.parametrize("place", [(-5.0, 50.0), (-5.0, 10.0), (105.0, 105.0), (30.0, 30.0)])
@pytest.mark.parametrize("way", [(-1.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.6, -0.8)])
def test_who_is_off_the_map_or_in_a_box_sees_nothing(place, way):
    assert PLAN.distances(np.array(place), np.array(way)) == 0


def test_nobody_is_in_sight_behind_a_box():
    places = np.array([[[10, 50], [50, 50], [10, 90]]], np.float64)
    expected = np.array([[True, False, True], [False, True, True], [True, True, True]])
    assert (PLAN.in_sight(places)[0] == expected).all()


def test_a_box_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"a box is \[left, low, right, high\] in map units, got \[40, 20, 20, 60\]"):
        FloorPlan((50.0, 50.0), 50.0, [(40, 20, 20, 60)])


def test_the_plan_that_networks_are_told_is_that_of_the_arena():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        drawer = build(compose("train", ["experiment=vizdoom_instruct"]).data.state).drawer
    lines = arena_map().splitlines()
    places = [[float(part.split("=")[1]) for part in line[7:-2].split(";")] for line in lines if line[:6] == "vertex"]
    solid = [line for line in lines if line.startswith("linedef") and "blocking" in line]
    ends = [[places[int(part.split("=")[1])] for part in line[8:].split(";")[:2]] for line in solid]
    assert len(ends) == 4 * (8 + 4)
    plan = FloorPlan(drawer.middle, drawer.half, drawer.surfaces.boxes)
    for start, end in np.array(ends):  # from either side of each wall's middle: one sees it, the other is inside
        along = (end - start) / np.linalg.norm(end - start)
        across = np.array([along[1], -along[0]])  # to the right, where the sector is
        before = (start + end) / 2 + 5 * across
        assert plan.distances(before, -across) == pytest.approx(5)
    assert sum("wallheight" in line or "heightceiling=160" in line for line in lines) == 4
    assert drawer.surfaces.wall_height == 160
