"""Batch: the one value that walks from loader to task."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """`b` clips of `p` views. Either `video` or `latents` is there; cached latents spare the VAE.

    A latent frame stands for `f` video frames (4 for a 4x VAE); `t_video = f * t`. Views of clips with fewer than p
    players are zeros with `is_player` false. `instructions[i]` holds from video frame `instruction_starts[i]` of its
    clip on; a clip without one has an empty string.
    """

    keys: list[str]  # record keys, for error messages
    captions: list[str]
    instructions: list[str]
    instruction_starts: Float[Tensor, " b"]  # video frames, may lie before the clip (negative) or after it
    actions: Float[Tensor, "b p t_video k"]  # 1.0 where a key is held
    is_player: Bool[Tensor, "b p"]
    fps: Float[Tensor, " b"]
    video: Float[Tensor, "b p t_video 3 h_video w_video"] | None = None  # in [-1, 1]
    latents: Float[Tensor, "b p t c h w"] | None = None  # normalised to unit scale
    video_prompt: Float[Tensor, "b p t_video 3 h_video w_video"] | None = None  # edges, flow or pose, in [-1, 1]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        moved = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def __len__(self) -> int:
        return len(self.keys)
