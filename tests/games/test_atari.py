"""Mario Bros. with the real console: one screen for two, keys that act at once, memory that tells where they are."""

import importlib
import importlib.util
import sys

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from pettingzoo.test import parallel_api_test

from gamegen_x.config import CONFIGS, build

REASON = "the console's GPL packages are not installed: pip install 'gamegen-x[atari]'"
for name in ("multi_agent_ale_py", "ale_py"):
    pytest.importorskip(name, reason=REASON)

MARIO_BLUE, LUIGI_GREEN = (104, 72, 198), (111, 210, 111)  # of their clothes, on the console


def mario(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("record", ["game=mario_bros", "output=none", "game.warm_up_seconds=[0,3]", *overrides])
    return build(cfg.game)


def play(game, rows, seed=0):
    """Plays rows of keys "t p k"; the views of each frame, and the facts before and after each."""
    game.reset(seed=seed)
    views, facts = [], [game.facts_now()]
    for row in rows:
        observations = game.step(dict(zip(game.agents, row, strict=True)))[0]
        views.append([observations[agent] for agent in game.possible_agents])
        facts.append(game.facts_now())
    return np.array(views), {name: np.stack([fact[name] for fact in facts]) for name in facts[0]}


def keys(game, first, second):
    return np.stack([game.keys.parse(first), game.keys.parse(second)], axis=1)


def random_keys(game, num_frames):
    return np.random.default_rng(0).integers(0, 2, (num_frames, 2, game.num_keys), np.uint8)


def test_the_same_seed_and_keys_replay_the_same_pictures():
    game = mario()
    rows = random_keys(game, 24)
    first, again, other = (play(game, rows, seed)[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_both_seats_see_one_moving_screen():
    game = mario()
    views, _ = play(game, random_keys(game, 24))
    assert views.shape == (24, 2, 96, 80, 3)
    assert (views[:, 0] == views[:, 1]).all()
    assert all((views[t] != views[t - 1]).any() for t in range(1, 24))


@pytest.mark.parametrize(("key", "axis", "sign"), [("right", 0, 1), ("left", 0, -1), ("space", 1, -1)])
@pytest.mark.parametrize("seat", [0, 1])
def test_a_key_moves_its_own_player_in_the_frame_of_its_row(key, axis, sign, seat):
    game = mario("game.warm_up_seconds=[0,0]")
    held = [f"_*48 {key}*4", "_*52"]
    _, facts = play(game, keys(game, held[seat], held[1 - seat]))
    place = facts["position"][:, :, axis].astype(float)
    moved = np.diff(place[-5:], axis=0)  # in the four frames of the key
    assert (moved[:, seat] * sign > 0).all()
    assert (moved[:, 1 - seat] == 0).all()
    assert (np.diff(place[24:-4], axis=0) == 0).all()  # and none without it


def test_the_memory_tells_where_the_figures_are():
    game = mario("game.height=208", "game.width=160", "game.warm_up_seconds=[2,2]")
    views, facts = play(game, random_keys(game, 48))
    hits = []
    for view, places in zip(views[:, 0], facts["position"][1:], strict=True):
        for (x, y), colour in zip(places, (MARIO_BLUE, LUIGI_GREEN), strict=True):
            around = view[max(0, int(y) - 12) : int(y) + 12, max(0, int(x) - 8) : int(x) + 8].reshape(-1, 3).astype(int)
            hits.append((np.abs(around - colour).max(axis=1) < 40).any())
    assert np.mean(hits) > 0.95


def test_a_second_of_frames_takes_a_second_of_ticks():
    game = mario()
    game.reset(seed=0)
    before, spent = game._console.getFrameNumber(), set()
    for _ in range(24):
        start = game._console.getFrameNumber()
        game.step(dict.fromkeys(game.agents, np.zeros(game.num_keys, np.uint8)))
        spent.add(game._console.getFrameNumber() - start)
    assert game._console.getFrameNumber() - before == 60
    assert spent == {2, 3}


def test_a_new_game_begins_when_all_lives_are_lost():
    game = mario("game.fps=1", "game.height=8", "game.width=8")
    _, facts = play(game, random_keys(game, 90))
    number = facts["game_number"]
    assert number[-1] >= 1
    begun = int(np.flatnonzero(np.diff(number))[0]) + 1
    assert facts["lives"][begun].min() >= 3
    assert game.agents == game.possible_agents
    assert game.outcome()["games_finished"] == number[-1]


def test_opposite_directions_cancel_and_others_join():
    game = mario()
    action = {
        text: game._action(game.keys.parse(text)[0]) for text in ("_", "space", "right", "left+space", "left+right")
    }
    assert action == {"_": 0, "space": 1, "right": 3, "left+space": 12, "left+right": 0}


def test_it_keeps_the_rules_of_a_parallel_environment():
    parallel_api_test(mario("game.height=8", "game.width=8"), num_cycles=40)


def test_without_the_packages_importing_the_game_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "gamegen_x.games.atari", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'gamegen-x\[atari\]'"):
        importlib.import_module("gamegen_x.games.atari")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("game.fps=120", "60 pictures a second at most, got fps=120"),
        ("game.width=100", "height and width are multiples of 8, got 96 x 100"),
        ("game.joystick.left=JUMP", "joystick gives each of the keys .* got .*JUMP"),
        ("game.places.x=[44]", "places name one byte of the memory a player"),
        ("game.num_players=4", "for 4 players"),
        ("game.rom=pacmania", "no game 'pacmania': name the path of a file"),
    ],
)
def test_a_mistake_in_the_settings_says_what_came_and_what_was_expected(override, message):
    with pytest.raises(Exception, match=message):
        mario(override)
