import numpy as np
import pytest
from snowglobes import recording

from gamegen_x.config import build
from gamegen_x.games.bots import Bot, Mix, command_keys, walk_keys
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.world.sphere import Cells, angle_between

KEYS = ActionSpace("snowglobe", ("w", "a", "s", "d", "space", "e", "q"))
HABITS = ("random_holds", "follow", "explore", "cooperate")


def watch(habit, num_frames=240, seed=0):
    """Two players of a habit: the keys pressed `[t p k]` and the facts of every frame."""
    cfg = recording("game=snowglobe")
    game, mix = build(cfg.game), build(cfg.bots)
    players = [
        Bot(mix.habits[habit], seat, game.keys, np.random.default_rng([seed, seat]), mix.block_frames)
        for seat in range(2)
    ]
    game.reset(seed=seed)
    facts, pressed, seen = game.facts_now(), [], []
    for _ in range(num_frames):
        pressed.append(np.stack([player.press(facts) for player in players]))
        game.state = game.state.step(game.wishes(pressed[-1]), game.rules)
        facts = game.facts_now()
        seen.append(facts)
    return np.stack(pressed), seen


@pytest.mark.parametrize("habit", HABITS)
def test_each_latent_frame_has_one_command(habit):
    pressed, _ = watch(habit)
    blocks = pressed.reshape(-1, 4, *pressed.shape[1:])
    assert np.all(blocks == blocks[:, :1])
    assert len(np.unique(blocks[:, 0, 0], axis=0)) > 3


def test_random_holds_are_mostly_single_directions_all_equally_likely():
    pressed, _ = watch("random_holds", num_frames=3000)
    commands = ["+".join(KEYS.decode(row)) or "_" for row in pressed[::4].reshape(-1, 7)]
    shares = {name: commands.count(name) / len(commands) for name in set(commands)}
    common = [shares[name] for name in ("_", "w", "a", "s", "d")]
    assert sum(common) == pytest.approx(0.8, abs=0.05)
    assert max(common) - min(common) < 0.07
    assert {"q", "space", "e", "w+d"} <= set(shares)


def test_who_lingers_stands_more_and_holds_keys_for_longer_than_by_chance():
    def of(habit):
        pressed, _ = watch(habit, num_frames=3000)
        changes = np.any(pressed[1:] != pressed[:-1], axis=-1).mean()
        return np.mean(~pressed.any(axis=-1)), changes

    (stands, changes), (stands_by_chance, changes_by_chance) = of("linger"), of("random_holds")
    assert stands > 1.4 * stands_by_chance
    assert changes < changes_by_chance / 2


def test_followers_meet_and_part_again_and_again():
    _, facts = watch("follow", num_frames=720, seed=1)
    meetings = facts[-1]["counters"][5]
    visible = np.mean([fact["visible"][0, 1] for fact in facts])
    assert meetings >= 3
    assert 0.2 < visible < 0.95


def test_an_explorer_sees_more_of_the_planet_than_chance_does():
    cells = Cells(4)
    seen = {}
    for habit in ("explore", "random_holds"):
        _, facts = watch(habit, num_frames=720)
        places = np.stack([fact["pose"][0, :, 2] for fact in facts])
        seen[habit] = (angle_between(cells.centres[:, None], places[None]).min(axis=1) < 0.3).sum()
    assert seen["explore"] > 1.5 * seen["random_holds"]


def test_a_team_habit_is_everybodys_and_shares_decide_the_others():
    mix = Mix({"a": None, "b": None}, {"a": 0.5, "b": 0.5}, block_frames=4, team=["b"])
    casts = [
        [name for name, _ in mix.players(KEYS, [np.random.default_rng([n, s]) for s in range(3)])] for n in range(200)
    ]
    assert ["b", "b", "b"] in casts
    assert all(cast == ["b"] * 3 for cast in casts if cast[0] == "b")
    assert any(cast == ["a", "a", "b"] for cast in casts)


def test_shares_of_unknown_habits_are_refused():
    with pytest.raises(ValueError, match=r"habits \['sleep'\], there are \['walk'\]"):
        Mix({"walk": None}, {"sleep": 1.0}, block_frames=4)
    with pytest.raises(ValueError, match="not all 0"):
        Mix({"walk": None}, {"walk": 0.0}, block_frames=4)


def test_commands_name_keys_or_none():
    assert KEYS.decode(command_keys(KEYS, "w+D")) == ("w", "d")
    assert KEYS.decode(command_keys(KEYS, "_")) == ()
    with pytest.raises(ValueError, match="unknown key 'fly'"):
        command_keys(KEYS, "w+fly")


def test_walking_keys_follow_the_direction():
    assert KEYS.decode(walk_keys(KEYS, 1.0, 0.9)) == ("w", "d")
    assert KEYS.decode(walk_keys(KEYS, -1.0, 0.1)) == ("a",)
    rng = np.random.default_rng(0)
    drawn = [KEYS.decode(walk_keys(KEYS, 0.25, -0.75, rng)) for _ in range(400)]
    assert set(drawn) == {("d",), ("s",)}
    assert 200 < drawn.count(("s",)) < 380
