"""Decoding of VideoVAE `tiny`: beside Wan 2.1's autoencoder, streamed beside whole clips, small beside full."""

from __future__ import annotations

from collections.abc import Callable

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import Rule, run_in_turn
from benchmarks.rows import Row, compared_rates
from benchmarks.settings import composed
from gamegen_x.config import build, to_dict
from gamegen_x.models.vae import VideoVAE

PART = "vae_decode"
WAN, WHOLE, STREAMED, SMALL = "wan", "whole clip", "streamed", "small decoder"


def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    torch.manual_seed(rule.seed)
    cfg = composed("train", "vae=tiny")
    vae: VideoVAE = build(cfg.vae).eval()
    live_vae = vae.with_decoder(build(cfg.small_decoder)).eval()
    wan = make_wan(settings)
    side = settings.size // vae.spatial_factor
    latents = torch.randn(settings.batch_size, settings.num_latent_frames, vae.latent_channels, side, side)
    of_wan = torch.randn(settings.batch_size, settings.peer.z_dim, settings.num_latent_frames, side, side)
    check_streams_alike(vae, latents, settings.max_difference)

    def decode_wan() -> Tensor:
        made: Tensor = wan.decode(of_wan, return_dict=False)[0]
        return made

    def decode_streamed(vae: VideoVAE) -> None:
        stream = vae.start_decoding()
        for frame in latents.split(1, dim=1):
            stream, _ = vae.decode_next(stream, frame)

    runs: dict[str, Callable[[], object]] = {
        WHOLE: lambda: vae.decode(latents),
        STREAMED: lambda: decode_streamed(vae),
        WAN: decode_wan,
    }
    ours_frames = settings.batch_size * settings.num_latent_frames * vae.temporal_factor
    with torch.no_grad():
        wan_frames = decode_wan().shape[2] * settings.batch_size
        for name, network, run, frames in (
            ("ours", vae, runs[WHOLE], ours_frames),
            (WAN, wan, decode_wan, wan_frames),
        ):
            flops = count_flops(run) / (frames * settings.size**2)
            print(f"{PART}: {name} {num_parameters(network):,} parameters, {flops:,.0f} FLOP a pixel", flush=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            rounds = run_in_turn(runs, rule)
        live = {STREAMED: runs[STREAMED], SMALL: lambda: decode_streamed(live_vae)}
        live_rounds = run_in_turn(live, rule)  # in fp32, as `serve` has it
    amounts: dict[str, float] = {WHOLE: ours_frames, STREAMED: ours_frames, SMALL: ours_frames, WAN: wan_frames}
    targets = settings.targets
    return [
        compared_rates(PART, "whole_clip", "frames/s", rounds, amounts, WAN, rule, targets.wan, ours=WHOLE),
        compared_rates(PART, "streamed", "frames/s", rounds, amounts, WHOLE, rule, targets.streamed, ours=STREAMED),
        compared_rates(PART, "small", "frames/s", live_rounds, amounts, STREAMED, rule, targets.small, ours=SMALL),
    ]


def make_wan(settings: DictConfig) -> nn.Module:
    """Wan 2.1's autoencoder (8x8x4, 16 channels) at another width, from random weights."""
    from diffusers import AutoencoderKLWan

    wan: nn.Module = AutoencoderKLWan(**to_dict(settings.peer)).eval()
    return wan


@torch.no_grad()
def check_streams_alike(vae: VideoVAE, latents: Tensor, max_difference: float) -> None:
    whole, stream, parts = vae.decode(latents), vae.start_decoding(), []
    for frame in latents.split(1, dim=1):
        stream, part = vae.decode_next(stream, frame)
        parts.append(part)
    difference = float((torch.cat(parts, dim=1) - whole).abs().max())
    if difference > max_difference:
        raise RuntimeError(f"a streamed clip differs from the whole one by {difference}, allowed is {max_difference}")


def count_flops(run: Callable[[], object]) -> int:
    """Multiplications and additions of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
