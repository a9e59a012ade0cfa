"""TransNetV2 (Soucek and Lokoc 2020): which frames are transitions between shots.

Its members carry the names of the published PyTorch weights, so that these load as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor, nn

HEIGHT, WIDTH = 27, 48
LOOKUP = 101  # frames around one that it is compared with


class SeparableConv(nn.Module):
    """A convolution over the picture, then a dilated one over time."""

    def __init__(self, in_channels: int, channels: int, dilation: int) -> None:
        super().__init__()
        over_picture = nn.Conv3d(in_channels, 2 * channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        over_time = nn.Conv3d(
            2 * channels, channels, (3, 1, 1), padding=(dilation, 0, 0), dilation=(dilation, 1, 1), bias=False
        )
        self.layers = nn.ModuleList([over_picture, over_time])

    def forward(self, features: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        for layer in self.layers:
            features = layer(features)
        return features


class DilatedCell(nn.Module):
    """Four dilations side by side: 1, 2, 4 and 8 frames."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.Conv3D_1 = SeparableConv(in_channels, channels, 1)
        self.Conv3D_2 = SeparableConv(in_channels, channels, 2)
        self.Conv3D_4 = SeparableConv(in_channels, channels, 4)
        self.Conv3D_8 = SeparableConv(in_channels, channels, 8)
        self.bn = nn.BatchNorm3d(4 * channels, eps=1e-3)

    def forward(self, features: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        branches = (self.Conv3D_1, self.Conv3D_2, self.Conv3D_4, self.Conv3D_8)
        return self.bn(torch.cat([branch(features) for branch in branches], dim=1))


class DilatedStack(nn.Module):
    """Two cells with a way around the second, then half the size."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([DilatedCell(in_channels, channels), DilatedCell(4 * channels, channels)])

    def forward(self, features: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h2 w2"]:
        first = F.relu(self.DDCNN[0](features))
        return F.avg_pool3d(F.relu(self.DDCNN[1](first)) + first, (1, 2, 2))


class FrameSimilarity(nn.Module):
    """How alike each frame's features are to those of the frames around it."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(in_channels, width)
        self.fc = nn.Linear(LOOKUP, width)

    def forward(self, blocks: list[Tensor]) -> Float[Tensor, "b t d"]:
        means = torch.cat([reduce(block, "b c t h w -> b t c", "mean") for block in blocks], dim=-1)
        return F.relu(self.fc(similarities_around(F.normalize(self.projection(means), dim=-1))))


class ColorHistograms(nn.Module):
    """How alike each frame's colours (8 x 8 x 8 bins) are to those of the frames around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(LOOKUP, width)

    def forward(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t d"]:
        red, green, blue = (frames.long() >> 5).unbind(-1)
        bins = rearrange((red << 6) + (green << 3) + blue, "b t h w -> b t (h w)")
        counts = torch.zeros(*bins.shape[:2], 512).scatter_add_(2, bins, torch.ones(bins.shape))
        return F.relu(self.fc(similarities_around(F.normalize(counts, dim=-1))))


class TransNetV2(nn.Module):
    """Frames of 27x48 pixels -> for each the logit that it belongs to a transition."""

    def __init__(self) -> None:
        super().__init__()
        channels = (16, 32, 64)
        ins = (3, *(4 * count for count in channels[:-1]))
        self.SDDCNN = nn.ModuleList([DilatedStack(i, c) for i, c in zip(ins, channels, strict=True)])
        self.frame_sim_layer = FrameSimilarity(4 * sum(channels), 128)
        self.color_hist_layer = ColorHistograms(128)
        self.fc1 = nn.Linear(4 * channels[-1] * (HEIGHT // 8) * (WIDTH // 8) + 256, 1024)
        self.cls_layer1 = nn.Linear(1024, 1)
        self.cls_layer2 = nn.Linear(1024, 1)  # whole transitions; in the weights, not used here

    def forward(self, frames: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b t"]:
        features = rearrange(frames, "b t h w c -> b c t h w").float() / 255
        blocks = []
        for stack in self.SDDCNN:
            features = stack(features)
            blocks.append(features)
        flat = rearrange(features, "b c t h w -> b t (h w c)")
        joined = torch.cat([self.frame_sim_layer(blocks), self.color_hist_layer(frames), flat], dim=-1)
        return self.cls_layer1(F.relu(self.fc1(joined))).squeeze(-1)


def similarities_around(vectors: Float[Tensor, "b t d"]) -> Float[Tensor, "b t l"]:
    """Products of each frame's vector with those of the frames from 50 before to 50 after; 0 beyond the ends."""
    products = F.pad(vectors @ vectors.transpose(1, 2), (LOOKUP // 2, LOOKUP // 2))
    num_frames = vectors.shape[1]
    places = torch.arange(num_frames)[:, None] + torch.arange(LOOKUP)
    return products.gather(2, places.expand(len(vectors), -1, -1))
