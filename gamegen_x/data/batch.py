"""Batch: the one value that walks from loader to task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """`b` clips of `p` views. `video` or `latents` is there: cached latents spare the VAE. `played` may stand beside
    either: what a model made when it played the same session along.

    A latent frame stands for `f` video frames (4 for a 4x VAE). With cached latents `t_video = f * t` counts rows, of
    which a VAE that codes in chunks has more than frames (`models/coding.py`). Views of clips with fewer than p
    players are zeros with `is_player` false. `instructions[i]` holds from video frame `instruction_starts[i]` of its
    clip on; a clip without one has an empty string. A video prompt that is absent is all zeros. `others` is drawn at
    the pixels where there is video, else at the latents.
    """

    keys: list[str]  # record keys, for error messages
    captions: list[str]
    instructions: list[str]
    instruction_starts: Float[Tensor, " b"]  # frames, or rows of latents; before the clip (negative), or after it
    actions: Float[Tensor, "b p t_video k"]  # 1.0 where a key is held
    is_player: Bool[Tensor, "b p"]
    fps: Float[Tensor, " b"]
    video: Float[Tensor, "b p t_video 3 h_video w_video"] | None = None  # in [-1, 1]
    latents: Float[Tensor, "b p t c h w"] | None = None  # normalised to unit scale
    played: Float[Tensor, "b p t c h w"] | None = None  # normalised as latents are
    video_prompt: Float[Tensor, "b p t_video 3 h_video w_video"] | None = None  # edges, flow or pose, in [-1, 1]
    has_actions: Bool[Tensor, "b p"] | None = None  # false where nobody knows the keys; None: known everywhere
    video_prompt_latents: Float[Tensor, "b p t c h w"] | None = None  # in place of video_prompt, where they are cached
    state: Float[Tensor, "b p t c_state h w"] | None = None  # the world's truth, drawn where each player sees it
    others: Float[Tensor, "b p t_seen 1 h_seen w_seen"] | None = None  # above 0 where a player sees another
    near: Bool[Tensor, "b t p p"] | None = None  # who is near enough to see whom; None: nobody asked
    places: Float[Tensor, "b t_video p q 2"] | None = None  # of all players: see gamegen_x.world.places
    known: Bool[Tensor, "b t_video p q"] | None = None  # which of them are known; both with content=facts

    @property
    def has_video_prompt(self) -> Bool[Tensor, " b"]:
        """Which clips have a video prompt, in pixels or latents."""
        prompt = self.video_prompt if self.video_prompt is not None else self.video_prompt_latents
        if prompt is None:
            return torch.zeros(len(self), dtype=torch.bool, device=self.is_player.device)
        return prompt.flatten(1).ne(0).any(dim=1)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Moves every tensor."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Puts every tensor where a GPU can fetch it by itself."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **changed)

    def __len__(self) -> int:
        return len(self.keys)
