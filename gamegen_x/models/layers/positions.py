"""Where a token stands: sinusoids over the picture, rotations over time."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

REFERENCE_SIZE = 512  # pixels; positions of a 512x512 picture are counted in patches (Open-Sora 1.2)


def sinusoid(position: Float[Tensor, "*any"], dim: int, longest: float) -> Float[Tensor, "*any {dim}"]:
    """Sines, then cosines of a position at `dim` / 2 wavelengths from 2 pi to 2 pi `longest` (Vaswani et al., 3.5)."""
    steps = torch.arange(dim // 2, device=position.device, dtype=torch.float32)
    angles = position.float()[..., None] * torch.exp(-math.log(longest) * steps / (dim // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def picture_positions(
    height: int, width: int, pixels_per_side: float, dim: int, device: torch.device
) -> Float[Tensor, "n {dim}"]:
    """A `dim`-wide position for every patch of a `height` x `width` grid, row by row.

    Positions are stretched so that pictures of any size span the range that a square of as many pixels would have
    at the reference size: scale = sqrt(h w) / 512, as in Open-Sora 1.2.
    """
    if dim % 4:
        raise ValueError(f"positions of a picture need a width that is a multiple of 4, got {dim}")
    scale = pixels_per_side / REFERENCE_SIZE
    base = round(math.sqrt(height * width))
    rows = torch.arange(height, device=device) / scale * base / height
    columns = torch.arange(width, device=device) / scale * base / width
    column_part = sinusoid(columns, dim // 2, 10_000.0)[None].expand(height, -1, -1)
    row_part = sinusoid(rows, dim // 2, 10_000.0)[:, None].expand(-1, width, -1)
    return torch.cat([column_part, row_part], dim=-1).flatten(0, 1)


class RotaryPositions(nn.Module):
    """Rotation angles of positions (Su et al., RoFormer, equation 34)."""

    frequencies: Tensor

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"rotary positions need an even head size, got {head_dim}")
        frequencies = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, positions: Int[Tensor, " n"]) -> Float[Tensor, "n half"]:
        return torch.outer(positions.float(), self.frequencies.float())


def rotate(
    features: Float[Tensor, "s e n d"],
    angles: Float[Tensor, "*s n half"],  # the same everywhere, or each sequence's own: [s 1 n half]
) -> Float[Tensor, "s e n d"]:
    """Turns each pair (i, i + half) by its angle: products of rotated vectors depend on their distance only."""
    cos, sin = angles.cos(), angles.sin()
    by_itself, by_partner = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
    partner = features.roll(features.shape[-1] // 2, dims=-1)
    return torch.addcmul(features * by_itself.to(features.dtype), partner, by_partner.to(features.dtype))
