"""What a solver's latents are kept within."""

from dataclasses import replace

import pytest
import torch

from gamegen_x.diffusion.solvers import limited
from gamegen_x.sampling.settings import SamplerSettings

SETTINGS = SamplerSettings(num_steps=1, solver="euler", shift=1.0, guidance=1.0, window=2, block=1)


def test_what_looks_at_itself_again_and_again_stays_within_the_limit():
    latents = torch.tensor([0.5, -0.5])
    for _ in range(20):
        latents = limited(1.5 * latents, 3.0)
    assert latents.tolist() == [3.0, -3.0]


def test_latents_within_the_limit_and_without_one_are_left_as_they_are():
    latents = torch.tensor([-2.9, 0.0, 2.9, 40.0])
    assert torch.equal(limited(latents, None), latents)
    assert torch.equal(limited(latents[:3], 3.0), latents[:3])


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_a_limit_that_leaves_nothing_is_refused(limit):
    with pytest.raises(ValueError, match="limit > 0"):
        replace(SETTINGS, limit=limit)
