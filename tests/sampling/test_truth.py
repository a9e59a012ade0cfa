"""A stream is told what is true of its world: the same as in training, also after a rewind."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from snowglobes import snowglobe

from gamegen_x.config import CONFIGS, build, to_dict
from gamegen_x.data.state import Drawing, StateReader, drawing_of
from gamegen_x.games.dynamics import RulesDynamics
from gamegen_x.games.snowglobe_conditions import FACTS
from gamegen_x.models.players.sequence import TokenSequence
from gamegen_x.sampling.stream_sampler import StreamSampler
from gamegen_x.sampling.truth import Told, Truth
from gamegen_x.world.facts import stepped
from tests.sampling.test_stream_sampler import LIVE, SAMPLER, SIZE, frames, some_networks

NUM_FRAMES, BLOCK, GRID = 24, 4, (8, 8)
WEATHERS = FACTS["weather"]


def state_config(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", ["data=snowglobe", "state=map", "output=unused", *overrides]).data.state


SETTINGS = build(state_config("data.state.near_angle=0.55"))


def some_keys(num_frames, seed):
    """Keys `[t p k]` of two players, the same for a block."""
    drawn = np.random.default_rng(seed).uniform(size=(num_frames // BLOCK, 2, 7)) < 0.3
    return drawn.repeat(BLOCK, axis=0).astype(np.uint8)


@pytest.fixture(scope="module")
def dynamics():
    return RulesDynamics(snowglobe())


class Recorded:
    """A split with one recording, of which only the facts are asked."""

    name, parts, damage = "recorded", (), {}

    def __init__(self, facts):
        self.headers = [SimpleNamespace(height=64, width=64, key="recording")]
        self.facts = facts

    def state(self, index):
        assert index == 0
        return self.facts

    def prepare(self):
        raise AssertionError

    open = actions = frames = prepare


def in_training(facts, rows):
    """What a data loader draws of these rows of a recording."""
    return StateReader(Recorded(facts), SETTINGS, BLOCK, GRID).window(0, [0, 1], rows)


def live(world, keys):
    """What a stream is told, block after block."""
    truth, told = Truth(world, Drawing(SETTINGS, GRID, (64, 64))), []
    for block in torch.from_numpy(keys).float().unflatten(0, (-1, BLOCK)):
        truth, news = truth.after(block.transpose(0, 1))
        told.append(news)
    return torch.cat([one.state for one in told], dim=1), torch.cat([one.near for one in told])


@pytest.mark.parametrize("seed", range(4))
def test_the_state_of_a_running_world_is_that_of_training(dynamics, seed):
    keys = some_keys(NUM_FRAMES, seed)
    world = dynamics.fresh(seed, "val")
    recorded = stepped(world, keys)[1]
    trained = in_training(recorded, np.arange(NUM_FRAMES))
    state, near = live(world, keys)
    assert torch.equal(state, trained.state)
    assert torch.equal(near, trained.near)

    begun = 2 * BLOCK  # a stream that goes on from recorded frames
    at = dynamics.start({name: values[begun - 1] for name, values in recorded.items()})
    state, near = live(at, keys[begun:])
    names = [name for name, count in SETTINGS.drawer.parts.items() for _ in range(count)]
    told = [i for i, name in enumerate(names) if name != "things"]  # facts do not tell what pests were about to do
    torch.testing.assert_close(state[:, :, told], trained.state[:, 2:, told], atol=5e-6, rtol=0)
    assert torch.equal(near, trained.near[2:])


def test_worlds_are_values(dynamics):
    one, other = dynamics.fresh(1, "val"), dynamics.fresh(2, "val")
    before = one.facts()
    keys = some_keys(BLOCK, 0)
    stepped(other, keys)
    first, again = stepped(one, keys)[1], stepped(one, keys)[1]
    assert all(np.array_equal(first[name], again[name], equal_nan=name == "screen_xy") for name in first)
    assert all(
        np.array_equal(before[name], value, equal_nan=name == "screen_xy") for name, value in one.facts().items()
    )


@pytest.fixture(scope="module")
def sampler():
    networks = some_networks(
        players=partial(TokenSequence, num_slots=3), state_channels=SETTINGS.drawer.num_channels, names=tuple("wasdxeq")
    )
    return StreamSampler(networks, SAMPLER, **LIVE)


def a_truth(dynamics, seed=3):
    return Truth(dynamics.fresh(seed, "val"), Drawing(SETTINGS, (SIZE // 8, SIZE // 8), (64, 64)))


def held(seed):
    keys = torch.from_numpy(some_keys(BLOCK, seed)).float().transpose(0, 1)
    return torch.cat([keys, torch.ones(1, BLOCK, 7)])


def run(sampler, stream, num_steps):
    return [sampler.step([stream], [held(stream.tick)])[0] for _ in range(num_steps)]


def test_rewind_takes_the_truth_back(sampler, dynamics):
    stream = sampler.start("", 5, 2, truth=a_truth(dynamics))
    first = run(sampler, stream, 3)
    then = stream.standing.truth.world.state
    later = run(sampler, stream, 3)
    sampler.rewind(stream, 3)
    assert stream.standing.truth.world.state is then
    assert all(map(torch.equal, run(sampler, stream, 3), later))
    fresh = sampler.start("", 5, 2, truth=a_truth(dynamics))
    assert all(map(torch.equal, run(sampler, fresh, 3), first))


def test_telling_is_what_a_truth_does_and_concerns_no_other_stream(sampler, dynamics):
    truth = a_truth(dynamics)
    stepping, told, untold = (sampler.start("", 5, 2, truth=given) for given in (truth, None, None))
    alone = sampler.start("", 5, 2)
    for tick in range(3):
        truth, news = truth.after(held(tick))
        made = sampler.step([stepping, told, untold], [held(tick)] * 3, [None, news, None])
        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[1], made[2])
        assert torch.equal(sampler.step([alone], [held(tick)])[0], made[2])


def test_a_context_is_told_too(sampler, dynamics):
    world, keys = dynamics.fresh(4, "val"), some_keys(2 * BLOCK, 1)
    told = Told(*a_truth(dynamics).draw(stepped(world, keys)[1]))
    context = frames(2, 2 * BLOCK)
    one, other = (sampler.start("", 5, 2, context, told=given) for given in (told, None))
    assert not torch.equal(run(sampler, one, 1)[0], run(sampler, other, 1)[0])


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told(torch.zeros(2, 1, 5, 4, 4)), r"a told state is \[p t c h w\]"),
        (Told(torch.zeros(4, 1, 76, 4, 4)), "at most 3 players"),
        (Told(torch.full((2, 1, 76, 4, 4), torch.nan)), "NaN"),
        (Told(torch.zeros(2, 1, 76, 4, 4), torch.ones(1, 3, 3, dtype=torch.bool)), "who is near whom"),
    ],
)
def test_what_cannot_be_told_is_refused_before_anything_changes(sampler, told, said):
    stream = sampler.start("", 5, 2)
    with pytest.raises(ValueError, match=said):
        sampler.step([stream], [held(0)], [told])
    assert stream.tick == 0


def test_weights_that_are_told_nothing_refuse_a_truth(dynamics):
    deaf = StreamSampler(some_networks(names=tuple("wasdxeq")), SAMPLER, **LIVE)
    with pytest.raises(ValueError, match="weights that are told a state"):
        deaf.start("", 5, 2, truth=a_truth(dynamics))


def test_weights_say_how_they_are_told():
    described = {"height": 64, "width": 64, "drawn_state": to_dict(state_config("data.state.near_angle=0.55"))}
    drawing = drawing_of(described, 8)
    assert drawing.size == GRID
    assert drawing.settings.near_angle == 0.55
    assert drawing_of({"drawn_state": None}, 8) is None
    assert drawing_of({**described, "drawn_state": {**described["drawn_state"], "channels": None}}, 8) is None
    with pytest.raises(ValueError, match=r"near_angle=0.55 is told with the state"):
        replace(drawing.settings, channels=None)
    with pytest.raises(ValueError, match="only, their config names"):
        drawing_of({**described, "drawn_state": {"_target_": "os.system", "drawer": {}}}, 8)


def test_a_sentence_changes_the_truth_too_and_a_rewind_takes_it_back(sampler, dynamics):
    stream = sampler.start("", 5, 2, truth=a_truth(dynamics))

    def weather():
        return WEATHERS[int(stream.standing.truth.world.facts()["weather"])]

    run(sampler, stream, 1)
    before = weather()
    wished, sentence = ("snow", "Let it snow.") if before != "snow" else ("clear", "Clear the sky.")
    sampler.instruct(stream, sentence)
    run(sampler, stream, 1)
    assert weather() == wished
    sampler.rewind(stream, 2)
    assert weather() == before
    sampler.instruct(stream, "Sing a song.")  # no words of this game: only the networks hear them
    assert weather() == before
