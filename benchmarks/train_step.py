"""A training step of MSDiT `tiny`: forward, backward and optimizer, against Latte of diffusers and plain blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from benchmarks.measuring import Rule, run_in_turn
from benchmarks.plain_blocks import with_plain_blocks
from benchmarks.rows import Row, compared
from benchmarks.settings import composed
from gamegen_x.config import build, to_dict
from gamegen_x.models.layers.modulation import VideoMetadata
from gamegen_x.models.msdit import MSDiT

LATTE, PLAIN = "latte", "plain"
FPS, VIDEO_FRAMES_PER_LATENT = 24.0, 4.0  # only numbers that a clip is conditioned on; no time depends on them


@dataclass(frozen=True)
class Inputs:
    latents: Tensor  # b t c h w
    time: Tensor  # b t
    text: Tensor  # b l d
    text_mask: Tensor  # b l, all true: Latte takes no mask
    metadata: VideoMetadata

    @classmethod
    def draw(
        cls, batch_size: int, num_frames: int, channels: int, size: int, spatial_factor: int, num_text: int, dim: int
    ) -> Inputs:
        def same(value: float) -> Tensor:
            return torch.full((batch_size,), value)

        pixels = float(size * spatial_factor)
        return cls(
            latents=torch.randn(batch_size, num_frames, channels, size, size),
            time=torch.rand(batch_size, num_frames),
            text=torch.randn(batch_size, num_text, dim),
            text_mask=torch.ones(batch_size, num_text, dtype=torch.bool),
            metadata=VideoMetadata(same(pixels), same(pixels), same(num_frames * VIDEO_FRAMES_PER_LATENT), same(FPS)),
        )


class LatteOfEqualSize(nn.Module):
    """diffusers.LatteTransformer3DModel as wide, deep and long as an MSDiT, from random weights.

    Its perceptrons are always 4 times as wide as the model; they are replaced by diffusers' own of our width. It
    is given one time a clip where MSDiT is given one a frame, no mask, and no positions that are learned.
    """

    def __init__(self, settings: Mapping[str, float], size: int, num_frames: int) -> None:
        super().__init__()
        from diffusers import LatteTransformer3DModel
        from diffusers.models.attention import FeedForward

        dim, num_heads = int(settings["dim"]), int(settings["num_heads"])
        activation = "gelu-approximate"
        self.latte = LatteTransformer3DModel(
            num_attention_heads=num_heads,
            attention_head_dim=dim // num_heads,
            in_channels=int(settings["latent_channels"]),
            out_channels=int(settings["out_channels"]),
            num_layers=int(settings["num_pairs"]),
            cross_attention_dim=dim,
            attention_bias=True,
            sample_size=size,
            patch_size=int(settings["patch"]),
            activation_fn=activation,
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
            caption_channels=int(settings["text_dim"]),
            video_length=num_frames,
        )
        inner = int(dim * settings["mlp_ratio"])
        for block in (*self.latte.transformer_blocks, *self.latte.temporal_transformer_blocks):
            block.ff = FeedForward(dim, inner_dim=inner, activation_fn=activation)

    def forward(self, inputs: Inputs) -> Tensor:
        time = (inputs.time[:, 0] * 1000).long()
        made: Tensor = self.latte(inputs.latents.transpose(1, 2), time, inputs.text, return_dict=False)[0]
        return made.transpose(1, 2)


class OfInputs(nn.Module):
    def __init__(self, msdit: MSDiT) -> None:
        super().__init__()
        self.msdit = msdit

    def forward(self, inputs: Inputs) -> Tensor:
        made: Tensor = self.msdit(inputs.latents, inputs.time, inputs.text, inputs.text_mask, inputs.metadata)
        return made


def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    cfg = composed("train", "msdit=tiny", "vae=tiny", "text_encoder=tiny")
    of_msdit = to_dict(cfg.msdit)
    inputs = Inputs.draw(
        settings.batch_size,
        settings.num_latent_frames,
        of_msdit["latent_channels"],
        settings.latent_size,
        of_msdit["spatial_factor"],
        settings.num_text_tokens,
        of_msdit["text_dim"],
    )
    rows = []
    for precision in settings.precisions:
        torch.manual_seed(rule.seed)
        models = make_models(cfg.msdit, settings)
        if precision == "fp32":
            check_plain_is_the_same(models, inputs, settings.tolerance)
        steps = {name: training_step(model, inputs, precision, settings.lr) for name, model in models.items()}
        rounds = run_in_turn(steps, rule)
        rows += [
            compared("train_step", f"{precision}_{peer}", rounds, peer, rule, settings.targets[precision][peer])
            for peer in (LATTE, PLAIN)
        ]
    sizes = {name: num_parameters(model) for name, model in models.items()}
    said = ", ".join(f"{name} {size:,} parameters" for name, size in sizes.items())
    tokens = settings.num_latent_frames * (settings.latent_size // of_msdit["patch"]) ** 2
    print(f"train_step: {said}; {tokens} + {settings.num_text_tokens} tokens, {settings.batch_size} clips", flush=True)
    return rows


def make_models(node: DictConfig, settings: DictConfig) -> dict[str, nn.Module]:
    """Ours, the same function in plain blocks with the same weights, and Latte. Raises ValueError if sizes differ."""
    of_msdit = to_dict(node)
    ours, plain = build(node), build(node)
    of_blocks = ("dim", "num_heads", "mlp_ratio", "causal", "temporal_cross_attention", "rotary_base")
    with_plain_blocks(plain, **{name: of_msdit[name] for name in of_blocks})
    latte = LatteOfEqualSize(of_msdit, settings.latent_size, settings.num_latent_frames)
    for parameter in (*ours.parameters(), *latte.parameters()):  # zeros would make gradients that no training has
        nn.init.normal_(parameter, std=settings.weight_std)
    plain.load_state_dict(ours.state_dict())
    models: dict[str, nn.Module] = {"ours": OfInputs(ours), LATTE: latte, PLAIN: OfInputs(plain)}
    difference = abs(num_parameters(latte) / num_parameters(ours) - 1)
    if difference > settings.max_size_difference:
        raise ValueError(
            f"Latte has {num_parameters(latte):,} parameters and MSDiT {num_parameters(ours):,}: more apart than "
            f"train_step.max_size_difference={settings.max_size_difference}"
        )
    return models


def check_plain_is_the_same(models: Mapping[str, nn.Module], inputs: Inputs, tolerance: float) -> None:
    with torch.no_grad():
        ours, plain, latte = (models[name](inputs) for name in ("ours", PLAIN, LATTE))
    difference = float((ours - plain).abs().max() / plain.abs().max())
    if difference > tolerance or latte.shape != ours.shape or not bool(latte.isfinite().all()):
        raise RuntimeError(f"plain blocks differ from ours by {difference}, or Latte gave no finite latents")


def training_step(model: nn.Module, inputs: Inputs, precision: str, lr: float) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            made = model(inputs)
        (made.float() - inputs.latents).square().mean().backward()
        optimizer.step()

    return step


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
