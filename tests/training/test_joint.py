"""Players who are trained together: every way takes a step and samples, told of the world or not."""

from dataclasses import replace

import pytest
import torch

from gamegen_x.config import build
from gamegen_x.models.gamegen import GameGenX
from gamegen_x.models.weights import load_network, save_networks
from gamegen_x.sampling.clip_sampler import ClipSampler, SampleRequest
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.settings import SamplerSettings
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.training.checks import NEW_PARTS, check_weights
from gamegen_x.training.export import describe
from gamegen_x.training.randomness import Moment
from gamegen_x.training.run import fill_task
from tests.training.small_run import configure
from tests.training.train_command import WITHOUT_WEIGHTS

MOMENT = Moment(0, 0, 0, 0)
WAYS = ["channel", "sequence", "identity", "rotary", "simplex", "hub"]
TOLD = ["state=poses", "data.state=null", "task.player_weight=7.0", "task.state_drop=0.5"]  # made by hand below
SAMPLER = SamplerSettings(num_steps=1, solver="euler", shift=1.0, guidance=1.0, window=2, block=1)


def a_config(folder, *overrides, stage="instruct"):
    return configure(folder, f"task={stage}", *WITHOUT_WEIGHTS, "data.batch_size=4", *overrides)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    data = build(a_config(tmp_path_factory.mktemp("data")).data)
    data.prepare_data()
    data.setup("fit")
    found = next(iter(data.train_dataloader()))
    b, p, t = *found.is_player.shape, found.actions.shape[2] // 4
    others = torch.zeros(b, p, t, 1, 2, 2)
    others[..., 0, 0] = 1
    return replace(found, state=torch.rand(b, p, t, 32, 2, 2), others=others)


def stirred(task):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return task


def networks_of(task, cfg):
    return Networks(
        vae=task.vae, text_encoder=task.text_encoder, model=task.model, fps=24.0, height=16, width=16,
        action_space=ActionSpace("test", tuple(cfg.action_space["keys"])), latent_scale=1.0, latent_shift=0.0,
        kind="causal", sampler_settings=SAMPLER, config={},
    )  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_way_trains_a_step_and_samples_with_and_without_a_state(tmp_path, batch, way):
    cfg = a_config(tmp_path, f"players={way}", *TOLD, "past.own_share=0.5")
    task = stirred(build(cfg.task))
    loss = task.losses(batch, MOMENT)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert [name for name, weight in task.trained_parameters().items() if weight.grad is None] == []
    sampler = ClipSampler(networks_of(task, cfg), SAMPLER)
    actions = torch.zeros(1, 2, 8, len(cfg.action_space["keys"]))
    request = SampleRequest([""], num_frames=8, seed=0, num_players=2, actions=actions)
    untold = sampler.sample(request)
    told = sampler.sample(replace(request, state=batch.state[:1]))
    alone = sampler.sample(replace(request, is_player=torch.tensor([[True, False]])))
    assert untold.shape == (1, 2, 8, 3, 16, 16)
    assert not torch.equal(untold, told)
    assert not torch.equal(untold[:, 0], alone[:, 0])


def test_players_who_see_each_other_share_their_times_and_simplex_draws_their_seats(tmp_path, batch):
    task = build(a_config(tmp_path, "players=simplex", "task.past=null", stage="pretrain").task)
    seen = []
    task.model.forward = lambda latents, time, conditions, **_: seen.append((time, conditions)) or latents
    task.losses(batch, MOMENT)
    (time, conditions), = seen  # fmt: skip
    assert torch.equal(time[:, 0], time[:, 1])
    assert all(len(set(row)) == 2 for row in conditions.seats.tolist())
    assert len({tuple(row) for row in conditions.seats.tolist()}) > 1


def test_the_loss_counts_places_of_other_players_more(tmp_path, batch):
    weighted = build(a_config(tmp_path, "task.past=null", "task.player_weight=7.0", stage="pretrain").task)
    weighted.model.forward = lambda latents, *_, **__: torch.zeros_like(latents)
    everywhere = replace(batch, others=torch.ones_like(batch.others))
    weighted.player_weight = 1.0
    expected = weighted.losses(batch, MOMENT)["loss"]
    weighted.player_weight = 7.0
    assert torch.allclose(weighted.losses(everywhere, MOMENT)["loss"], expected)
    assert not torch.allclose(weighted.losses(batch, MOMENT)["loss"], expected)
    with pytest.raises(ValueError, match=r"task\.player_weight needs to know where players see each other"):
        weighted.losses(replace(batch, others=None), MOMENT)


def test_a_model_that_is_told_a_state_needs_data_that_draws_one(tmp_path, batch):
    task = build(a_config(tmp_path, *TOLD, stage="pretrain").task)
    with pytest.raises(ValueError, match="the data draws no state"):
        task.losses(replace(batch, state=None), MOMENT)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A weights folder of a model that knows neither players nor states."""
    folder = tmp_path_factory.mktemp("single")
    cfg = a_config(folder)
    task = stirred(build(cfg.task))
    facts = {"fps": 24, "height": 16, "width": 16}
    described = describe(cfg, task, {**facts, "num_players": 2}, {})
    assert described["num_players"] == 1  # two were recorded, but each view was learned by itself
    save_networks(folder, task.networks(), described, torch.float32)
    return folder, task


def test_weights_of_one_player_start_a_joint_model_that_changes_nothing(tmp_path, single):
    folder, before = single
    cfg = a_config(tmp_path, "players=identity", *TOLD)
    check_weights(folder, cfg)
    task = build(cfg.task)
    assert fill_task(task, str(folder)) >= {"msdit", "instructnet"}
    theirs = before.model.msdit.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in task.model.msdit.state_dict().items() if key in theirs)
    new = task.model.msdit.state_dict().keys() - theirs.keys()
    assert new
    assert all(set(NEW_PARTS) & set(key.split(".")) for key in new)
    with pytest.raises(ValueError, match="another preset"):
        check_weights(folder, a_config(tmp_path, "msdit.num_pairs=1"))


def test_weights_of_a_joint_model_come_back_with_their_players(tmp_path):
    cfg = a_config(tmp_path, "players=hub", *TOLD)
    task = stirred(build(cfg.task))
    facts = {"fps": 24, "height": 16, "width": 16, "num_players": 2}
    described = describe(cfg, task, facts, {})
    assert described["num_players"] == 2
    save_networks(tmp_path / "joint", task.networks(), described, torch.float32)
    msdit = load_network(tmp_path / "joint", "msdit")
    assert GameGenX(msdit, None).num_slots == 8
    assert all(torch.equal(value, task.model.msdit.state_dict()[key]) for key, value in msdit.state_dict().items())
    with pytest.raises(ValueError, match="another preset"):  # an encoding is not taken for another
        check_weights(tmp_path / "joint", a_config(tmp_path, "players=identity", *TOLD))


def test_weights_that_were_told_less_start_a_model_that_is_told_more_and_ignores_it(tmp_path, batch):
    less = a_config(tmp_path, "players=identity", *TOLD)
    before = stirred(build(less.task))
    facts = {"fps": 24, "height": 16, "width": 16}
    save_networks(tmp_path / "less", before.networks(), describe(less, before, facts, {}), torch.float32)
    more = a_config(tmp_path, "players=identity", *TOLD, "state.channels=40", "data.state=null")
    task = build(more.task)
    fill_task(task, str(tmp_path / "less"))
    assert batch.state is not None
    extra = torch.randn(*batch.state.shape[:3], 8, *batch.state.shape[4:])
    told = replace(batch, state=torch.cat([batch.state, extra], dim=3))
    torch.testing.assert_close(task.losses(told, MOMENT), before.losses(batch, MOMENT))


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    cfg = a_config(tmp_path_factory.mktemp("sampler"), "players=identity", *TOLD)
    return ClipSampler(networks_of(build(cfg.task), cfg), SAMPLER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_players": 9, "actions": None}, "slots for 8 players, got 9"),
        ({"state": torch.zeros(1, 2, 2, 31, 2, 2)}, r"state has shape \(1, 2, 2, 32, 2, 2\)"),
        ({"state": torch.full((1, 2, 2, 32, 2, 2), float("nan"))}, "the state holds NaN"),
        ({"near": torch.ones(1, 1, 2, 2, dtype=torch.bool)}, r"near has shape \(1, 2, 2, 2\)"),
        ({"is_player": torch.ones(1, 3, dtype=torch.bool)}, r"is_player has shape \(1, 2\)"),
    ],
)
def test_a_wrong_request_is_refused(sampler, changes, message):
    with pytest.raises(ValueError, match=message):
        sampler.sample(SampleRequest(**{"prompts": [""], "num_frames": 8, "seed": 0, "num_players": 2, **changes}))
