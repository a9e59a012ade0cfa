"""A small decoder that reads what a trained video autoencoder writes: live play spends its time elsewhere then."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.models.vae import Decoder, VideoVAE
from gamegen_x.training.player_weight import check_player_weight, player_weight
from gamegen_x.training.randomness import Moment
from gamegen_x.training.task import Task
from gamegen_x.training.vae_losses import pixel_losses, psnr_db
from gamegen_x.training.vae_task import there, views

_LATENT_NOISE, _OWN_CLIPS = range(2)


class DecoderTask(Task):
    """L1 + L2 against the true video, where others are seen more. The autoencoder stays.

    Of each batch that brings latents of a model's own play (`data.play_along`) the share `own_share` is read from
    those, so that the decoder learns to show what the model meant; the rest is read from what the autoencoder writes.
    """

    def __init__(
        self,
        *,
        vae: VideoVAE,
        small_decoder: Decoder,
        l2_weight: float,
        player_weight: float,
        player_pixels: int,
        own_share: float,
        latent_scale: float,
        latent_shift: float,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.vae = vae.requires_grad_(False).eval()
        self.small_decoder = small_decoder
        self.l2_weight = l2_weight
        self.player_weight = player_weight
        self.player_pixels = player_pixels
        if not 0 <= own_share <= 1:
            raise ValueError(f"task.own_share is a share between 0 and 1, got {own_share}")
        self.own_share = own_share
        self.latent_scale = latent_scale
        self.latent_shift = latent_shift
        check_player_weight(player_weight, player_pixels)
        self._live_vae()  # raises where sizes differ

    def networks(self) -> dict[str, nn.Module]:
        return {"vae": self.vae, "small_decoder": self.small_decoder}

    def latent_normalisation(self) -> tuple[float, float]:
        return self.latent_shift, self.latent_scale

    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        real = views(batch)
        with torch.no_grad():
            posterior = self.vae.encode(real)
        mean = posterior.mean
        latents = posterior.sample(moment.noise_like(mean, _LATENT_NOISE)) if self.training else mean
        own = self._own_latents(batch)
        if own is not None and self.training:
            num_own = moment.part_of(len(own), self.own_share, _OWN_CLIPS)
            latents = torch.cat([own[:num_own], latents[num_own:]])  # clips of a batch have no order
        made = self._live_vae().decode(latents, real.shape[1])
        weight = player_weight(batch, self.player_weight, self.player_pixels)
        l1, l2 = pixel_losses(made, real, None if weight is None else there(batch, weight))
        losses = {"l1": l1, "loss": l1 + self.l2_weight * l2}
        if not self.training:
            losses["psnr_db"] = psnr_db(made, real)
            losses["psnr_of_full_db"] = psnr_db(self.vae.decode(latents, real.shape[1]), real)
            if own is not None:
                losses["psnr_of_own_db"] = psnr_db(self._live_vae().decode(own, real.shape[1]), real)
        return losses

    def reconstruct(self, video: Float[Tensor, "n t 3 h w"]) -> Float[Tensor, "n t 3 h w"]:
        """What the small decoder leaves of a video."""
        return self._live_vae().reconstruct(video)

    def _own_latents(self, batch: Batch) -> Float[Tensor, "n t c h w"] | None:
        if batch.played is None:
            return None
        return there(batch, batch.played / self.latent_scale + self.latent_shift)

    def _live_vae(self) -> VideoVAE:
        return self.vae.with_decoder(self.small_decoder)
