"""Classifier-free guidance: wraps one velocity function in another (Ho and Salimans 2022, equation 6)."""

from __future__ import annotations

from torch import Tensor

from gamegen_x.diffusion.solvers import ScalarVelocity


def guided(conditional: ScalarVelocity, unconditional: ScalarVelocity, scale: float | Tensor) -> ScalarVelocity:
    """v = v_unconditional + scale (v_conditional - v_unconditional). Scale 1 costs one velocity.

    A scale for each clip has the latents' number of axes, and those with scale 1 keep their bits.
    """
    if isinstance(scale, float | int) and scale == 1:
        return conditional

    def velocity(latents: Tensor, now: float) -> Tensor:
        asked = conditional(latents, now)
        return asked + (scale - 1) * (asked - unconditional(latents, now))

    return velocity
