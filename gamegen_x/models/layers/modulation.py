"""Numbers that a clip is conditioned on, as vectors; scale, shift and gate from a condition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gamegen_x.models.layers.positions import sinusoid
from gamegen_x.models.layers.rows import RowLinear

TIME_SCALE = 1000.0  # times in [0, 1] are spread over the sinusoids' wavelengths, as in DiT


def perceptron(num_sinusoids: int, dim: int) -> nn.Sequential:
    """Two layers from sinusoids to a vector of unit size at first: what hangs on a small vector learns slowly."""
    first, second = RowLinear(num_sinusoids, dim), RowLinear(dim, dim)
    nn.init.normal_(first.weight, std=(2 / num_sinusoids) ** 0.5)  # the mean square of a sinusoid is 1/2
    nn.init.normal_(second.weight, std=(0.36 * dim) ** -0.5)  # and 0.36 that of SiLU of a normal number
    return nn.Sequential(first, nn.SiLU(), second)


class ScalarEmbedder(nn.Module):
    """A number as a vector: sinusoids, then a two-layer perceptron."""

    def __init__(self, dim: int, num_sinusoids: int) -> None:
        super().__init__()
        self.num_sinusoids = num_sinusoids
        self.mlp = perceptron(num_sinusoids, dim)

    def forward(self, value: Float[Tensor, "*any"]) -> Float[Tensor, "*any d"]:
        return self.mlp(sinusoid(value, self.num_sinusoids, 10_000.0).to(next(self.mlp.parameters()).dtype))


@dataclass(frozen=True)
class VideoMetadata:
    """What a clip is, as numbers: pixels, pixels, video frames (of the whole clip), frames a second."""

    height: Float[Tensor, " b"]
    width: Float[Tensor, " b"]
    num_frames: Float[Tensor, " b"]
    fps: Float[Tensor, " b"]


class MetadataEmbedder(nn.Module):
    """Height, width, aspect ratio, length and fps as one vector that is added to the time's."""

    def __init__(self, dim: int, num_sinusoids: int) -> None:
        super().__init__()
        self.num_sinusoids = num_sinusoids
        self.mlp = perceptron(5 * num_sinusoids, dim)

    def forward(self, metadata: VideoMetadata) -> Float[Tensor, "b d"]:
        aspect = metadata.height / metadata.width
        numbers = torch.stack([metadata.height, metadata.width, aspect, metadata.num_frames, metadata.fps], dim=-1)
        waves = sinusoid(numbers, self.num_sinusoids, 10_000.0).flatten(-2)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))


def modulate(
    features: Float[Tensor, "b t n d"], shift: Float[Tensor, "b t d"], scale: Float[Tensor, "b t d"]
) -> Float[Tensor, "b t n d"]:
    """The same shift and scale for all tokens of a frame: x (1 + scale) + shift (DiT, section 3.2)."""
    return torch.addcmul(shift[:, :, None], features, 1 + scale[:, :, None])
