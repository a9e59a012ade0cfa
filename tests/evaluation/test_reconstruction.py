import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from gamegen_x.evaluation.reconstruction import psnr_db, structural_similarity


def pictures(n: int) -> torch.Tensor:
    smooth = torch.nn.functional.interpolate(torch.rand(n, 3, 8, 8), size=(32, 32), mode="bicubic")
    return (smooth * 255).clamp(0, 255).to(torch.uint8)


def test_psnr_is_taken_from_each_block_before_the_mean():
    real = torch.full((2, 4, 3, 8, 8), 100, dtype=torch.uint8)
    made = real.clone()
    made[0] += 10  # an error of 10 grey levels: 20 log10(255 / 10) dB
    made[1] += 1
    assert psnr_db(real, made).tolist() == pytest.approx([28.13, 48.13], abs=0.01)


def test_ssim_agrees_with_torchmetrics_wherever_the_window_fits():
    real = pictures(3)
    made = (real.float() + 25 * torch.randn(real.shape)).clamp(0, 255).to(torch.uint8)
    _, everywhere = structural_similarity_index_measure(
        made / 255.0, real / 255.0, data_range=1.0, reduction="none", return_full_image=True
    )
    theirs = everywhere[..., 5:-5, 5:-5].mean((1, 2, 3))
    assert torch.allclose(structural_similarity(real, made, batch_size=2), theirs, atol=1e-4)
    assert structural_similarity(real, real, batch_size=2).tolist() == pytest.approx([1.0] * 3)
