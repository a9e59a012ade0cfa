"""One seat that holds the keys of two: with Snowglobe, which needs no other package, and with the real console."""

from importlib.util import find_spec

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from pettingzoo.test import parallel_api_test

from gamegen_x.config import CONFIGS, build
from gamegen_x.data.state import draw_others
from gamegen_x.games.one_seat import OneSeat
from gamegen_x.schema.action_space import ActionSpace

KEYS = ActionSpace("both", ("w", "up"))
BOTH = {"w": (0, "w"), "up": (1, "w")}


def built(game, *overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(compose("record", [f"game={game}", "output=none", *overrides]).game)


def of_two(stands_for=BOTH):
    return OneSeat(built("snowglobe", "game.height=16", "game.width=16"), KEYS, "two", stands_for)


@pytest.mark.parametrize(("held", "mover"), [("w", 0), ("up", 1)])
def test_a_key_moves_only_the_player_that_it_stands_for(held, mover):
    game = of_two()
    game.reset(seed=3)
    before = game.facts_now()["pose"]
    for row in KEYS.parse(f"{held}*4"):
        game.step({game.agents[0]: row})
    moved = np.abs(game.facts_now()["pose"] - before).max(axis=(1, 2)) > 1e-3
    assert moved.tolist() == [player == mover for player in range(2)]


def test_it_is_a_parallel_environment_of_one_agent():
    game = of_two()
    parallel_api_test(game, num_cycles=20)
    assert game.possible_agents == ["player_0"]
    assert game.metadata["name"] == "two"


def test_the_seat_is_nobody_and_everybody_is_another():
    game = of_two()
    game.reset(seed=0)
    facts = {name: value[None] for name, value in game.facts_now().items()}
    assert facts["screen_xy"].shape == (1, 1, 3, 2)
    assert not facts["visible"][0, 0, 0]
    facts["screen_xy"][:], facts["visible"][:] = 5.0, [False, True, True]
    others = draw_others(facts, 1, (2, 2), (16, 16))
    assert others.shape == (1, 1, 1, 2, 2)
    assert others.sum() == pytest.approx(2)


@pytest.mark.parametrize(
    ("stands_for", "message"),
    [
        ({"w": (0, "w")}, r"explains each of the keys \['w', 'up'\], got \['w'\]"),
        ({**BOTH, "up": (2, "w")}, "up stands for key 'w' of player 2, but the game has 2 players"),
        ({**BOTH, "up": (1, "fly")}, "up stands for key 'fly' of player 1"),
    ],
)
def test_keys_that_stand_for_nothing_are_refused(stands_for, message):
    with pytest.raises(ValueError, match=message):
        of_two(stands_for)


@pytest.mark.skipif(find_spec("multi_agent_ale_py") is None, reason="pip install 'gamegen-x[atari]'")
def test_mario_and_luigi_walk_apart_on_one_screen():
    game = built("mario_bros_coop", "of_two.game.warm_up_seconds=[0,0]")
    game.reset(seed=0)
    places = []
    for row in game.keys.parse("_*48 left+d*8"):
        views, *_ = game.step({game.agents[0]: row})
        places.append(game.facts_now()["position"][:, 0].astype(float))
    mario, luigi = (places[-1] - places[47]).tolist()
    assert mario < 0 < luigi
    assert views["player_0"].shape == (96, 80, 3)
