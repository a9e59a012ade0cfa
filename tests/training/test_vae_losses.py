from pathlib import Path

import pytest
import torch

from gamegen_x.config import build
from gamegen_x.data.batch import Batch
from gamegen_x.models.discriminator import VideoCritic
from gamegen_x.training.player_weight import check_player_weight, player_weight
from gamegen_x.training.randomness import Moment
from gamegen_x.training.vae_losses import (
    GradientDistance,
    VGGDistance,
    decibels,
    detail_weight,
    pixel_losses,
    verdict,
)
from tests.training.small_run import configure
from tests.training.train_command import WITHOUT_WEIGHTS


def test_an_edge_weighs_more_than_even_ground():
    video = torch.full((1, 1, 3, 8, 8), -0.5)
    video[..., 4:] = 0.5
    weight = detail_weight(video, 3.0)
    assert weight.shape == (1, 1, 1, 8, 8)
    assert weight[..., 0].max() == 1
    assert weight[..., 3:5].min() == 4
    assert detail_weight(video, 0.0) is None


def test_weights_move_blame_and_do_not_add_any():
    made, real = torch.zeros(1, 2, 3, 8, 8), torch.full((1, 2, 3, 8, 8), 0.5)
    weight = detail_weight(torch.randn(1, 2, 3, 8, 8), 3.0)
    assert pixel_losses(made, real, weight)[0].item() == pytest.approx(0.5)
    assert pixel_losses(made, real, None)[1].item() == pytest.approx(0.25)


def test_an_error_of_a_tenth_of_the_range_is_20_decibels():
    assert decibels(torch.tensor(0.04)).item() == pytest.approx(20)


@pytest.mark.parametrize("distance", [GradientDistance(num_scales=3), VGGDistance(weights=None, layers=[3, 8])])
def test_a_look_is_nearest_to_itself_and_blur_is_seen(distance):
    torch.manual_seed(0)
    real = torch.rand(2, 3, 32, 32) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    assert distance(real, real).item() == pytest.approx(0, abs=1e-5)
    assert distance(blurred, real).item() > 0.01


def test_vgg_takes_the_features_of_its_file_and_refuses_other_files(tmp_path):
    random, path = VGGDistance(weights=None, layers=[8]).features, tmp_path / "vgg16.pth"
    stored = {f"features.{name}": value for name, value in random.state_dict().items()}
    torch.save(stored | {"classifier.6.bias": torch.zeros(1000)}, path)
    read = VGGDistance(weights=str(path), layers=[3]).features
    assert len(read) == 4
    assert torch.equal(read[2].weight, random[2].weight)
    for foreign in ({"features.0.weight": torch.zeros(1)}, [1, 2], Path("a path is no tensor")):
        torch.save(foreign, path)
        with pytest.raises(ValueError, match=r"is not torchvision's vgg16-397923af.pth: "):
            VGGDistance(weights=str(path), layers=[3])
    with pytest.raises(FileNotFoundError, match=r"nothing.pth"):
        VGGDistance(weights=str(tmp_path / "nothing.pth"), layers=[3])


def test_one_backward_pass_teaches_each_network_its_own_lesson():
    torch.manual_seed(0)
    critic = VideoCritic(frames=4, channels=8, num_levels=2)
    real = torch.randn(2, 4, 3, 16, 16)
    made = torch.randn(2, 4, 3, 16, 16, requires_grad=True)
    said = verdict(critic, made, real)
    (said.made + said.critic).backward()
    together = {name: p.grad.clone() for name, p in critic.named_parameters()}
    to_made = made.grad.clone()

    critic.zero_grad()
    made.grad = None
    verdict(critic, made, real).critic.backward()
    assert made.grad is None
    for name, parameter in critic.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad)

    critic.zero_grad()
    (-critic(made).mean()).backward()
    torch.testing.assert_close(to_made, made.grad)


def a_batch(**changes):
    video = torch.zeros(1, 2, 4, 3, 16, 16)
    others = torch.zeros(1, 2, 4, 1, 16, 16)
    others[0, 0, 1, 0, 8, 4] = 0.25
    told = {
        "keys": ["clip"],
        "captions": [""],
        "instructions": [""],
        "instruction_starts": torch.zeros(1),
        "actions": torch.zeros(1, 2, 4, 4),
        "is_player": torch.tensor([[True, True]]),
        "fps": torch.tensor([24.0]),
        "video": video,
        "others": others,
    }
    return Batch(**(told | changes))


def test_pixels_around_another_player_weigh_more():
    weight = player_weight(a_batch(), 9.0, 2)
    assert weight is not None
    near = torch.ones(1, 2, 4, 1, 16, 16)
    near[0, 0, 1, 0, 6:11, 2:7] = 9.0
    assert torch.equal(weight, near)


def test_a_weight_of_one_asks_for_nothing_and_more_asks_where_players_are():
    assert player_weight(a_batch(others=None), 1.0, 2) is None
    with pytest.raises(ValueError, match=r"task\.player_weight needs to know where players see each other"):
        player_weight(a_batch(others=None), 2.0, 2)
    with pytest.raises(ValueError, match=r"task\.player_weight is at least 1"):
        check_player_weight(0.5)


@pytest.mark.parametrize("stage", [["task=vae"], ["task=decoder", *WITHOUT_WEIGHTS]])
def test_what_is_wrong_at_another_player_is_blamed_more(stage, tmp_path):
    task = build(configure(tmp_path, *stage, "task.player_weight=9.0").task).eval()
    video = torch.zeros(1, 2, 4, 3, 16, 16)
    video[0, 0, :, :, 4:12, 4:12] = 1.0  # unlike all that an untrained network draws
    others = torch.zeros(1, 2, 4, 1, 16, 16)
    seen, elsewhere = others.clone(), others.clone()
    seen[0, 0, :, 0, 8, 8] = elsewhere[0, 1, :, 0, 8, 8] = 1
    losses = [task.losses(a_batch(video=video, others=each), Moment(0, 0, 0, 0)) for each in (seen, elsewhere, others)]
    blame, none, plain = (each["l1"].item() for each in losses)
    assert blame > plain > none
    assert losses[0]["psnr_db"] == losses[2]["psnr_db"]
