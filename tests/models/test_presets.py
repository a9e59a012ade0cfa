"""Presets differ in YAML only: each builds, has the size that it claims, and learns in every parameter."""

import math
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gamegen_x.config import CONFIGS, build
from gamegen_x.models.gamegen import Conditions, GameGenX
from gamegen_x.training.vae_losses import verdict

PRESETS = ["tiny", "small", "base", "paper"]
PAPER_BUCKETS = [  # height, width, video frames -> latent frames (SPEC: 102 -> 30)
    (1024, 1024, 102, 30), (1024, 1024, 51, 15), (1024, 1024, 1, 1), (480, 848, 204, 60), (480, 848, 408, 120),
    (480, 848, 89, 26), (720, 1280, 102, 30), (512, 512, 51, 15),
]  # fmt: skip


def composed(preset, *overrides):
    """The networks' nodes of a preset; the paper's text encoder is represented by its width."""
    text_encoder = preset if preset in ("tiny", "small") else "paper"
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose(
            "train",
            [
                f"vae={preset}", f"msdit={preset}", f"instructnet={preset}", f"text_encoder={text_encoder}",
                "output=unused", *overrides,
            ],
        )  # fmt: skip
    OmegaConf.resolve(cfg.msdit)
    OmegaConf.resolve(cfg.instructnet)
    return cfg


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(node):
    with torch.device("meta"):
        return build(node)


def test_paper_foundation_has_about_1_1_billion_parameters_in_28_pairs_of_blocks():
    msdit = on_meta(composed("paper").msdit)
    assert len(msdit.blocks) == 2 * 28
    assert [block.temporal for block in msdit.blocks[:4]] == [False, True, False, True]
    by_part = {
        part: sum(num_parameters(getattr(block, part)) for block in msdit.blocks) / 1e6
        for part in ("attention", "cross_attention", "mlp")
    }
    dim = 1152
    assert by_part["attention"] == pytest.approx(56 * 4 * dim**2 / 1e6, rel=0.01)
    assert by_part["cross_attention"] == pytest.approx(56 * 4 * dim**2 / 1e6, rel=0.01)
    assert by_part["mlp"] == pytest.approx(56 * 8 * dim**2 / 1e6, rel=0.01)
    assert 1.05e9 < num_parameters(msdit) < 1.25e9


def test_paper_instructnet_has_28_blocks_alternately_spatial_and_temporal():
    instructnet = on_meta(composed("paper").instructnet)
    assert [each.block.temporal for each in instructnet.blocks] == [False, True] * 14


@pytest.mark.parametrize(("height", "width", "frames", "latent_frames"), PAPER_BUCKETS)
def test_paper_buckets_pass_through_vae_and_foundation_with_their_shapes(height, width, frames, latent_frames):
    cfg = composed("paper", "msdit.num_pairs=1")
    vae, msdit = on_meta(cfg.vae), on_meta(cfg.msdit)
    video = torch.zeros(1, frames, 3, height, width, device="meta")
    latents = vae.encode(video).mean
    assert latents.shape == (1, latent_frames, 4, height // 8, width // 8)
    assert vae.decode(latents, frames).shape == video.shape
    model = GameGenX(msdit, None)
    conditions = some_conditions(1, 1, latent_frames, 1, 300, 4096, device="meta")
    if latents.shape[-2] % 2 == 0 and latents.shape[-1] % 2 == 0:
        velocity = model(latents[:, None], torch.zeros(1, 1, latent_frames, device="meta"), conditions)
        assert velocity.shape == latents[:, None].shape


def some_conditions(b, p, t, num_keys, num_tokens, text_dim, device="cpu"):
    return Conditions(
        text=torch.randn(b, num_tokens, text_dim, device=device),
        text_mask=(torch.arange(b, device=device) % 2 == 0)[:, None].expand(b, num_tokens),
        fps=torch.full((b,), 24.0, device=device),
        num_frames=torch.full((b,), 4.0 * t, device=device),
        actions=torch.rand(b, p, t, 4, num_keys, device=device).round(),
        has_actions=(torch.arange(b, device=device) % 3 != 0)[:, None].expand(b, p),
        instruction=torch.randn(b, num_tokens, text_dim, device=device),
        instruction_mask=torch.ones(b, num_tokens, dtype=torch.bool, device=device),
        is_instructed=torch.ones(b, t, dtype=torch.bool, device=device),
        video_prompt=None,
        has_prompt=torch.zeros(b, dtype=torch.bool, device=device),
    )


def learns_everywhere(parameters, step):
    """Names of parameters that had no gradient in any of three steps of Adam."""
    parameters = dict(parameters)
    silent = set(parameters)
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        step().backward()
        silent -= {name for name, value in parameters.items() if value.grad is not None and value.grad.abs().sum() > 0}
        optimizer.step()
    return silent


@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_of_every_vae_gets_a_gradient(preset):
    cfg = composed(preset)
    for stage in cfg.vae.stages:  # the preset's structure at a width that a CPU likes
        stage.channels = min(stage.channels, cfg.vae.num_groups * 2)
    vae = build(cfg.vae)
    video = torch.rand(2, 8, 3, 16, 16) * 2 - 1

    def step():
        posterior = vae.encode(video)
        made = vae.decode(posterior.sample(torch.randn_like(posterior.mean)), 8)
        return (made - video).square().mean() + 1e-3 * posterior.kl()

    assert not learns_everywhere(vae.named_parameters(), step)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_of_every_foundation_and_instructnet_gets_a_gradient(preset):
    small = ["msdit.dim=64", "msdit.num_heads=2", "msdit.num_pairs=2", "instructnet.num_blocks=3"]
    cfg = composed(preset, *(small if preset != "tiny" else []))
    msdit, instructnet = build(cfg.msdit), build(cfg.instructnet)
    latents, time = torch.randn(4, 1, 3, cfg.vae.latent_channels, 4, 4), torch.rand(4, 1, 3)
    conditions = some_conditions(4, 1, 3, cfg.instructnet.num_keys, cfg.msdit.max_text_tokens, cfg.text_encoder.dim)

    def loss_of(model, conditions):
        return lambda: (model(latents, time, conditions) - latents).square().mean()

    assert not learns_everywhere(msdit.named_parameters(), loss_of(GameGenX(msdit, None), conditions))

    # Stage two begins where stage one ended: on a foundation that has learned.
    instructnet.start_from(msdit)
    prompted = replace(conditions, video_prompt=torch.randn_like(latents), has_prompt=torch.ones(4, dtype=torch.bool))
    model = GameGenX(msdit, instructnet)
    assert not learns_everywhere(instructnet.named_parameters(), loss_of(model, prompted))


@pytest.mark.parametrize("preset", ["tiny", "small"])  # the paper's is pretrained and frozen
def test_every_parameter_of_a_text_encoder_that_trains_along_gets_a_gradient_through_the_foundation(preset):
    cfg = composed(preset, "msdit.dim=64", "msdit.num_heads=1", "msdit.num_pairs=1")
    text_encoder, msdit = build(cfg.text_encoder), build(cfg.msdit)
    latents, time = torch.randn(2, 1, 3, cfg.vae.latent_channels, 4, 4), torch.rand(2, 1, 3)
    silent = some_conditions(2, 1, 3, cfg.instructnet.num_keys, cfg.msdit.max_text_tokens, cfg.text_encoder.dim)

    def step():
        text, text_mask = text_encoder.encode(["Two players walk through a winter land.", "Night."])
        said = replace(silent, text=text, text_mask=text_mask)
        return (GameGenX(msdit, None)(latents, time, said) - latents).square().mean()

    together = dict(text_encoder.named_parameters()) | {f"msdit.{name}": p for name, p in msdit.named_parameters()}
    unheard = {name for name in learns_everywhere(together.items(), step) if not name.startswith("msdit.null_text")}
    assert not unheard


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_every_parameter_of_every_critic_gets_a_gradient(preset):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [f"task/critic={preset}", "output=unused"]).task.critic
    cfg.channels = 8
    critic, real, made = build(cfg), *(torch.rand(2, 2, 4, 3, 32, 32) * 2 - 1)
    assert not learns_everywhere(critic.named_parameters(), lambda: verdict(critic, made, real).critic)


def test_the_tiny_networks_fit_into_25_megabytes_of_bfloat16():
    cfg = composed("tiny")
    total = sum(num_parameters(on_meta(node)) for node in (cfg.vae, cfg.msdit, cfg.instructnet))
    assert 2 * (total + num_parameters(build(cfg.text_encoder))) < 25e6


def test_own_presets_use_heads_that_attention_kernels_need_not_pad():
    for preset in ("tiny", "small", "base"):
        cfg = composed(preset).msdit
        assert cfg.dim // cfg.num_heads in (64, 128)
        assert math.isclose(cfg.dim % cfg.num_heads, 0)
