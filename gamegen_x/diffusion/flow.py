"""The line from noise (time 0) to data (time 1) and its velocity: rectified flow (Liu et al. 2022, equation 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

_LEAST_CORRECTION = 1e-3  # of latents of unit size


@dataclass(frozen=True)
class FlowPoint:
    """A place on the line, and which way the line runs there."""

    latents: Float[Tensor, "*batch t c h w"]
    velocity: Float[Tensor, "*batch t c h w"]


def point_on_flow(
    data: Float[Tensor, "*batch t c h w"],
    noise: Float[Tensor, "*batch t c h w"],
    time: Float[Tensor, "*batch t"],  # every frame has its own; a context frame stands at 1
) -> FlowPoint:
    """x_time = time * data + (1 - time) * noise; velocity = d x / d time = data - noise."""
    weight = rearrange(time, "... t -> ... t 1 1 1")
    return FlowPoint(latents=torch.lerp(noise, data, weight), velocity=data - noise)


def data_at_end(
    latents: Float[Tensor, "*batch t c h w"], velocity: Float[Tensor, "*batch t c h w"], time: Float[Tensor, "*batch t"]
) -> Float[Tensor, "*batch t c h w"]:
    """The data that a point and its velocity lead to: x_1 = x_time + (1 - time) v."""
    return latents + rearrange(1 - time, "... t -> ... t 1 1 1") * velocity


def surprise(
    data: Float[Tensor, "*batch t c h w"],
    mean: Float[Tensor, "*batch t c h w"],
    deviation: Float[Tensor, "*batch t 1 h w"],
    is_generated: Bool[Tensor, "*batch t"],  # context frames, and absent players, do not count
    weight: Float[Tensor, "*batch t #c h w"] | None = None,
) -> Float[Tensor, ""]:
    """The mean negative logarithm of the data's likelihood under normal distributions, in nats, less a constant."""
    return _mean(deviation.log() + 0.5 * ((data - mean) / deviation).square(), is_generated, weight)


def flow_matching_loss(
    predicted: Float[Tensor, "*batch t c h w"],
    velocity: Float[Tensor, "*batch t c h w"],
    is_generated: Bool[Tensor, "*batch t"],  # context frames, and absent players, do not count
    weight: Float[Tensor, "*batch t #c h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of the velocity over generated frames (Lipman et al. 2022, equation 23), in fp32."""
    return _mean((predicted.float() - velocity.float()).square(), is_generated, weight)


def distribution_matching_loss(
    made: Float[Tensor, "*batch t c h w"],
    real: Float[Tensor, "*batch t c h w"],  # data that a teacher sees in what was made, once noise was added
    fake: Float[Tensor, "*batch t c h w"],  # data that is seen there by who learned from what is made
    is_generated: Bool[Tensor, "*batch t"],  # context frames, and absent players, do not count
    weight: Float[Tensor, "*batch t #c h w"] | None = None,
) -> Float[Tensor, ""]:
    """Half the square of a step from `fake` to `real`; its gradient moves what was made that way.

    Distribution matching distillation (Yin et al. 2024, equations 7 and 8): the step is the gradient of the divergence
    of what is made from what the teacher makes. In each frame it is the larger the less the teacher corrects.
    """
    size = (made - real).abs().mean(dim=(-1, -2, -3), keepdim=True)
    step = ((fake - real) / size.clamp_min(_LEAST_CORRECTION)).detach()
    return 0.5 * _mean((made - (made - step).detach()).square(), is_generated, weight)


def _mean(
    each: Float[Tensor, "*batch t c h w"],
    is_counted: Bool[Tensor, "*batch t"],
    weight: Float[Tensor, "*batch t #c h w"] | None,
) -> Float[Tensor, ""]:
    counted = rearrange(is_counted, "... t -> ... t 1 1 1").to(each.dtype)
    if weight is not None:
        counted = counted * weight
    counted = counted.expand_as(each)
    return (each * counted).sum() / counted.sum().clamp_min(1)
