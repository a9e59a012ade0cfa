"""Distillation: a student that looks once, its teacher, and a score that knows what it makes."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from hydra.errors import InstantiationException

from gamegen_x.diffusion.flow import distribution_matching_loss
from gamegen_x.models.weights import load_network
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.stream_sampler import StreamSampler
from gamegen_x.training.checks import check_run
from gamegen_x.training.randomness import Moment
from gamegen_x.training.run import run
from tests.training.small_run import configure, first_batch, stirred_task
from tests.training.train_command import WITHOUT_WEIGHTS

MOMENT = Moment(0, 0, 0, 0)
SHORT = ["steps=2", "trainer.val_check_interval=2", "sampler.window=2"]


def make_task(folder, *overrides):
    task = stirred_task(folder, "task=distill", *WITHOUT_WEIGHTS, *overrides)
    task.weights_loaded({"msdit", "instructnet"})
    return task


@pytest.fixture
def batch(tmp_path):
    return first_batch(tmp_path, "task=distill", *WITHOUT_WEIGHTS, "data.batch_size=4")


def gradients(module):
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def test_where_fake_score_and_teacher_agree_a_student_goes_nowhere(tmp_path, batch):
    task = make_task(tmp_path, "task.instruction_guidance=1")
    assert task.losses(batch, MOMENT)["matched"] < 1e-9  # of which rounding is all
    with torch.no_grad():
        for parameter in task.fake_score.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    losses = task.losses(batch, MOMENT)
    assert losses["matched"] > 1e-4
    losses["matched"].backward()
    assert any(gradient.abs().max() > 0 for gradient in gradients(task.model))
    assert gradients(task.fake_score) == gradients(task.teacher) == []


def test_a_fake_score_learns_from_what_the_student_makes_alone(tmp_path, batch):
    task = make_task(tmp_path)
    losses = task.losses(batch, MOMENT)
    losses["fake_score"].backward(retain_graph=True)
    assert gradients(task.model) == []
    assert any(gradient.abs().max() > 0 for gradient in gradients(task.fake_score))
    losses["truth"].backward()
    assert any(gradient.abs().max() > 0 for gradient in gradients(task.model))
    assert torch.equal(
        losses["loss"], losses["matched"] + 0.5 * losses["truth"] + losses["fake_score"] + losses["surprise"]
    )


def test_every_trained_parameter_learns_and_the_teacher_stays(tmp_path, batch):
    task = make_task(tmp_path, "precision=bf16", "past.own_passes=2")
    taught = copy.deepcopy(task.teacher.state_dict())
    with task.autocast():
        loss = task.losses(batch, MOMENT)["loss"]
    loss.backward()
    assert [name for name, weight in task.trained_parameters().items() if weight.grad is None] == []
    assert not any(name.startswith("teacher.") for name in task.saved_state())
    torch.optim.SGD(task.trained_parameters().values(), lr=0.1).step()
    assert all(torch.equal(value, taught[name]) for name, value in task.teacher.state_dict().items())


def test_a_guided_teacher_is_led_by_what_was_said_and_by_nothing_else(tmp_path, batch):
    plain, led = (make_task(tmp_path, f"task.instruction_guidance={scale}") for scale in (1, 3))
    said = replace(batch, instructions=["Night falls."] * 4, instruction_starts=torch.zeros(4))
    quiet = replace(batch, instructions=[""] * 4)
    assert led.losses(said, MOMENT)["matched"] > 100 * plain.losses(said, MOMENT)["matched"]
    assert led.losses(quiet, MOMENT)["matched"] < 1e-9


def test_student_and_fake_score_are_optimized_alike(tmp_path):
    task = make_task(tmp_path)
    group_of = {
        id(parameter): number
        for number, group in enumerate(task.configure_optimizers()["optimizer"].param_groups)
        for parameter in group["params"]
    }
    students = dict(task.model.named_parameters())
    pairs = [
        (group_of[id(students[name])], group_of[id(parameter)])
        for name, parameter in task.fake_score.named_parameters()
        if parameter.requires_grad
    ]
    assert len({ours for ours, _ in pairs}) > 1
    assert all(ours == theirs for ours, theirs in pairs)


def test_matching_finds_the_modes_of_a_distribution():
    """Two ways on, -1 and 1, each as likely, of which 0 is the mean. Scores are known exactly: here is no network."""
    generator = torch.Generator().manual_seed(0)
    made = (0.1 * torch.randn(256, generator=generator)).requires_grad_()

    def data_seen(points, time, modes):
        """E[data | point] where data is one of `modes`, noised as the line from noise to data does."""
        nearness = -((points[:, None] - time * modes[None]).square()) / (2 * (1 - time) ** 2)
        return nearness.softmax(dim=1) @ modes

    for _ in range(300):
        time = 0.5 + 0.4 * torch.rand((), generator=generator)
        points = time * made.detach() + (1 - time) * torch.randn(256, generator=generator)
        real = data_seen(points, time, torch.tensor([-1.0, 1.0]))
        fake = data_seen(points, time, made.detach())
        shaped = [value.view(1, 1, 1, 16, 16) for value in (made, real, fake)]
        loss = distribution_matching_loss(*shaped, torch.ones(1, 1, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(loss, made)
        with torch.no_grad():
            made -= 0.02 * 256 * gradient
    assert (made.abs() - 1).abs().mean() < 0.15
    assert 0.3 < (made > 0).float().mean() < 0.7


def test_matching_counts_what_is_generated_and_weighs_it():
    made, real, fake = torch.zeros(1, 2, 1, 1, 1), torch.ones(1, 2, 1, 1, 1), torch.zeros(1, 2, 1, 1, 1)
    everything, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert distribution_matching_loss(made, real, fake, everything) == 0.5  # a step of size one
    fake[:, 1] = 1.0
    assert distribution_matching_loss(made, real, fake, everything) == 0.25
    assert distribution_matching_loss(made, real, fake, first) == 0.5
    weight = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1, 1)
    assert distribution_matching_loss(made, real, fake, everything, weight) == 0.375


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("task.truth_weight=-1", "truth_weight is at least 0 and instruction_guidance at least 1, got -1"),
        ("task.instruction_guidance=0", "instruction_guidance at least 1, got 0.5 and 0"),
        ("task.past=null", r"a student learns on its own play, .* got None"),
        ("past.own_share=0", r"past.own_share above 0 .* got .*own_share=0"),
        ("past.own_times=[0.0, 0.5]", r"past.own_times=\[0.0, 0.0\], got"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, override, said):
    with pytest.raises(InstantiationException, match=said):
        make_task(tmp_path, override)


@pytest.fixture(scope="module")
def instruct(tmp_path_factory):
    folder = tmp_path_factory.mktemp("before")
    weights = None
    for stage in ("vae", "pretrain", "instruct"):
        before = [] if weights is None else [f"weights={weights}"]
        weights = run(configure(folder, f"task={stage}", f"output={folder / stage}", *SHORT, *before), "the command")
    return weights


def distill(folder, weights, *overrides):
    return run(configure(folder, "task=distill", f"weights={weights}", *SHORT, *overrides), "the command")


def test_distilled_weights_say_so_play_and_teach_nobody(tmp_path, instruct):
    weights = distill(tmp_path, instruct)
    networks = Networks.load(weights)
    assert networks.kind == "distilled"
    assert (networks.sampler_settings.num_steps, networks.sampler_settings.instruction_guidance) == (1, 1)
    live = {"num_slots": 2, "undo_ticks": 1, "precision": "fp32", "uses_small_decoder": False, "pass_players": 1.0}
    sampler = StreamSampler(networks, networks.sampler_settings, **live)
    stream = sampler.start("a world", 0, 1)
    keys = torch.zeros(2, networks.vae.temporal_factor, networks.action_space.num_keys)
    (frames,) = sampler.step([stream], [keys])
    assert frames.shape[:3] == (2, networks.vae.temporal_factor, 3)
    for stage in ("pretrain", "instruct", "distill"):
        with pytest.raises(ValueError, match=r"is distilled: it knows one look only"):
            check_run(configure(tmp_path / "again", f"task={stage}", f"weights={weights}"))


def test_a_teacher_that_looks_once_is_told_so(tmp_path, instruct, capsys):
    before = (instruct / "config.json").read_text()
    distill(tmp_path / "often", instruct)
    assert "has more to teach" not in capsys.readouterr().err
    once = json.loads(before)
    once["sampler"]["num_steps"] = 1
    (instruct / "config.json").write_text(json.dumps(once))
    try:
        distill(tmp_path / "once", instruct)
    finally:
        (instruct / "config.json").write_text(before)
    assert "look once at a frame already" in capsys.readouterr().err


def test_a_distillation_that_goes_on_ends_as_one_that_was_not_interrupted(tmp_path, instruct):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    long = ["steps=4", "schedule=constant"]
    expected = distill(whole, instruct, *long)
    distill(halves, instruct, "schedule=constant")
    found = distill(halves, instruct, *long, "resume=true")
    for name in ("msdit", "instructnet"):
        before, after = (load_network(folder, name).state_dict() for folder in (expected, found))
        assert all(torch.equal(before[key], after[key]) for key in before), name


def test_players_who_see_each_other_are_compared_at_the_same_times(tmp_path):
    choices = ["data.dataset.num_players=2", "data.views=all", "players=identity"]
    task = make_task(tmp_path, *choices)
    time, _ = task.times(torch.zeros(3, 2, 2, 4, 2, 2), MOMENT)
    assert torch.equal(time[:, 0], time[:, 1])
    assert len(time.unique()) > 1
