"""Small worlds to test with."""

import numpy as np

from gamegen_x.world.events import Event, Scope
from gamegen_x.world.rules import Jump, Meet, Remember, Walk, Wishes
from gamegen_x.world.snapshot import settled
from gamegen_x.world.sphere import frame_at, random_directions
from gamegen_x.world.state import Conditions, Entities, Players, WorldState

RULES = (Walk(step_angle=0.02, turn_angle=0.07), Jump(num_ticks=8), Meet(enter=0.2, leave=0.3, counter=1), Remember())


def random_state(seed, num_players=3, num_entities=4):
    rng = np.random.default_rng(seed)

    def frames(count):
        return np.stack([frame_at(place, rng.uniform(0, 6)) for place in random_directions(rng, count)])

    return settled(
        WorldState(
            seed=seed,
            tick=int(rng.integers(-1, 1000)),
            players=Players(
                frames=frames(num_players),
                airborne=rng.integers(0, 9, num_players, dtype=np.int32),
                carrying=rng.integers(0, 2, num_players, dtype=np.int32),
                is_acting=rng.integers(0, 2, (num_players, 2)).astype(bool),
                near=np.zeros((num_players, num_players), bool),
            ),
            entities=Entities(
                kind=rng.integers(0, 5, num_entities, dtype=np.int32),
                frames=frames(num_entities),
                clock=rng.integers(0, 9, num_entities, dtype=np.int32),
                owner=rng.integers(-1, num_players, num_entities, dtype=np.int32),
            ),
            conditions=Conditions(np.zeros(2, np.int32), np.full(2, -8, np.int32), np.eye(3)[[0, 0]]),
            counters=rng.integers(0, 99, 3, dtype=np.int32),
            events=(Event("hit", Scope.PLAYER, 1, 0),) if seed % 2 else (),
        )
    )


def random_wishes(rng, num_players=3):
    right, up, turn = rng.integers(-1, 2, (3, num_players)).astype(np.float64)
    return Wishes(right, up, turn, rng.integers(0, 2, (num_players, 2)).astype(bool))
