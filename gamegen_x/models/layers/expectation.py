"""What is expected of a frame before anything of it is seen, and the velocity that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Expectation:
    """A normal distribution around `mean`, of one deviation a place. Latents of unit variance: mean 0, deviation 1."""

    mean: Float[Tensor, "b t c h w"]
    deviation: Float[Tensor, "b t 1 h w"]

    @classmethod
    def of_nothing(cls, latents: Float[Tensor, "b t c h w"]) -> Expectation:
        """What is expected of latents like these before anything is known."""
        return cls(mean=torch.zeros_like(latents), deviation=torch.ones_like(latents[:, :, :1]))

    def frames(self, start: int, stop: int | None) -> Expectation:
        """Of the frames from `start` to before `stop`."""
        return Expectation(self.mean[:, start:stop], self.deviation[:, start:stop])

    def detach(self) -> Expectation:
        """The same without gradient."""
        return Expectation(self.mean.detach(), self.deviation.detach())


def velocity_around(
    expected: Expectation,
    latents: Float[Tensor, "b t c h w"],
    time: Float[Tensor, "b t"],
    correction: Float[Tensor, "b t c h w"],
) -> Float[Tensor, "b t c h w"]:
    """The velocity if the expectation were all that is known, corrected in units of what it leaves open.

    For data x ~ N(m, s^2), noise e and z = t x + (1 - t) e, the mean of x - e given z is
    ((1 - t) m + (s^2 t - (1 - t)) z) / D and its deviation s / sqrt(D), with D = s^2 t^2 + (1 - t)^2. For m = 0 this
    is the preconditioning of Karras et al. (2022, equation 7) on the line of rectified flow.
    """
    t, s = rearrange(time.float(), "b t -> b t 1 1 1"), expected.deviation
    variance = (s * t).square() + (1 - t).square()
    known = ((1 - t) * expected.mean + (s.square() * t - (1 - t)) * latents) / variance
    return known + correction * (s * variance.rsqrt())
