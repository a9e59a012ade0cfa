import pytest
import torch

from gamegen_x.evaluation.degradation import Degradation, blurred

CLIPS = torch.rand(6, 8, 3, 20, 24, generator=torch.Generator().manual_seed(0)) - 0.5


def degraded(seed=0, **strengths):
    settings = {"share": 1.0, "blur_pixels": 0.0, "smear": 0.0, "grain": 0.0, "coarse_grain": 0.0, "coarse_pixels": 4}
    return Degradation(**{**settings, **strengths})(CLIPS, 4, torch.Generator().manual_seed(seed))


def test_nothing_is_lost_where_every_strength_is_zero():
    assert torch.allclose(degraded(), CLIPS, atol=1e-6)


def test_clips_outside_the_share_stay_as_they_are():
    strong = {"blur_pixels": 2.0, "smear": 0.8, "grain": 0.3, "coarse_grain": 0.3}
    assert torch.allclose(degraded(share=0.0, **strong), CLIPS, atol=1e-6)
    is_kept = torch.isclose(degraded(share=0.5, **strong), CLIPS, atol=1e-6).flatten(1).all(1)
    assert 0 < int(is_kept.sum()) < len(CLIPS)


@pytest.mark.parametrize("strength", ["blur_pixels", "smear", "grain", "coarse_grain"])
def test_the_same_seed_gives_the_same_loss_and_another_seed_another(strength):
    once, again, other = (degraded(seed, **{strength: 1.0}) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.allclose(once, other, atol=1e-3)
    assert not torch.allclose(once, CLIPS, atol=1e-3)
    assert once.abs().max() <= 1


def test_a_smear_stays_inside_its_block():
    blocks = degraded(smear=1.0).unflatten(1, (2, 4))
    assert torch.allclose(blocks.mean(2), CLIPS.unflatten(1, (2, 4)).mean(2), atol=1e-6)
    assert (blocks.std(2) < CLIPS.unflatten(1, (2, 4)).std(2) + 1e-6).all()


def test_a_blur_is_a_gaussian_of_its_own_for_each_clip():
    spot = torch.zeros(2, 1, 1, 33, 33)
    spot[..., 16, 16] = 1
    sharp, soft = blurred(spot, torch.tensor([0.0, 2.0]))[:, 0, 0]
    assert torch.allclose(sharp, spot[0, 0, 0])
    assert soft.sum() == pytest.approx(1, abs=1e-5)
    places = torch.arange(33) - 16.0
    assert (soft.sum(0) * places**2).sum().sqrt() == pytest.approx(2.0, abs=0.1)
    assert torch.allclose(soft, soft.T)
