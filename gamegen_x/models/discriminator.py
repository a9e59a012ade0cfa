"""The critic that a VAE is trained against: it looks at patches of video and says how real each seems."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class VideoCritic(nn.Module):
    """A patch discriminator (pix2pix; as in VQGAN) over groups of `frames` video frames, stacked as channels.

    Gives one score a patch, `[b patches]`: above 0 means real.
    """

    def __init__(self, frames: int, channels: int, num_levels: int) -> None:
        super().__init__()
        self.frames = frames
        widths = [min(channels * 2**level, channels * 8) for level in range(num_levels)]
        self.into = nn.Conv2d(3 * frames, widths[0], 4, stride=2, padding=1)
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in widths[1:])
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, video: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b patches"]:
        batch = video.shape[0]
        lead = -video.shape[1] % self.frames
        video = F.pad(video, (0, 0, 0, 0, 0, 0, lead, 0))
        features = F.leaky_relu(self.into(rearrange(video, "b (t f) c h w -> (b t) (f c) h w", f=self.frames)), 0.2)
        for level, normalise in zip(self.levels, self.norms, strict=True):
            features = F.leaky_relu(normalise(level(features)), 0.2)
        return rearrange(self.out(features), "(b t) 1 h w -> b (t h w)", b=batch)
