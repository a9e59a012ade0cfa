"""Doom duels with the real engine: one world for all seats, keys that act in the frame that shows them, no orphans."""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from einops import rearrange
from hydra import compose, initialize_config_dir
from pettingzoo.test import parallel_api_test

from gamegen_x.config import CONFIGS, build
from gamegen_x.games.bots import Situation
from gamegen_x.games.vizdoom_arena import arena_map, court_of, write_arena
from gamegen_x.games.vizdoom_engine import _shared_memory

pytest.importorskip("vizdoom", reason="ViZDoom is not installed: pip install 'gamegen-x[games]'")

SAME_PLACE = 1e-3  # map units
TURN = 0.1  # degrees that the engine's angles may be off by rounding
WARM_UP = 0.75  # seconds: who has just arrived cannot move for half a second


def configured(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("record", ["game=vizdoom_duel", "output=none", f"game.warm_up_seconds={WARM_UP}", *overrides])


def duel(*overrides):
    return build(configured(*overrides).game)


def play(game, num_frames, seed):
    """Random keys, new at each frame: actions, views, and the facts before and after each frame."""
    rng = np.random.default_rng(seed)
    game.reset(seed=seed)
    actions, views, facts = [], [], [game.facts_now()]
    for _ in range(num_frames):
        actions.append(rng.integers(0, 2, (game.num_players, game.num_keys), np.uint8))
        observations = game.step(dict(zip(game.agents, actions[-1], strict=True)))[0]
        views.append([observations[agent] for agent in game.agents])
        facts.append(game.facts_now())
    return np.stack(actions), np.array(views), {name: np.stack([fact[name] for fact in facts]) for name in facts[0]}


def group_is_gone(pid):
    """Whether nothing of a process group runs any more; who was killed may take a moment."""
    end = time.monotonic() + 10
    while not (is_gone := _is_gone(pid)) and time.monotonic() < end:
        time.sleep(0.02)
    return is_gone


def _is_gone(pid):
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    members = [path for path in Path("/proc").glob("[0-9]*/stat") if f" {pid} " in path.read_text().split(")")[-1]]
    return all(" Z " in path.read_text() for path in members)


@pytest.fixture(scope="module")
def played():
    game = duel()
    try:
        yield game, *play(game, 96, seed=5)
    finally:
        game.close()


def test_every_player_is_where_the_others_see_it_at_every_frame(played):
    _, _, _, facts = played
    alive = facts["health"] > 0
    off = np.abs(facts["seen_position"] - facts["position"][:, None]).max(axis=-1)  # t p p
    for seat, other in ((0, 1), (1, 0)):
        assert alive[:, other].sum() > 90
        assert (off[alive[:, other], seat, other] < SAME_PLACE).all()


def test_a_turning_key_turns_its_own_player_in_the_frame_of_its_row(played):
    game, actions, _, facts = played
    left, right = (game.keys.keys.index(key) for key in ("left", "right"))
    degrees = np.diff(facts["tic"])[:, None] * 105 / 35
    asked = (actions[:, :, left].astype(int) - actions[:, :, right]) * degrees
    turned = (np.diff(facts["angle"], axis=0) + 180) % 360 - 180
    lived = (facts["health"][:-1] > 0) & (facts["health"][1:] > 0)
    assert lived.sum() > 180
    assert (np.abs(turned - asked)[lived] < TURN).all()
    for seat in (0, 1):  # and a row too late or too early would not fit
        assert (np.abs(turned[1:, seat] - asked[:-1, seat]) > TURN).mean() > 0.3
        assert (np.abs(turned[:-1, seat] - asked[1:, seat]) > TURN).mean() > 0.3


def test_the_court_that_is_told_is_the_one_a_player_stands_in(played):
    game, _, _, facts = played
    assert set(game.facts) == {"terrain"}
    east, north = (facts["position"][:, :, axis] >= 512 for axis in (0, 1))
    assert (facts["terrain"] == east + 2 * north).all()


def test_a_second_of_frames_takes_a_second_of_tics(played):
    _, _, _, facts = played
    tics = np.diff(facts["tic"])
    assert set(tics) == {1, 2}
    assert all(later - earlier == 35 for earlier, later in pairwise(facts["tic"][::24]))


def test_views_differ_between_seats_and_move(played):
    _, _, views, _ = played
    assert views.shape == (96, 2, 64, 64, 3)
    assert (views[:, 0] != views[:, 1]).mean() > 0.5
    assert (views[1:] != views[:-1]).mean() > 0.2


def test_the_same_seed_and_keys_replay_the_same_pictures(played):
    game, actions, views, _ = played
    again = play(game, 32, seed=5)
    assert (again[0] == actions[:32]).all()
    assert (again[1] == views[:32]).all()


def test_it_keeps_the_rules_of_a_parallel_environment(played):
    parallel_api_test(played[0], num_cycles=12)


def test_a_silent_engine_is_ended_with_all_it_started_and_play_can_begin_again():
    game = duel()
    try:
        game.reset(seed=1)
        group = game._engines.process.pid
        shared = _shared_memory(group)
        os.killpg(group, signal.SIGSTOP)
        patience, game.answer_seconds = game.answer_seconds, 1
        with pytest.raises(RuntimeError, match=r"the Doom engines gave no answer for 1 seconds; their last words: .+"):
            game.step({agent: np.zeros(game.num_keys, np.uint8) for agent in game.agents})
        assert group_is_gone(group)
        assert len(shared) == 6
        assert not any(path.exists() for path in shared)
        game.answer_seconds = patience
        game.reset(seed=1)
        group = game._engines.process.pid
    finally:
        game.close()
    assert group_is_gone(group)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("game.num_players=1", "a duel takes 2 to 8 players, got num_players=1"),
        ("game.fps=60", "35 pictures a second at most, got fps=60"),
        ("game.height=60", "height and width are multiples of 8, got 60 x 64"),
        ("game.buttons.w=FLY", "'FLY'.* are not a button of ViZDoom; it knows"),
        ("game.screen_resolution=RES_1X1", "'RES_1X1'.* are not a screen resolution of ViZDoom"),
        ("~game.buttons.w", "every key needs its button"),
        ("game.scenario=nowhere.wad", "no scenario 'nowhere.wad': name 'arena', a WAD file, or one of those in"),
    ],
)
def test_a_mistake_in_the_settings_is_told_before_any_engine_starts(override, message):
    with pytest.raises(Exception, match=message):
        duel(override)


def test_the_arena_is_closed_and_has_a_start_for_each_of_eight_players(tmp_path):
    text = arena_map()
    assert text.count("type=11;") == 8
    lines = [line for line in text.splitlines() if line.startswith("linedef")]
    ends = [part for line in lines if "blocking" in line for part in line.split("{")[1].split(";")[:2]]
    assert {part[:2] for part in ends} == {"v1", "v2"}
    starts, stops = ({part[3:] for part in ends if part[:2] == name} for name in ("v1", "v2"))
    assert starts == stops  # every solid line goes on in another
    write_arena(tmp_path / "arena.wad")
    assert (tmp_path / "arena.wad").read_bytes()[:4] == b"PWAD"


@pytest.mark.parametrize(
    ("bearing", "commands"),
    [(60, "to_left"), (-60, "to_right"), (0, "ahead")],
)
def test_a_duellist_turns_to_the_other_player(bearing, commands):
    cfg = configured("bots.habits.duel.change_share=0")
    habit, keys = build(cfg.bots.habits.duel), build(cfg.game["keys"])
    facts = {
        "position": np.array(
            [[0, 0, 0], [200 * np.cos(np.radians(30 + bearing)), 200 * np.sin(np.radians(30 + bearing)), 0]]
        ),
        "angle": np.array([30.0, 0.0]),
        "health": np.array([100, 100]),
    }
    held, _ = habit.decide(Situation(0, facts, np.random.default_rng(0), keys, {}))
    assert "+".join(keys.decode(held)) in cfg.bots.habits.duel[commands]


def test_a_duellist_who_ran_into_something_turns_away():
    cfg = configured()
    habit, keys, memory = build(cfg.bots.habits.duel), build(cfg.game["keys"]), {}
    facts = {"position": np.array([[0.0, 0, 0], [200, 0, 0]]), "angle": np.zeros(2), "health": np.array([100, 100])}
    situation = Situation(0, facts, np.random.default_rng(0), keys, memory)
    habit.decide(situation)
    memory["is_walking"] = True
    held, num_blocks = habit.decide(situation)
    assert {"left", "right"} & set(keys.decode(held))
    assert num_blocks in cfg.bots.habits.duel.turn_blocks


@pytest.fixture(scope="module")
def told(played):
    """The drawer of Doom's networks, and where players stood and looked in the frames of `played`."""
    _, _, _, facts = played
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        drawer = build(compose("train", ["experiment=vizdoom_instruct"]).data.state).drawer
    return drawer, facts["position"][1:, :, :2].astype(np.float64), np.deg2rad(facts["angle"][1:].astype(np.float64))


def test_the_floor_plan_that_networks_are_told_is_what_the_engine_draws(played, told):
    _, _, views, facts = played
    drawer, place, angle = told
    drawn = drawer.surfaces.draw(drawer.plan, place, angle, 1.0, drawer.near, (8, 8))  # t p c h w
    walls, floors = drawn[:, :, 46], drawn[:, :, 47]
    cells = rearrange(views.astype(np.float64), "t p (h y) (w x) c -> t p h w (y x) c", y=8, x=8).mean(axis=4)
    is_alive = (facts["health"][1:] > 0)[..., None, None]
    sky = cells[(walls + floors == 0) & is_alive]
    assert len(sky) > 500
    on_floor = (floors == 1) & is_alive
    on_floor[:, :, 4:, 3:5] = False  # where the weapon is
    x, y = (drawn[:, :, 48] * 512 + 512), (drawn[:, :, 48 + 1 + 2 * 5] * 512 + 512)
    court = court_of(np.stack([x, y], -1))
    strongest = np.where(court == 1, 0, 2)  # red in the red court, blue in the blue one
    is_coloured = on_floor & ((court == 1) | (court == 2))
    assert is_coloured.sum() > 100

    def fits(pictures):  # players fire: never all
        shown, colour = pictures[is_coloured], strongest[is_coloured][:, None]
        others = np.where(np.arange(3) == colour, 0, shown).max(axis=-1)
        return (np.take_along_axis(shown, colour, axis=-1)[:, 0] > 2 * others).mean()

    assert fits(cells) > 0.7 > fits(cells[:, :, :, ::-1]) + 0.1
    assert sky.mean() < 60 < cells[on_floor].max(axis=1).mean()


def test_walls_begin_and_end_in_the_rows_in_which_the_engine_draws_their_edges(played, told):
    _, _, views, _ = played
    drawer, place, angle = told
    height, width = views.shape[2:4]
    told_walls = drawer.surfaces.draw(drawer.plan, place, angle, 1.0, drawer.near, (height, width))
    nearness = rearrange(told_walls[:, :, :46, 0], "t p (two c) w -> two c t p w", two=2)[0, 0]
    ahead = drawer.near / nearness - drawer.near
    grey = views.astype(np.float64).mean(axis=-1)
    edges = np.abs(grey[:, :, 1:] - grey[:, :, :-1])  # between row i and i + 1

    def strength(proportion):
        found = []
        for above in (-drawer.surfaces.eye_height, drawer.surfaces.wall_height - drawer.surfaces.eye_height):
            row = np.round(height / 2 - above / ahead * height / (2 * proportion)).astype(int) - 1
            is_shown = (row >= 0) & (row < height - 1) & (ahead < 400)
            found.append(np.take_along_axis(edges, row.clip(0, height - 2)[:, :, None], axis=2)[:, :, 0][is_shown])
        return np.concatenate(found).mean()

    told_proportion = drawer.surfaces.proportion
    assert max((0.45, 0.5, 0.5625, told_proportion, 0.6875, 0.75, 0.8), key=strength) == told_proportion
