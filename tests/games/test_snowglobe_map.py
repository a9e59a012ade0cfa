"""The drawn state of a Snowglobe says what its pictures show, and rules step it as the game does."""

import numpy as np
import pytest
from snowglobes import ask, play, snowglobe

from gamegen_x.config import CONFIGS, build
from gamegen_x.data.state import PoseDrawer, draw_others
from gamegen_x.games.dynamics import RulesDynamics
from gamegen_x.games.snowglobe_look import Look
from gamegen_x.games.snowglobe_planet import TERRAINS
from gamegen_x.world.drawing import splat
from gamegen_x.world.facts import stepped
from gamegen_x.world.proximity import near_in_blocks

SIZE, PICTURE, FRAMES = (8, 8), (64, 64), 4


def drawer():
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["data=snowglobe", "state=map", "output=unused"])
    return build(cfg.data.state.drawer)


def played(game, keys, num_frames):
    """Facts of every frame `[t ...]`, and the first player's views."""
    facts, views = [], []
    for _ in range(num_frames):
        views.append(play(game, keys)[0])
        facts.append(game.facts_now())
    return {name: np.stack([each[name] for each in facts]) for name in facts[0]}, np.stack(views)


@pytest.fixture(scope="module")
def clear_day():
    game = snowglobe()
    game.reset(seed=3)
    ask(game, "clear", "day", "summer")
    return game, *played(game, "w+d", 8)


def part(drawn, drawer, name):
    start = 0
    for other, count in drawer.parts.items():
        if other == name:
            return drawn[:, :, start : start + count]
        start += count
    raise KeyError(name)


def test_the_terrain_of_the_map_is_that_of_the_picture(clear_day):
    game, facts, views = clear_day
    map_of = drawer()
    drawn = map_of.draw(facts, SIZE, PICTURE)
    assert drawn.shape == (2, 2, map_of.num_channels, *SIZE)
    hot = part(drawn, map_of, "terrain")[0].reshape(2, 2, 2, len(TERRAINS), *SIZE)  # t row column class h w
    classes = hot.argmax(axis=3).transpose(0, 3, 1, 4, 2).reshape(2, 16, 16)
    assert (hot.sum(axis=3) == 1).all()
    ramp = Look.of(game.state.conditions.weights(game.state.tick, game.blend_frames)).ramp
    palette = ramp[(np.arange(len(TERRAINS)) * 2 + 1) * len(ramp) // (2 * len(TERRAINS))]
    pixels = views[3::4].reshape(2, 16, 4, 16, 4, 3)[:, :, 1:3, :, 1:3].mean(axis=(2, 4))
    shown = np.square(pixels[..., None, :] - palette).sum(-1).argmin(-1)
    agreement = (shown == classes).mean()
    assert agreement > 0.8  # the rest is landmarks, players and soft shores
    assert (shown == classes[:, ::-1, ::-1]).mean() < agreement - 0.2  # by chance


def test_players_are_drawn_where_they_are_seen(clear_day):
    _, facts, _ = clear_day
    map_of = drawer()
    seen = part(map_of.draw(facts, SIZE, PICTURE), map_of, "players").reshape(2, 2, FRAMES, 8, *SIZE)
    by_pixels = PoseDrawer(num_slots=8, frames_per_latent=FRAMES).draw(facts, SIZE, PICTURE)
    by_pixels = by_pixels.reshape(2, 2, FRAMES, 8, *SIZE)
    visible = facts["visible"].reshape(2, FRAMES, 2, 2)
    assert visible[:, :, 0, 1].any()
    for t, f, seer, other in np.argwhere(visible):
        np.testing.assert_allclose(seen[seer, t, f, other], by_pixels[seer, t, f, other], atol=1e-3)
    itself = seen[0, :, :, 0]  # in the middle of its own view
    np.testing.assert_allclose(itself[..., 3:5, 3:5], 0.25, atol=1e-4)
    assert not seen[:, :, :, 2:].any()
    others = draw_others(facts, FRAMES, SIZE, PICTURE)
    np.testing.assert_allclose(others[0, :, 0], by_pixels[0, :, :, 1].sum(axis=1), atol=1e-6)


def test_the_sky_is_told_everywhere_as_shares_of_the_frames_of_a_latent(clear_day):
    game, facts, _ = clear_day
    facts = {name: values.copy() for name, values in facts.items()}
    facts["weather"][5:] = game.facts["weather"].index("snow")  # 3 of the 4 frames of the second latent frame
    sky = part(drawer().draw(facts, SIZE, PICTURE), drawer(), "sky")
    assert (sky == sky[:1, :, :, :1, :1]).all()
    names = [name for fact in ("weather", "time_of_day", "season") for name in game.facts[fact]]
    told = [dict(zip(names, shares, strict=True)) for shares in sky[0, :, :, 0, 0].tolist()]
    assert {name: share for name, share in told[0].items() if share} == {"clear": 1, "day": 1, "summer": 1}
    assert {name: share for name, share in told[1].items() if share} == {
        "clear": 0.25,
        "snow": 0.75,
        "day": 1,
        "summer": 1,
    }


def test_rules_step_the_recorded_world_as_the_game_did():
    game = snowglobe()
    game.reset(seed=5)
    facts, _ = played(game, "w+d", 5)
    start = {name: values[0] for name, values in facts.items()}
    held = np.stack([np.stack([game.keys.parse("w+d")[0], game.keys.parse("_")[0]])] * 4)
    imagined = stepped(RulesDynamics(snowglobe()).start(start), held)[1]
    for name in ("pose", "screen_xy", "thing_place"):
        np.testing.assert_allclose(imagined[name], facts[name][1:], atol=2e-3 if name == "screen_xy" else 1e-5)
    for name in ("visible", "near", "planet", "thing_kind", "weather"):
        np.testing.assert_array_equal(imagined[name], facts[name][1:])
    map_of = drawer()
    np.testing.assert_allclose(
        map_of.draw(imagined, SIZE, PICTURE)[:, :, :32],
        map_of.draw({name: values[1:] for name, values in facts.items()}, SIZE, PICTURE)[:, :, :32],
        atol=1e-3,
    )


def test_facts_of_another_number_of_players_are_refused(clear_day):
    _, facts, _ = clear_day
    with pytest.raises(ValueError, match="num_players=3, the facts are of 2"):
        RulesDynamics(snowglobe("game.num_players=3")).start({name: values[0] for name, values in facts.items()})


def test_who_comes_near_within_a_block_is_near_in_it():
    east, north = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    near_east = np.array([np.cos(0.1), np.sin(0.1), 0])
    positions = np.array([[east, north], [east, near_east], [east, north], [east, north]])
    near = near_in_blocks(positions, 0.2, 2)
    assert near[:, 0, 1].tolist() == [True, False]
    assert near[:, 1, 0].tolist() == [True, False]
    assert not near[:, [0, 1], [0, 1]].any()


def test_a_point_is_shared_among_its_cells_and_lost_outside():
    grid = np.zeros((2, 3, 4), np.float32)
    splat(grid, np.array([1, 0, 0]), np.array([[1.25, 0.5], [-0.75, 0.0], [9.0, 9.0]]))
    np.testing.assert_allclose(grid[1, :2, 1:3], [[0.375, 0.125], [0.375, 0.125]])
    assert grid[0].sum() == pytest.approx(0.25)
    assert grid.sum() == pytest.approx(1.25)
