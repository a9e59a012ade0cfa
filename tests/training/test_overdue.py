"""Clips that are told what to do before their world does it."""

from dataclasses import replace

import pytest
import torch
from hydra.errors import InstantiationException

from gamegen_x.config import build
from gamegen_x.training.randomness import Moment
from tests.training.small_run import configure
from tests.training.train_command import WITHOUT_WEIGHTS

MOMENT = Moment(0, 0, 0, 0)
NUM_FRAMES = 6


def make_task(folder, *overrides):
    return build(configure(folder, "task=instruct", *WITHOUT_WEIGHTS, *overrides).task)


@pytest.fixture
def batch(tmp_path):
    """Clips of six latent frames, told something in the fourth; the last one is told nothing."""
    long = ["data.batch_size=4", "data.num_frames=24", "data.dataset.num_frames=24"]
    data = build(configure(tmp_path, "task=instruct", *WITHOUT_WEIGHTS, *long).data)
    data.prepare_data()
    data.setup("fit")
    found = next(iter(data.train_dataloader()))
    return replace(
        found,
        instructions=["Let it rain.", "Let it rain.", "Let it snow.", ""],
        instruction_starts=torch.tensor([13.0, 15.0, 12.0, 24.0]),
    )


def told_and_learned(task, batch):
    told = task.conditions(batch, NUM_FRAMES, MOMENT).is_instructed
    return told, task.learned_frames(batch, NUM_FRAMES, MOMENT)


def test_without_a_share_everything_is_learned_and_told_when_it_was_said(tmp_path, batch):
    told, learned = told_and_learned(make_task(tmp_path, "task.overdue.share=0.0"), batch)
    assert learned.all()
    assert told.tolist() == [[False] * 3 + [True] * 3] * 3 + [[False] * 6]


def test_what_lags_behind_is_told_but_not_learned(tmp_path, batch):
    told, learned = told_and_learned(make_task(tmp_path, "task.overdue.share=1.0", "task.overdue.max_frames=2"), batch)
    assert learned[:, 3:].all()
    assert learned[3].all()
    assert told[:3, 3:].all()
    assert not told[3].any()
    lags = (~learned[:3]).sum(1)
    assert ((lags >= 1) & (lags <= 2)).all()
    assert torch.equal(told[:3, :3], ~learned[:3, :3])  # at once before the world follows, and nowhere else


def test_frames_that_lag_behind_do_not_count(tmp_path, batch):
    task = make_task(tmp_path, "task.overdue.share=1.0", "task.overdue.max_frames=5", "past.own_share=0.0")
    task.context_noise = 0.0
    task.model.forward = lambda latents, *_, **__: torch.zeros_like(latents)
    learned = task.learned_frames(batch, NUM_FRAMES, MOMENT)
    latents = task.latents(batch)
    changed = latents + 100.0 * (~learned)[:, None, :, None, None, None]
    flow = [task.losses(replace(batch, latents=value), MOMENT)["flow"] for value in (latents, changed)]
    assert not learned.all()
    assert torch.allclose(*flow)


def test_shares_and_frames_that_make_no_sense_are_refused(tmp_path):
    for wrong in ("task.overdue.share=1.5", "task.overdue.max_frames=0"):
        with pytest.raises(InstantiationException, match="share is between 0 and 1 and max_frames at least 1"):
            make_task(tmp_path, wrong)
