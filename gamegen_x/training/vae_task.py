"""Stage zero: the video autoencoder, against pixels, a look, and (later) a critic."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.models.discriminator import VideoCritic
from gamegen_x.models.vae import VideoVAE
from gamegen_x.training.player_weight import check_player_weight, player_weight
from gamegen_x.training.randomness import Moment
from gamegen_x.training.task import Task
from gamegen_x.training.vae_losses import (
    PerceptualDistance,
    detail_weight,
    frames_of,
    pixel_losses,
    psnr_db,
    verdict,
)

_LATENT_NOISE = 0
_MEMORY = 100  # steps over which the moments of the latents are averaged


class VAETask(Task):
    """L1 + L2 + KL, and as configured a perceptual distance and a critic that joins at `critic_from_step`.

    L1 and L2 count edges and other players more where they are told to; PSNR counts every pixel the same.

    Mean and deviation of the latents are followed, for later stages want latents of unit size. Autoencoder and critic
    are trained by one optimizer in one backward pass, so this runs under every trainer.
    """

    latent_moments: Tensor

    def __init__(
        self,
        *,
        vae: VideoVAE,
        critic: VideoCritic | None,
        perceptual: PerceptualDistance | None,
        l2_weight: float,
        kl_weight: float,
        detail_strength: float,
        player_weight: float,
        player_pixels: int,
        perceptual_weight: float,
        critic_weight: float,
        critic_from_step: int,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.vae = vae
        self.critic = critic
        self.perceptual = perceptual
        self.l2_weight = l2_weight
        self.kl_weight = kl_weight
        self.detail_strength = detail_strength
        self.player_weight = player_weight
        self.player_pixels = player_pixels
        check_player_weight(player_weight, player_pixels)
        self.perceptual_weight = perceptual_weight
        self.critic_weight = critic_weight
        self.critic_from_step = critic_from_step

        self.register_buffer("latent_moments", torch.tensor([0.0, 1.0]))  # running mean, and mean square

    def networks(self) -> dict[str, nn.Module]:
        return {"vae": self.vae}

    def latent_normalisation(self) -> tuple[float, float]:
        mean, square = self.latent_moments.tolist()
        return mean, float((square - mean**2) ** -0.5)

    @torch.no_grad()
    def _follow(self, latents: Float[Tensor, "n t c h w"]) -> None:
        values = latents.float()
        weight = max(1 / _MEMORY, 1 / (self.global_step + 1))
        self.latent_moments.lerp_(torch.stack([values.mean(), values.square().mean()]), weight)

    def clipped_apart(self) -> list[nn.Module]:
        return [self.vae] if self.critic is None else [self.vae, self.critic]

    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        real = views(batch)
        posterior = self.vae.encode(real)
        latents = (
            posterior.sample(moment.noise_like(posterior.mean, _LATENT_NOISE)) if self.training else posterior.mean
        )
        if self.training:
            self._follow(posterior.mean)
        made = self.vae.decode(latents, real.shape[1])
        l1, l2 = pixel_losses(made, real, self._weight(batch, real))
        kl = posterior.kl().float()
        losses = {"l1": l1, "kl": kl, "loss": l1 + self.l2_weight * l2 + self.kl_weight * kl}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(frames_of(made), frames_of(real))
            losses["loss"] = losses["loss"] + self.perceptual_weight * losses["perceptual"]
        if self.critic is not None and self.training:
            losses |= self._judged(losses["loss"], made, real)
        if not self.training:
            losses["psnr_db"] = psnr_db(made, real)
        return losses

    def _weight(self, batch: Batch, real: Float[Tensor, "n t 3 h w"]) -> Float[Tensor, "n t 1 h w"] | None:
        detail = detail_weight(real, self.detail_strength)
        players = player_weight(batch, self.player_weight, self.player_pixels)
        if detail is None or players is None:
            return detail if players is None else there(batch, players)
        return detail * there(batch, players)

    def reconstruct(self, video: Float[Tensor, "n t 3 h w"]) -> Float[Tensor, "n t 3 h w"]:
        """What is left of a video."""
        return self.vae.reconstruct(video)

    def _judged(self, loss: Tensor, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        assert self.critic is not None
        if self.global_step < self.critic_from_step:  # its parameters must be in every graph that DDP reduces
            return {"loss": loss + 0.0 * sum(parameter.sum() for parameter in self.critic.parameters())}
        said = verdict(self.critic, made, real)
        return {
            "critic": said.critic,
            "fooling": said.made,
            "loss": loss + self.critic_weight * said.made + said.critic,
        }


def views(batch: Batch) -> Float[Tensor, "n t 3 h w"]:
    """The videos of all players who are there, one after another."""
    if batch.video is None:
        raise ValueError(
            "the autoencoder is trained on pixels, the batch holds cached latents; set data.content=frames"
        )
    return there(batch, batch.video)


def there(batch: Batch, value: Float[Tensor, "b p t c h w"]) -> Float[Tensor, "n t c h w"]:
    """What belongs to players who are there, one after another."""
    return value[batch.is_player] if not batch.is_player.all() else torch.flatten(value, 0, 1)
