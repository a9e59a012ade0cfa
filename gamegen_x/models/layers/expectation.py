"""What is expected of a frame before anything of it is seen, and the velocity that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Expectation:
    """A normal distribution around `mean`, of one deviation a frame. Latents of unit variance: mean 0, deviation 1."""

    mean: Float[Tensor, "b t c h w"]
    deviation: Float[Tensor, "b t"]

    @classmethod
    def of_nothing(cls, latents: Float[Tensor, "b t c h w"], time: Float[Tensor, "b t"]) -> Expectation:
        return cls(mean=latents.new_zeros(()).expand_as(latents), deviation=time.new_ones(()).expand_as(time))


def velocity_around(
    expected: Expectation,
    latents: Float[Tensor, "b t c h w"],
    time: Float[Tensor, "b t"],
    correction: Float[Tensor, "b t c h w"],
) -> Float[Tensor, "b t c h w"]:
    """The velocity if the expectation were all that is known, corrected in units of what it leaves open.

    For data x ~ N(m, s^2) and noise e, of z = t x + (1 - t) e the mean of x - e is ((1 - t) m + (s^2 t - (1 - t)) z) / D
    and its deviation s / sqrt(D), with D = s^2 t^2 + (1 - t)^2. For m = 0 this is the preconditioning of Karras et al.
    (2022, equation 7) on the line of rectified flow. A network so spared learns what is not linear.
    """
    t, s = (rearrange(value.float(), "b t -> b t 1 1 1") for value in (time, expected.deviation))
    variance = (s * t).square() + (1 - t).square()
    known = ((1 - t) * expected.mean + (s.square() * t - (1 - t)) * latents) / variance
    return known + correction * (s * variance.rsqrt())
