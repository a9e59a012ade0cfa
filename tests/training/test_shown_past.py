"""What a causal model is shown as the past of the frames that it learns."""

from dataclasses import replace

import pytest
import torch
from hydra.errors import InstantiationException

from gamegen_x.diffusion.flow import data_at_end, point_on_flow
from gamegen_x.training.flow_task import OWN_NOISE, FlowTask, ShownPast
from gamegen_x.training.randomness import Moment
from tests.training.small_run import first_batch, stirred_task
from tests.training.train_command import WITHOUT_WEIGHTS

MOMENT = Moment(0, 0, 0, 0)


def make_task(folder, *overrides) -> FlowTask:
    return stirred_task(folder, "task=pretrain", *WITHOUT_WEIGHTS, *overrides)


@pytest.fixture
def batch(tmp_path):
    return first_batch(tmp_path, "task=pretrain", *WITHOUT_WEIGHTS, "data.batch_size=4")


def seen(task, batch):
    latents = task.latents(batch)
    return latents, task.shown_past(batch, latents, task.conditions(batch, latents.shape[2], MOMENT), MOMENT)


def test_the_share_of_clips_that_have_a_past_of_their_own_making_is_exact(tmp_path, batch):
    latents, shown = seen(make_task(tmp_path, "past.own_share=0.5"), batch)
    is_own = (latents != shown).flatten(1).any(1)
    assert is_own.tolist() == [True, True, False, False]
    assert not shown.requires_grad
    assert torch.equal(seen(make_task(tmp_path, "past.own_share=0.0"), batch)[1], latents)


def test_a_share_of_clips_stands_on_what_was_played_and_no_clip_on_both(tmp_path, batch):
    batch = replace(batch, played=torch.full_like(make_task(tmp_path).latents(batch), 7.0))
    latents, shown = seen(make_task(tmp_path, "past.own_share=0.25", "past.played_share=0.5"), batch)
    is_played = (shown == 7.0).flatten(1).all(1)
    assert is_played.tolist() == [False, False, True, True]
    assert (latents != shown).flatten(1).any(1).tolist() == [True, False, True, True]
    task = make_task(tmp_path, "past.own_share=0.3", "past.played_share=0.6")
    played = [
        int((task.shown_past(batch, latents, conditions, moment) == 7.0).flatten(1).all(1).sum())
        for moment in (Moment(0, 0, number, 0) for number in range(40))
        for conditions in [task.conditions(batch, latents.shape[2], moment)]
    ]
    assert abs(sum(played) / 40 - 0.6 * 4) < 0.3  # right in the mean


def test_what_follows_a_played_past_is_still_the_truth(tmp_path, batch):
    task = make_task(tmp_path, "past.own_share=0", "past.played_share=1.0")
    real = task.latents(batch)
    learned = {}
    for name, played in {"played": torch.randn_like(real), "real": real}.items():
        task.zero_grad()
        learned[name] = task.losses(replace(batch, played=played), MOMENT)["loss"]
    assert learned["played"] != learned["real"]
    task.past = replace(task.past, played_share=0.0)
    assert torch.equal(learned["real"], task.losses(batch, MOMENT)["loss"])


def test_a_batch_that_nobody_played_along_is_refused(tmp_path, batch):
    with pytest.raises(ValueError, match="nobody played these clips along"):
        make_task(tmp_path, "past.played_share=0.5").losses(batch, MOMENT)


def test_a_past_of_their_own_making_drawn_at_the_end_of_time_is_the_data(tmp_path, batch):
    latents, shown = seen(make_task(tmp_path, "past.own_share=1.0", "past.own_times=[1.0, 1.0]"), batch)
    assert torch.allclose(shown, latents, atol=1e-6)


def test_a_perfect_velocity_leads_back_to_the_data(batch, tmp_path):
    latents, _ = seen(make_task(tmp_path), batch)
    time = torch.full(latents.shape[:3], 0.4)
    point = point_on_flow(latents, torch.randn_like(latents), time)
    assert torch.allclose(data_at_end(point.latents, point.velocity, time), latents, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_trained_parameter_learns_from_frames_beside_their_past(tmp_path, batch, precision):
    task = make_task(tmp_path, "past.own_share=0.5", f"precision={precision}")
    with task.autocast():  # which keeps the weights that it rounded, also those of a pass without gradients
        loss = task.losses(batch, MOMENT)["loss"]
    loss.backward()
    silent = [name for name, weight in task.trained_parameters().items() if weight.grad is None]
    assert silent == []


def test_only_a_causal_model_can_be_shown_a_past(tmp_path):
    with pytest.raises(InstantiationException, match=r"task.past teaches causal models; set task.past=null"):
        make_task(tmp_path, "msdit.causal=false")


def test_passes_that_look_at_a_past_are_not_run_again(tmp_path):
    with pytest.raises(InstantiationException, match=r"task.gradient_checkpointing=false, or past=null"):
        make_task(tmp_path, "task.gradient_checkpointing=true")


def test_shares_and_times_of_a_past_are_checked():
    with pytest.raises(ValueError, match="between 0 and 1"):
        ShownPast(own_share=0.5, own_times=[0.9, 0.3], own_passes=1, played_share=0.0)
    ShownPast(own_share=0.8, own_times=[0.3, 0.9], own_passes=1, played_share=0.2)
    with pytest.raises(ValueError, match=r"at least 0 and at most 1 together, got -0\.1"):
        ShownPast(own_share=0.5, own_times=[0.3, 0.9], own_passes=1, played_share=-0.1)
    with pytest.raises(ValueError, match=r"at most 1 together, got 0\.6 and 0\.5"):
        ShownPast(own_share=0.5, own_times=[0.3, 0.9], own_passes=1, played_share=0.6)


def test_passes_over_all_frames_at_once_end_in_the_rollout_that_goes_frame_by_frame(tmp_path):
    longer = ["data.num_frames=16", "data.batch_size=2"]  # four latent frames
    batch = first_batch(tmp_path, "task=pretrain", *WITHOUT_WEIGHTS, *longer)
    own = ["past.own_share=1.0", "past.own_times=[0.0, 0.0]"]
    once, twice, whole = (
        seen(make_task(tmp_path, *longer, *own, f"past.own_passes={passes}"), batch)[1] for passes in (1, 2, 4)
    )
    task = make_task(tmp_path, *longer, *own)
    latents = task.latents(batch)
    conditions, noise = task.conditions(batch, 4, MOMENT), MOMENT.noise_like(latents, OWN_NOISE)
    rolled = torch.zeros_like(latents[:, :, :0])
    with torch.no_grad():
        for frame in range(4):
            time = torch.ones(*latents.shape[:2], frame + 1)
            time[:, :, -1] = 0
            now = noise[:, :, frame : frame + 1]
            velocity = task.model(torch.cat([rolled, now], dim=2), time, conditions.frames(0, frame + 1))
            rolled = torch.cat([rolled, now + velocity[:, :, -1:]], dim=2)
    assert torch.allclose(whole, rolled, atol=1e-5)
    assert torch.allclose(twice[:, :, :2], rolled[:, :, :2], atol=1e-5)
    assert not torch.allclose(twice[:, :, 2:], rolled[:, :, 2:], atol=1e-5)
    assert not torch.allclose(once[:, :, 1:2], rolled[:, :, 1:2], atol=1e-5)
