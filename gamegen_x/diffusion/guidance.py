"""Classifier-free guidance: wraps one velocity function in another (Ho and Salimans 2022, equation 6)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]  # latents, time of every frame -> velocity


def guided(conditional: Velocity, unconditional: Velocity, scale: float) -> Velocity:
    """v = v_unconditional + scale (v_conditional - v_unconditional). Scale 1 costs one velocity."""
    if scale == 1:
        return conditional

    def velocity(latents: Tensor, time: Tensor) -> Tensor:
        without = unconditional(latents, time)
        return without + scale * (conditional(latents, time) - without)

    return velocity
