"""FlowTask: what stages one and two share: encode, noise, predict, compare."""

# ruff: noqa: ARG002  (not every task looks at everything)

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.diffusion.flow import flow_matching_loss, point_on_flow
from gamegen_x.diffusion.time_sampling import FrameTimes
from gamegen_x.models.gamegen import Conditions, GameGenX
from gamegen_x.models.instructnet import actions_per_latent
from gamegen_x.models.text_encoder import TextEncoder
from gamegen_x.models.vae import VideoVAE
from gamegen_x.training.randomness import Moment
from gamegen_x.training.task import Task
from gamegen_x.training.text_cache import TextCache

NOISE, TIMES, TEXT_DROP, CONTROLS, CONTEXT_NOISE, CONTEXT_NOISE_LEVEL = range(6)  # purposes of random draws
Tokens = tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]


class FlowTask(Task):
    """Rectified flow on the latents of a frozen autoencoder, given texts of which a share is dropped."""

    def __init__(
        self,
        *,
        vae: VideoVAE,
        text_encoder: TextEncoder,
        model: GameGenX,
        latent_scale: float,
        latent_shift: float,
        draw_times: Callable[[int, int, int, int, torch.Generator], FrameTimes],
        text_drop: float,
        text_cache: TextCache | None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if not 0 <= text_drop <= 1:
            raise ValueError(f"text_drop is a share between 0 and 1, got {text_drop}")
        if text_cache is not None and any(weight.requires_grad for weight in text_encoder.parameters()):
            raise ValueError("the embeddings of a text encoder that is trained change; set task.text_cache=null")
        self.vae = vae.requires_grad_(False).eval()
        self.text_encoder = text_encoder
        self.text_cache = text_cache
        self.model = model
        self.latent_scale = latent_scale
        self.latent_shift = latent_shift
        self.draw_times = draw_times
        self.text_drop = text_drop

    def networks(self) -> dict[str, nn.Module]:
        found = {"vae": self.vae, "text_encoder": self.text_encoder, "msdit": self.model.msdit}
        return found if self.model.instructnet is None else found | {"instructnet": self.model.instructnet}

    def latent_normalisation(self) -> tuple[float, float]:
        return self.latent_shift, self.latent_scale

    @abstractmethod
    def conditions(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Conditions:
        """What the clips of a batch are asked to follow."""

    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        latents = self.latents(batch)
        num_clips, num_players, num_frames, _, height, width = latents.shape
        drawn = self.draw_times(num_clips * num_players, num_frames, height, width, moment.generator(TIMES))
        time, is_generated = (
            rearrange(value, "(b p) t -> b p t", p=num_players).to(self.device)
            for value in (drawn.time, drawn.is_generated)
        )
        point = point_on_flow(latents, moment.noise_like(latents, NOISE), time)
        seen = self.blur_context(point.latents, is_generated, moment)
        velocity = self.model(seen, time, self.conditions(batch, num_frames, moment))
        counted = is_generated & batch.is_player[:, :, None]
        return {"loss": flow_matching_loss(velocity, point.velocity, counted)}

    def blur_context(
        self, latents: Float[Tensor, "b p t c h w"], is_generated: Bool[Tensor, "b p t"], moment: Moment
    ) -> Float[Tensor, "b p t c h w"]:
        """What the network is shown. Context frames are clean unless a task says otherwise."""
        return latents

    @torch.no_grad()
    def latents(self, batch: Batch) -> Float[Tensor, "b p t c h w"]:
        if batch.latents is not None:
            return batch.latents.float()
        assert batch.video is not None
        return self.encode(batch.video)

    @torch.no_grad()
    def encode(self, video: Float[Tensor, "b p t_video 3 h_video w_video"]) -> Float[Tensor, "b p t c h w"]:
        mean = self.vae.encode(rearrange(video, "b p ... -> (b p) ...")).mean.float()
        normal = (mean - self.latent_shift) * self.latent_scale
        return rearrange(normal, "(b p) ... -> b p ...", p=video.shape[1])

    def tokens(self, texts: list[str]) -> Tokens:
        """Encodes each text once, however often it occurs."""
        different = list(dict.fromkeys(texts))
        if self.text_cache is None:
            tokens, mask = self.text_encoder(different)
        else:
            tokens, mask = (part.to(self.device) for part in self.text_cache.encode(different, self.text_encoder))
        rows = torch.tensor([different.index(text) for text in texts], device=tokens.device)
        return tokens[rows], mask[rows]

    def captions(self, batch: Batch, moment: Moment) -> Tokens:
        """Captions, a share of them dropped, so that sampling can be guided."""
        tokens, mask = self.tokens(batch.captions)
        kept = torch.rand(len(batch), generator=moment.generator(TEXT_DROP)) >= self.text_drop
        return tokens, mask & kept.to(mask.device)[:, None]

    def uncontrolled(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Conditions:
        """Conditions of which only the text says anything."""
        text, text_mask = self.captions(batch, moment)
        num_clips, num_players = batch.is_player.shape
        frames_per_latent = self.vae.temporal_factor
        actions = actions_per_latent(
            rearrange(batch.actions, "b p t k -> (b p) t k"), num_latent_frames, frames_per_latent
        )
        nothing = torch.zeros(num_clips, dtype=torch.bool, device=self.device)
        return Conditions(
            text=text,
            text_mask=text_mask,
            fps=batch.fps,
            num_frames=torch.full_like(batch.fps, batch.actions.shape[2]),
            actions=rearrange(actions, "(b p) t f k -> b p t f k", p=num_players),
            has_actions=repeat(nothing, "b -> b p", p=num_players),
            instruction=torch.zeros_like(text),
            instruction_mask=torch.zeros_like(text_mask),
            is_instructed=repeat(nothing, "b -> b t", t=num_latent_frames),
            video_prompt=None,
            has_prompt=nothing,
        )
