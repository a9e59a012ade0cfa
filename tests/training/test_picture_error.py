"""The part of a flow loss that looks at pictures."""

import pytest
import torch
from hydra.errors import InstantiationException

from gamegen_x.config import build
from gamegen_x.training.flow_task import FlowTask
from gamegen_x.training.randomness import Moment
from tests.training.small_run import configure
from tests.training.train_command import WITHOUT_WEIGHTS

MOMENT = Moment(0, 0, 0, 0)


def make_task(folder, *overrides) -> FlowTask:
    torch.manual_seed(0)
    task = build(configure(folder, "task=pretrain", *WITHOUT_WEIGHTS, *overrides).task)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)  # an untrained model predicts nothing
    return task


def drawn(task, num_views=3):
    shape = (1, num_views, 2, task.vae.latent_channels, 2, 2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_equal_latents_make_no_error_and_only_views_that_count_are_looked_at(tmp_path):
    task = make_task(tmp_path, "task.picture_views=1")
    latents = drawn(task)
    made, count = latents.clone(), torch.zeros(1, 3, 2, 1, 1, 1)
    assert task.picture_error(latents, latents, count + 1, MOMENT) == 0
    made[:, 0] += 1
    count[:, 1] = 1
    assert task.picture_error(made, latents, count, MOMENT) == 0
    count[:, 1], count[:, 0] = 0, 1
    assert task.picture_error(made, latents, count, MOMENT) > 0


def test_frames_that_do_not_count_are_not_blamed(tmp_path):
    task = make_task(tmp_path)
    latents = drawn(task, 1)
    made, count = latents.clone(), torch.ones(1, 1, 2, 1, 1, 1)
    made[:, :, 1] += 1  # the last frame: a causal decoder shows it in none before
    count[:, :, 1] = 0
    assert task.picture_error(made, latents, count, MOMENT) == 0


def test_pictures_are_part_of_the_loss_and_teach_the_networks(tmp_path):
    data = build(configure(tmp_path, "task=pretrain", *WITHOUT_WEIGHTS, "data.batch_size=4").data)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    plain, more = (make_task(tmp_path, f"task.picture_weight={weight}").losses(batch, MOMENT) for weight in (0.0, 2.0))
    assert "picture" not in plain
    torch.testing.assert_close(more["loss"], plain["loss"] + 2 * more["picture"])
    assert more["picture"].requires_grad


@pytest.mark.parametrize("wrong", ["task.picture_weight=-1.0", "task.picture_views=0"])
def test_weights_and_views_that_make_no_sense_are_refused(wrong, tmp_path):
    with pytest.raises(InstantiationException, match="picture_weight is at least 0"):
        make_task(tmp_path, wrong)
