import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gamegen_x.world.spawn import fair_places, places_at
from gamegen_x.world.sphere import Cells, angle_between, random_directions

CELLS = Cells(8)
NOBODY = np.zeros((0, 3))


@given(st.integers(0, 2**31), st.integers(1, 8), st.floats(0, 0.9))
@settings(max_examples=40)
def test_everybody_appears_on_safe_ground_as_far_apart_as_it_allows(seed, count, hazard_share):
    rng = np.random.default_rng(seed)
    is_hazard = rng.uniform(size=CELLS.count) < hazard_share
    places = fair_places(rng, count, CELLS, is_hazard, NOBODY)
    assert not is_hazard[CELLS.of(places)].any()
    apart = angle_between(places[:, None], places[None])[~np.eye(count, dtype=bool)]
    loneliest = angle_between(CELLS.centres[~is_hazard][:, None], places[None]).min(axis=1).max()
    assert count == 1 or apart.min() >= loneliest - 1e-9


def test_a_newcomer_keeps_away_from_those_who_are_there():
    rng = np.random.default_rng(0)
    taken = random_directions(rng, 1)
    (place,) = fair_places(rng, 1, CELLS, np.zeros(CELLS.count, bool), taken)
    assert angle_between(place, taken[0]) > np.pi - CELLS.radius * 2


def test_a_world_without_safe_ground_is_refused():
    with pytest.raises(ValueError, match="all 768 cells are hazards"):
        fair_places(np.random.default_rng(0), 1, CELLS, np.ones(CELLS.count, bool), NOBODY)


@given(st.integers(0, 2**31))
@settings(max_examples=30)
def test_a_place_nearby_is_neither_too_near_nor_too_far_and_dry_where_possible(seed):
    rng = np.random.default_rng(seed)
    centre = random_directions(rng, 1)[0]
    is_hazard = CELLS.centres[:, 2] < 0
    place = places_at(rng, centre, (0.2, 0.4), CELLS, is_hazard, tries=64)
    assert 0.2 <= angle_between(place, centre) <= 0.4
    if centre[2] > 0.2:
        assert not is_hazard[CELLS.of(place)]
