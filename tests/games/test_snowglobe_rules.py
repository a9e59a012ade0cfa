from dataclasses import replace

import numpy as np
import pytest
from snowglobes import play, recording, snowglobe

from gamegen_x.config import build
from gamegen_x.games.snowglobe_rules import Kind
from gamegen_x.world.sphere import angle_between, frame_at, moved, turned


def side_by_side(game, *distances):
    """Puts the players in a row, all facing the same way, this far (radians) to the right of the first."""
    first = game.state.players.frames[0]
    frames = np.stack([moved(first, np.asarray(distance), np.asarray(0.0)) for distance in (0.0, *distances)])
    game.state = replace(game.state, players=replace(game.state.players, frames=frames))


def put(game, slot, right, up, **values):
    """Puts a thing somewhere as seen from the first player."""
    frame = moved(game.state.players.frames[0], np.asarray(right), np.asarray(up))
    game.state = replace(game.state, entities=game.state.entities.changed(slot, frames=frame, **values))


def all_hold(game, keys, num_frames=1):
    held = game.keys.parse(keys)[0]
    for _ in range(num_frames):
        _, rewards, _, _, infos = game.step(dict.fromkeys(game.agents, held))
    return rewards, infos


@pytest.fixture
def game():
    world = snowglobe("game.start_conditions.season={summer: 0, autumn: 0, winter: 1}", "game.things.num_pests=0")
    for seed in range(50):  # somewhere on dry land, where snow lies in winter
        world.reset(seed=seed)
        if world.facts_now()["terrain"].min() > 0:
            return world
    raise AssertionError("no dry planet")


def test_a_big_snowball_rolls_only_while_two_walk_beside_it(game):
    side_by_side(game, 0.1)
    put(game, 0, 0.0, -0.5)
    put(game, 1, 0.05, 0.05)
    start = game.state.entities.positions[1]
    play(game, "w", 8)
    np.testing.assert_allclose(game.state.entities.positions[1], start, atol=1e-8)
    side_by_side(game, 0.1)
    put(game, 1, 0.05, 0.05)
    start = game.state.entities.positions[1]
    all_hold(game, "w", 8)
    assert angle_between(start, game.state.entities.positions[1]) == pytest.approx(8 * 0.021875, rel=0.05)


def test_a_delivered_snowball_scores_for_everybody_is_told_to_all_and_comes_again(game):
    side_by_side(game, 0.1)
    put(game, 0, 0.05, 0.3)
    put(game, 1, 0.05, 0.06)
    events, gained = [], 0.0
    for _ in range(12):
        rewards, infos = all_hold(game, "w")
        assert rewards["player_0"] == rewards["player_1"]
        gained += rewards["player_0"]
        events += [event.kind for event in infos["player_1"]["events"]]
    assert game.outcome()["delivered"] == 1
    assert gained == game.outcome()["score"] == 10
    assert "delivered" in events
    assert game.state.entities.kind[1] == Kind.BIG_BALL
    assert angle_between(game.state.entities.positions[1], game.state.entities.positions[0]) >= 0.3 - 1e-6


def test_a_pest_on_the_fort_is_in_the_way_until_two_chase_it():
    game = snowglobe()
    game.reset(seed=1)
    pest = int(np.flatnonzero(game.state.entities.kind == Kind.PEST)[0])
    side_by_side(game, 0.1)
    put(game, 0, 0.05, 0.3)
    put(game, pest, 0.05, 0.3)
    put(game, 1, 0.05, 0.25)
    put_far_away = game.state.players.frames.copy()
    put_far_away[1] = frame_at(-put_far_away[0, :, 2], 0.0)
    together = game.state.players.frames
    game.state = replace(game.state, players=replace(game.state.players, frames=put_far_away))
    play(game, "w", 10)
    assert game.outcome()["chased"] == game.outcome()["delivered"] == 0
    game.state = replace(game.state, players=replace(game.state.players, frames=together))
    all_hold(game, "w", 8)
    assert game.outcome()["chased"] == 1
    play(game, num_frames=20)
    assert angle_between(game.state.entities.positions[pest], game.state.entities.positions[0]) > 0.3


def test_snow_is_picked_up_thrown_ahead_and_hits(game):
    side_by_side(game, 0.0)
    frames = game.state.players.frames.copy()
    frames[1] = moved(frames[0], np.asarray(0.0), np.asarray(0.4))
    game.state = replace(game.state, players=replace(game.state.players, frames=frames))
    play(game, "e", 3)
    assert game.facts_now()["carrying"].tolist() == [1, 0]
    play(game, "space", 2)
    assert game.facts_now()["carrying"].tolist() == [0, 0]
    assert game.facts_now()["airborne"].tolist() == [0, 0]  # who throws does not jump
    assert (game.facts_now()["thing_kind"] == Kind.SNOWBALL).sum() == 1
    hits = []
    for _ in range(12):
        hits += [event.kind for event in all_hold(game, "_")[1]["player_1"]["events"]]
    assert hits.count("hit") == 1
    assert game.outcome()["hits"] == game.outcome()["thrown"] == 1
    assert (game.facts_now()["thing_kind"] == Kind.SNOWBALL).sum() == 0


def test_a_snowball_that_hits_nobody_melts(game):
    frames = game.state.players.frames.copy()
    frames[1] = frame_at(-frames[0, :, 2], 0.0)
    game.state = replace(game.state, players=replace(game.state.players, frames=frames))
    play(game, "e")
    play(game, "_")
    play(game, "space")
    play(game, num_frames=14)
    assert game.outcome()["hits"] == 0
    assert (game.facts_now()["thing_kind"] == Kind.SNOWBALL).sum() == 0


def test_two_handfuls_are_rolled_together_to_one_big_snowball(game):
    side_by_side(game, 0.08)
    all_hold(game, "e")
    all_hold(game, "_")
    assert game.facts_now()["carrying"].tolist() == [1, 1]
    play(game, "e")
    assert game.facts_now()["carrying"].tolist() == [0, 0]
    assert (game.facts_now()["thing_kind"] == Kind.BIG_BALL).sum() == 2
    assert game.outcome()["rolled_together"] == 1


def test_there_is_no_snow_to_pick_up_on_a_summer_meadow():
    game = snowglobe(
        "game.start_conditions.season={summer: 1, autumn: 0, winter: 0}",
        "game.start_conditions.weather={clear: 1, rain: 0, snow: 0, fog: 0}",
    )
    seen = set()
    for seed in range(12):
        game.reset(seed=seed)
        is_ice = game.facts["terrain"][game.facts_now()["terrain"][0]] == "ice"
        play(game, "e")
        assert bool(game.facts_now()["carrying"][0]) == is_ice
        seen.add(is_ice)
    assert False in seen


def test_bots_that_cooperate_deliver_and_one_alone_does_not():
    cfg = recording("game=snowglobe")
    bots, game = build(cfg.bots), build(cfg.game)
    delivered = []
    for habits in (("cooperate", "cooperate"), ("cooperate", "random_holds")):
        game.reset(seed=3)
        rngs = [np.random.default_rng([5, seat]) for seat in range(2)]
        players = [
            type(bots)(bots.habits, {name: 1.0}, 4).players(game.keys, rngs)[seat][1]
            for seat, name in enumerate(habits)
        ]
        facts = game.facts_now()
        for _ in range(360):
            held = np.stack([player.press(facts) for player in players])
            game.state = game.state.step(game.wishes(held), game.rules)
            facts = game.facts_now()
        delivered.append(game.outcome()["delivered"])
    assert delivered[0] >= 1
    assert delivered[1] == 0


def test_a_player_alone_needs_no_help():
    game = snowglobe("game.num_players=1", "game.things.num_pests=0")
    game.reset(seed=1)
    put(game, 0, 0.0, 0.4)
    put(game, 1, 0.0, 0.08)
    play(game, "w", 16)
    assert game.outcome()["delivered"] == 1


def test_in_the_shared_picture_keys_mean_the_same_for_everyone():
    game = snowglobe("game.camera=shared_screen", "game.num_players=3")
    game.reset(seed=2)
    rng = np.random.default_rng(0)
    for _ in range(60):
        game.step({agent: (rng.uniform(size=game.num_keys) < 0.2).astype(np.uint8) for agent in game.agents})
    before = game.facts_now()["screen_xy"][0]
    all_hold(game, "d")
    assert np.allclose(game.facts_now()["screen_xy"][0], before, atol=0.5)  # the camera goes along
    frames = game.state.players.frames
    play(game, "q", 5)
    assert not np.allclose(frames, game.state.players.frames, atol=0.05)
    assert np.allclose(turned(frames, np.asarray(0.0)), frames)
