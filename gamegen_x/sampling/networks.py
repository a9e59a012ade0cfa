"""Networks: text encoder + GameGenX + VAE, with their weights and what they were trained for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from gamegen_x.models.gamegen import GameGenX
from gamegen_x.models.instructnet import InstructNet
from gamegen_x.models.msdit import MSDiT
from gamegen_x.models.text_encoder import TextEncoder
from gamegen_x.models.vae import Decoder, VideoVAE
from gamegen_x.models.weights import load_network
from gamegen_x.sampling.settings import SamplerSettings
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.weights_folder import read_config


@dataclass(frozen=True)
class Networks:
    """All that sampling needs, from one weights folder. `config` is the folder's config.json."""

    vae: VideoVAE
    text_encoder: TextEncoder
    model: GameGenX
    action_space: ActionSpace
    fps: float
    height: int
    width: int
    latent_scale: float  # latents are (mean - shift) * scale, of about unit size
    latent_shift: float
    kind: str
    sampler_settings: SamplerSettings  # the defaults that these weights were trained for
    config: Mapping[str, Any]
    small_decoder: Decoder | None = None  # of the same latents, for live play

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> Networks:
        """Raises FileNotFoundError or ValueError that says which part is missing and which stage makes it."""
        config = read_config(folder)
        for name, stage in (("vae", "vae"), ("text_encoder", "pretrain"), ("msdit", "pretrain")):
            if name not in config["networks"]:
                raise ValueError(f"{folder} has no {name}; run `python train.py task={stage} weights={folder}`")
        instructnet = None
        if "instructnet" in config["networks"]:
            instructnet = cast(InstructNet, load_network(folder, "instructnet"))
        small_decoder = None
        if "small_decoder" in config["networks"]:
            small_decoder = cast(Decoder, load_network(folder, "small_decoder").to(device))
        model = GameGenX(cast(MSDiT, load_network(folder, "msdit")), instructnet)
        return cls(
            vae=cast(VideoVAE, load_network(folder, "vae").to(device)),
            text_encoder=cast(TextEncoder, load_network(folder, "text_encoder").to(device)),
            model=model.eval().to(device),
            action_space=ActionSpace.from_dict(config["action_space"]),
            fps=float(config["fps"]),
            height=int(config["height"]),
            width=int(config["width"]),
            latent_scale=float(config["latent_scale"]),
            latent_shift=float(config["latent_shift"]),
            kind=str(config["kind"]),
            sampler_settings=SamplerSettings.of(config),
            config=config,
            small_decoder=small_decoder,
        )

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def encode(self, video: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t_latent c h_latent w_latent"]:
        """Pixels in [-1, 1] to normalised latents (the posterior's mean)."""
        return (self.vae.encode(video).mean - self.latent_shift) * self.latent_scale

    def decode(
        self, latents: Float[Tensor, "b t_latent c h w"], num_frames: int
    ) -> Float[Tensor, "b t 3 h_video w_video"]:
        return self.vae.decode(latents / self.latent_scale + self.latent_shift, num_frames).clamp(-1, 1)
