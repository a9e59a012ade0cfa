"""Classifier-free guidance: wraps one velocity function in another (Ho and Salimans 2022, equation 6)."""

from __future__ import annotations

from torch import Tensor

from gamegen_x.diffusion.solvers import ScalarVelocity


def guided(conditional: ScalarVelocity, unconditional: ScalarVelocity, scale: float) -> ScalarVelocity:
    """v = v_unconditional + scale (v_conditional - v_unconditional). Scale 1 costs one velocity."""
    if scale == 1:
        return conditional

    def velocity(latents: Tensor, now: float) -> Tensor:
        without = unconditional(latents, now)
        return without + scale * (conditional(latents, now) - without)

    return velocity
