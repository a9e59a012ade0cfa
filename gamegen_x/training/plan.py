"""What a run would be, without running it: parameters by part, tokens, memory. Networks are built without memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gamegen_x.config import build, to_dict
from gamegen_x.models.msdit import MSDiT
from gamegen_x.training.checks import MADE_UP, NETWORKS, check_run, is_made_up
from gamegen_x.training.instruct_task import unfrozen

TRAINED = {
    "vae": ("vae", "critic"),
    "pretrain": ("text_encoder", "msdit"),
    "instruct": ("instructnet",),
    "distill": ("instructnet",),
    "decoder": ("small_decoder",),
    "dynamics": ("transition",),
}
BYTES_OF_FLOAT32 = 4
BYTES_OF_OPTIMIZER = 8  # two moments of AdamW; Muon keeps one
BYTES_OF_AVERAGE = 4
VALUES_KEPT_PER_FEATURE = 17  # activations of a block kept for the backward pass, in features of a token; an estimate
GIB = 2**30


@dataclass(frozen=True)
class Load:
    """What one step of one bucket asks of one device."""

    name: str
    share: float
    clips: int
    video_frames: int
    latent_frames: int
    tokens: int  # of all clips; 0 where no transformer runs


def print_plan(cfg: DictConfig) -> None:
    """Prints a readable plan, and the same as one line of JSON at the end."""
    plan = make_plan(cfg)
    print(f"{cfg.name}: stage {cfg.stage}" + (f"; {MADE_UP}" if is_made_up(cfg) else ""))
    for name, count in plan["parameters"].items():
        state = "frozen, of others, not counted" if count is None else f"{count / 1e6:10.2f} M"
        print(f"  {name:<14}{state}{'  trained' if name in plan['trained'] else ''}")
    for load in plan["buckets"]:
        print(
            f"  {load['name']:<16}{load['share']:6.2%}  {load['clips']} x {load['video_frames']} frames, "
            f"{load['latent_frames']} latent, {load['tokens']} tokens a step"
        )
    print(f"  memory of a device: {plan['memory_gib_per_device']} GiB, of which state {plan['state_gib_per_device']}")
    if plan["refused"]:
        print(f"  as things are, the run itself would be refused: {plan['refused']}")
    print(json.dumps(plan))


def make_plan(cfg: DictConfig) -> dict[str, Any]:
    parts = {name: _network(cfg[name]) for name in NETWORKS if name in cfg.task}
    if cfg.task.get("critic") is not None:
        parts["critic"] = _network(cfg.task.critic)
    counts = {name: None if part is None else _count(part) for name, part in parts.items()}
    trained = [name for name in TRAINED[cfg.stage] if parts.get(name) is not None]
    num_trained = sum(_count(parts[name], trained_only=True) for name in trained)
    if cfg.stage in ("instruct", "distill") and cfg.task.unfreeze != "none":
        trained.append("msdit")
        thawed = unfrozen(cast(MSDiT, parts["msdit"]), cfg.task.unfreeze)
        num_trained += sum(weight.numel() for part in thawed for weight in _weights(part))
    num_frozen = sum(count or 0 for count in counts.values()) - num_trained
    if cfg.stage == "distill":  # a teacher, and a fake score that is trained whole
        model = sum(_count(parts[name]) for name in ("msdit", "instructnet"))
        num_trained, num_frozen = num_trained + model, num_frozen + model
    devices = cfg.trainer.devices if isinstance(cfg.trainer.devices, int) else 1
    world_size = devices * cfg.trainer.num_nodes
    buckets = loads(cfg, parts)
    tokens = sum(load.share * load.tokens for load in buckets)
    state = _state_bytes(cfg, num_trained, num_frozen, world_size)
    activations = _activation_bytes(cfg, max(load.tokens for load in buckets))
    return {
        "stage": cfg.stage,
        "steps": cfg.steps if cfg.steps > 0 else None,
        "epochs": cfg.trainer.max_epochs if cfg.trainer.max_epochs > 0 else None,
        "devices": world_size,
        "parameters": counts,
        "trained": trained,
        "parameters_trained": num_trained,
        "buckets": [load.__dict__ for load in buckets],
        "tokens_per_step_mean": round(tokens * world_size * cfg.trainer.accumulate_grad_batches),
        "tokens_per_step_max": max(load.tokens for load in buckets) * world_size,
        "tflop_per_step": round(6 * num_trained * tokens * world_size / 1e12, 3),
        "state_gib_per_device": round(state / GIB, 3),
        "memory_gib_per_device": round((state + activations) / GIB, 3),
        "refused": _refusal(cfg),
    }


def _refusal(cfg: DictConfig) -> str | None:
    """Why the run would be refused before it begins, such as data or weights that are not there yet."""
    try:
        check_run(cfg)
    except (OSError, ValueError) as mistake:
        return str(mistake)
    return None


def loads(cfg: DictConfig, parts: Mapping[str, nn.Module | None]) -> list[Load]:
    """What each bucket's steps hold. Sizes that only the data knows are those of one 64 x 64 view."""
    vae, players = parts.get("vae"), OmegaConf.select(cfg, "data.dataset.num_players") or 1
    views = players if cfg.data.views == "all" else 1
    buckets = to_dict(cfg.data).get("buckets") or {"all": {**to_dict(cfg.data), "share": 1.0}}
    found = []
    for name, bucket in buckets.items():
        frames, clips = bucket["num_frames"], bucket["batch_size"] * views
        height = bucket["height"] or OmegaConf.select(cfg, "data.dataset.height") or 64
        width = bucket["width"] or OmegaConf.select(cfg, "data.dataset.width") or 64
        latent_frames = 0 if vae is None else vae.num_latent_frames(frames)  # type: ignore[operator]
        tokens = 0
        if "msdit" in parts:
            patch = cfg.msdit.patch * vae.spatial_factor  # type: ignore[union-attr]
            tokens = clips * latent_frames * -(-height // patch) * -(-width // patch)
        found.append(Load(name, bucket["share"], clips, frames, latent_frames, tokens))
    return found


def _network(node: DictConfig) -> nn.Module | None:
    """A network whose tensors have shapes and no memory; None for one that is read from files of others, by `path`."""
    if "path" in node:
        return None
    with torch.device("meta"):
        network: nn.Module = build(node)
    return network


def _count(network: nn.Module | None, trained_only: bool = False) -> int:
    if network is None:
        return 0
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trained_only)


def _weights(part: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return [part] if isinstance(part, nn.Parameter) else list(part.parameters())


def _state_bytes(cfg: DictConfig, num_trained: int, num_frozen: int, world_size: int) -> float:
    """Weights, gradients, the optimizer's state and the average, with what ZeRO cuts into pieces."""
    stage = OmegaConf.select(cfg, "trainer.strategy.stage") or 0
    weights = (num_trained + num_frozen) * BYTES_OF_FLOAT32
    gradients = num_trained * BYTES_OF_FLOAT32 / (world_size if stage >= 2 else 1)
    optimizer = num_trained * BYTES_OF_OPTIMIZER / (world_size if stage >= 1 else 1)
    average = num_trained * BYTES_OF_AVERAGE if cfg.callbacks.get("ema") is not None else 0
    return weights + gradients + optimizer + average


def _activation_bytes(cfg: DictConfig, tokens: int) -> float:
    if not tokens:
        return 0.0
    bytes_of_value = 2 if cfg.precision == "bf16" else 4
    is_steered = cfg.stage in ("instruct", "distill")
    num_blocks = 2 * cfg.msdit.num_pairs + (cfg.instructnet.num_blocks if is_steered else 0)
    num_blocks *= 2 if cfg.stage == "distill" else 1  # the student's, and its fake score's
    kept = num_blocks * VALUES_KEPT_PER_FEATURE * bytes_of_value
    if cfg.task.gradient_checkpointing:  # what goes into each block, which gates make float32, and one block's own
        kept = num_blocks * BYTES_OF_FLOAT32 + VALUES_KEPT_PER_FEATURE * bytes_of_value
    return float(tokens * kept * cfg.msdit.dim)
