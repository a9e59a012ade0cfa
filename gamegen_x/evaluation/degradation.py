"""Pictures as generated ones are: softer, grainier, smeared in time. Judges that learn from them read what happens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Degradation:
    """Random losses of quality, drawn anew for each clip; those of a share `1 - share` stay as they are.

    Every strength is drawn evenly from 0 to the value given here. Nothing of it comes from a model under test: a judge
    stays the same for all models.
    """

    share: float  # of the clips
    blur_pixels: float  # deviation of a Gaussian over the picture
    smear: float  # how far each frame goes towards the mean of its block
    grain: float  # deviation of white noise, in [-1, 1], new in each frame
    coarse_grain: float  # the same of noise of `coarse_pixels`, smoothly filled in
    coarse_pixels: int

    def __call__(
        self,
        clips: Float[Tensor, "n f 3 h w"],  # in [-1, 1]
        block_frames: int,  # divides f
        generator: torch.Generator,  # on the CPU
    ) -> Float[Tensor, "n f 3 h w"]:
        num_clips, num_frames, _, height, width = clips.shape
        drawn = torch.rand(5, num_clips, generator=generator)
        strengths = drawn[:4] * (drawn[4] < self.share)
        smear, blur, grain, coarse = rearrange(strengths.to(clips.device), "s n -> s n 1 1 1 1")
        blocks = clips.unflatten(1, (-1, block_frames))
        clips = blocks.lerp(blocks.mean(2, keepdim=True), self.smear * smear[..., None]).flatten(1, 2)
        clips = blurred(clips, self.blur_pixels * blur.flatten())
        white = torch.randn(clips.shape, generator=generator).to(clips.device)
        size = (-(-height // self.coarse_pixels), -(-width // self.coarse_pixels))
        small = torch.randn(num_clips * num_frames, 3, *size, generator=generator).to(clips.device)
        filled = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
        noise = self.grain * grain * white + self.coarse_grain * coarse * filled.view_as(clips)
        return (clips + noise).clamp(-1, 1)


def blurred(
    clips: Float[Tensor, "n f c h w"],
    deviations: Float[Tensor, " n"],  # in pixels
) -> Float[Tensor, "n f c h w"]:
    """Each clip under a Gaussian of its own, edges repeated; a deviation of 0 changes nothing."""
    reach = max(1, round(3 * float(deviations.max())))
    steps = torch.arange(-reach, reach + 1, device=clips.device)
    narrow = torch.finfo(torch.float32).tiny  # 0 / 0 is no kernel
    kernels = torch.exp(-(steps**2) / (2 * deviations[:, None] ** 2).clamp_min(narrow))
    kernels = (kernels / kernels.sum(1, keepdim=True)).to(clips.dtype)
    num_clips, num_frames = clips.shape[:2]
    folded = rearrange(clips, "n f c h w -> (f c) n h w")
    for axis in ("rows", "columns"):
        padding = (0, 0, reach, reach) if axis == "rows" else (reach, reach, 0, 0)
        weight = kernels[:, None, :, None] if axis == "rows" else kernels[:, None, None, :]
        folded = F.conv2d(F.pad(folded, padding, mode="replicate"), weight, groups=num_clips)
    return rearrange(folded, "(f c) n h w -> n f c h w", f=num_frames)
