"""Euler and Heun: (velocity, noise, times) -> data. One function a solver, one signature.

`times` run from 0 (noise) to 1 (data). Latents are those to be generated; the velocity function knows their context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from gamegen_x.diffusion.time_sampling import shift_times

ScalarVelocity = Callable[[Tensor, float], Tensor]  # latents, their common time -> velocity


def euler(velocity: ScalarVelocity, noise: Float[Tensor, "..."], times: Sequence[float]) -> Float[Tensor, "..."]:
    """x_{i+1} = x_i + (t_{i+1} - t_i) v(x_i, t_i)."""
    latents = noise
    for now, then in pairwise(times):
        latents = latents + (then - now) * velocity(latents, now)
    return latents


def heun(velocity: ScalarVelocity, noise: Float[Tensor, "..."], times: Sequence[float]) -> Float[Tensor, "..."]:
    """Second order: the mean of the velocities at both ends of a step (Karras et al. 2022, algorithm 1).

    The last step is Euler's, as it is there: it ends on what is expected of the data, and no network is asked about
    noise that is no longer there. `num_steps` steps look at the network 2 num_steps - 1 times.
    """
    latents = noise
    for now, then in pairwise(times):
        first = velocity(latents, now)
        reached = latents + (then - now) * first
        if then == times[-1]:
            return reached
        latents = latents + (then - now) * 0.5 * (first + velocity(reached, then))
    return latents


SOLVERS = {"euler": euler, "heun": heun}


def solver_times(num_steps: int, shift: float) -> list[float]:
    """num_steps + 1 times from 0 to 1, evenly spaced and then shifted (training has a shift of its own)."""
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    return [float(time) for time in shift_times(torch.linspace(0, 1, num_steps + 1), shift)]


def limited(latents: Float[Tensor, "*shape"], limit: float | None) -> Float[Tensor, "*shape"]:
    """Latents within so many deviations: what looks at itself again and again cannot grow without end."""
    return latents if limit is None else latents.clamp(-limit, limit)
