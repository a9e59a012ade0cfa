"""Latents <-> tokens."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class Patchify(nn.Module):
    """Projects patches of 1 x `patch` x `patch` latents to tokens: a strided 3-D convolution, as one product.

    The weight keeps the convolution's shape `[d c 1 patch patch]`, so that weights of that form can be imported.
    """

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(channels, dim, (1, patch, patch), stride=(1, patch, patch))

    def forward(self, latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t n d"]:
        height, width = latents.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(f"latents must be multiples of the patch {self.patch}, got {height}x{width}")
        patches = rearrange(latents, "b t c (h i) (w j) -> b t (h w) (c i j)", i=self.patch, j=self.patch)
        return nn.functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def unpatchify(
    tokens: Float[Tensor, "b t n ijc"], height: int, width: int, patch: int
) -> Float[Tensor, "b t c h_all w_all"]:
    """Tokens of a `height` x `width` grid of patches back to latents; channels vary fastest within a token."""
    return rearrange(tokens, "b t (h w) (i j c) -> b t c (h i) (w j)", h=height, w=width, i=patch, j=patch)
