"""Judges: small networks trained on real recordings that read keys and environment from pixels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gamegen_x.evaluation.commands import Commands
from gamegen_x.evaluation.recordings import as_pixels

QUIET = 0.01  # contrasts below this are coding noise, in [-1, 1]


def _at_unit_contrast(frames: Float[Tensor, "n f 3 h w"]) -> Float[Tensor, "n f 3 h w"]:
    centred = frames - frames.mean(dim=(1, 3, 4), keepdim=True)
    return centred / (centred.std(dim=(1, 2, 3, 4), keepdim=True) + QUIET)


def _convolutions(channels: Sequence[int]) -> nn.Sequential:
    """Each layer halves height and width."""
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(channels)):
        size = 5 if index == 0 else 3
        layers += [nn.Conv2d(before, after, size, stride=2, padding=size // 2), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class InverseDynamics(nn.Module):
    """Says which keys were held in a block, from its frames and those of the block before. Any height and width.

    It looks at the first frame and at the differences from frame to frame, each at unit contrast: night and fog show
    the same motion, only fainter.
    """

    def __init__(self, num_keys: int, block_frames: int, channels: Sequence[int], grid: int, hidden: int) -> None:
        super().__init__()
        self.block_frames = block_frames
        self.features = _convolutions([3 * 2 * block_frames, *channels])
        self.pool = nn.AdaptiveAvgPool2d(grid)
        num_features = grid * grid * channels[-1]
        self.head = nn.Sequential(nn.Linear(num_features, hidden), nn.ReLU(), nn.Linear(hidden, num_keys))

    def forward(
        self,
        frames: Float[Tensor, "n f 3 h w"],  # the block before, then the block; in [-1, 1]
    ) -> Float[Tensor, "n k"]:  # a logit for each key
        return self.head(self.motion(frames))

    def motion(self, frames: Float[Tensor, "n f 3 h w"]) -> Float[Tensor, "n d"]:
        """The features from which keys are read."""
        seen = torch.cat([_at_unit_contrast(frames[:, :1]), _at_unit_contrast(frames.diff(dim=1))], dim=1)
        folded = rearrange(seen, "n f c h w -> n (f c) h w").contiguous(memory_format=torch.channels_last)
        return self.pool(self.features(folded)).flatten(1)


class EnvironmentClassifier(nn.Module):
    """Says weather, time of day and the like from one frame. `classes` names the values of each fact."""

    def __init__(self, classes: Mapping[str, Sequence[str]], channels: Sequence[int]) -> None:
        super().__init__()
        self.classes = {fact: tuple(values) for fact, values in classes.items()}
        self.features = _convolutions([3, *channels])
        self.heads = nn.ModuleDict({fact: nn.Linear(2 * channels[-1], len(values)) for fact, values in classes.items()})

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> dict[str, Tensor]:
        """Logits "n classes" by fact; frames in [-1, 1]."""
        picture = self.picture(frames)
        return {fact: head(picture) for fact, head in self.heads.items()}

    def picture(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """The features from which facts are read: the mean for what covers the picture, the most for small things."""
        features = self.features(frames.contiguous(memory_format=torch.channels_last)).flatten(2)
        return torch.cat([features.mean(-1), features.amax(-1)], -1)


class Judges:
    """The two trained judges, and what they get right on real video of unseen worlds (their ceilings)."""

    def __init__(
        self,
        inverse_dynamics: InverseDynamics,
        environment: EnvironmentClassifier | None,
        ceilings: Mapping[str, float],
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.inverse_dynamics = inverse_dynamics.eval().to(device)
        self.environment = environment.eval().to(device) if environment is not None else None
        self.ceilings = dict(ceilings)
        self.batch_size = batch_size
        self.device = device

    @torch.inference_mode()
    def commands_in(
        self, video: UInt8[Tensor, "b p t 3 h w"], commands: Commands, first_block: int
    ) -> Int[Tensor, "b p n"]:
        """The likeliest command of each block from `first_block` on, which is 1 or later: it needs the block before."""
        size = self.inverse_dynamics.block_frames
        num_players = video.shape[1]
        clips = rearrange(video, "b p t c h w -> (b p) t c h w")[:, (first_block - 1) * size :]
        windows = rearrange(clips.unfold(1, 2 * size, size), "n blocks c h w f -> (n blocks) f c h w")
        said = commands.most_likely(self.key_logits(windows))
        return rearrange(said, "(b p blocks) -> b p blocks", b=len(video), p=num_players)

    @torch.inference_mode()
    def key_logits(self, windows: UInt8[Tensor, "n f 3 h w"]) -> Float[Tensor, "n k"]:
        """A logit for each key in windows of two blocks."""
        with half_precision(self.device):
            parts = [self.inverse_dynamics(self._pixels(part)) for part in windows.split(self.batch_size)]
        return torch.cat(parts).float().cpu()

    @torch.inference_mode()
    def motion_features(self, windows: UInt8[Tensor, "n f 3 h w"]) -> Float[Tensor, "n d"]:
        """What the inverse-dynamics judge makes of windows of two blocks, before it names keys."""
        parts = [self.inverse_dynamics.motion(self._pixels(part)) for part in windows.split(self.batch_size)]
        return torch.cat(parts).float().cpu()

    @torch.inference_mode()
    def picture_features(self, windows: UInt8[Tensor, "n f 3 h w"]) -> Float[Tensor, "n d"]:
        """What the environment judge makes of the last frame of windows, before it names facts."""
        assert self.environment is not None
        parts = [self.environment.picture(self._pixels(part[:, -1])) for part in windows.split(self.batch_size)]
        return torch.cat(parts).float().cpu()

    @torch.inference_mode()
    def environment_in(self, frames: UInt8[Tensor, "n f 3 h w"], fact: str) -> Int[Tensor, " n"]:
        """The likeliest value of a fact, over the `f` frames of each clip together."""
        assert self.environment is not None
        num_frames = frames.shape[1]
        flat = rearrange(frames, "n f c h w -> (n f) c h w")
        with half_precision(self.device):
            parts = [self.environment(self._pixels(part))[fact] for part in flat.split(self.batch_size)]
        by_frame = rearrange(F.log_softmax(torch.cat(parts).float(), -1), "(n f) v -> n f v", f=num_frames)
        return by_frame.mean(1).argmax(-1).cpu()

    def _pixels(self, frames: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return as_pixels(frames.to(self.device))


def half_precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16)
