"""A run's networks, with their average weights, as one folder that sampling and the next stage can load.

python -m gamegen_x.training.export checkpoint=outputs/snowglobe_vae/checkpoints/step-00002000 output=weights/mine
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from gamegen_x.config import build, entry_point, to_dict
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.weights_folder import DISTILLED, is_of_others, read_config
from gamegen_x.training.checks import ADDED_BY, NETWORKS

if TYPE_CHECKING:
    from torch import Tensor

    from gamegen_x.training.task import Task

RUN_CONFIG = "config.yaml"  # in the folder of every run
RUN_FACTS = "facts.json"  # what only the data could tell
ZERO_TAG = "checkpoint"  # the folder that Lightning tells DeepSpeed to write
# Networks of the folder a run started from that its stage neither changes nor makes useless: they are kept beside.
KEPT = {
    "vae": ("transition",),
    "decoder": ("text_encoder", "msdit", "instructnet", "transition"),
    "dynamics": ("vae", "text_encoder", "msdit", "instructnet", "small_decoder"),
    "pretrain": ("small_decoder", "transition"),
    "instruct": ("small_decoder", "transition"),
    "distill": ("small_decoder", "transition"),
}


def describe(cfg: DictConfig, task: Task, facts: Mapping[str, Any], made_by: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a weights folder. `facts`: fps, height, width, and (of newer runs) num_players, sentences."""
    shift, scale = task.latent_normalisation()
    space = ActionSpace(cfg.action_space.name, tuple(cfg.action_space["keys"]))
    has_msdit = "msdit" in cfg.task
    before = {} if cfg.weights is None else read_config(cfg.weights)
    kept = {name: before["networks"][name] for name in KEPT[cfg.stage] if before and name in before["networks"]}
    if kept and list(before["action_space"]["keys"]) != list(space.keys):
        kept.pop("transition", None)  # it reads keys by their place in the vector
    described = {
        "kind": _kind(cfg),
        **{name: facts[name] for name in ("fps", "height", "width")},
        # How many players one view may follow; where views do not see each other that is one, however many there were.
        "num_players": facts.get("num_players") if has_msdit and cfg.players is not None else 1,
        "sentences": _sentences(facts, before) if "instructnet" in cfg.task else None,
        "action_space": space.to_dict(),
        "latent_scale": scale,
        "latent_shift": shift,
        "sampler": to_dict(cfg.sampler),
        # How the state that the networks are told is drawn.
        "drawn_state": drawn_state(cfg) if has_msdit else None,
        "places": before["places"] if "transition" in kept else None,  # that the transition network steps
        "networks": kept | {name: to_dict(cfg[name]) for name in NETWORKS if name in cfg.task},
        "made_by": {**made_by, "commit": _commit()},
    }
    if cfg.stage in ADDED_BY:
        made = {**before["made_by"], ADDED_BY[cfg.stage]: described["made_by"]}
        stepped = {"places": to_dict(cfg.data.places)} if cfg.stage == "dynamics" else {}
        return {**before, **stepped, "networks": described["networks"], "made_by": made}
    return described


def _kind(cfg: DictConfig) -> str:
    if cfg.stage == "distill":
        return DISTILLED
    return "causal" if "msdit" in cfg.task and cfg.msdit.causal else "base"


def _sentences(facts: Mapping[str, Any], before: Mapping[str, Any]) -> list[str] | None:
    """What worlds were told in this run and in those that it stands on; None where one of them does not say."""
    earlier = before.get("sentences") if "instructnet" in before.get("networks", {}) else []
    now = facts.get("sentences")
    return None if earlier is None or now is None else sorted({*earlier, *now})


def drawn_state(cfg: DictConfig) -> dict[str, Any] | None:
    """How a run draws the state that it tells its networks; None where it tells them none (`state=none`)."""
    drawn: dict[str, Any] | None = to_dict(cfg.data).get("state")
    return drawn if drawn is not None and drawn["channels"] is not None else None


def write_weights(task: Task, folder: Path, config: Mapping[str, Any], dtype: str, before: str | None) -> None:
    """Writes the task's networks as they are now, and copies those that are kept from the weights folder `before`.

    Use `EMA.applied` around it.
    """
    import torch

    from gamegen_x.models.weights import load_network, save_networks

    networks = task.networks()
    kept = config["networks"].keys() - networks.keys()
    assert before is not None or not kept
    kept = {name for name in kept if not is_of_others(config["networks"][name])}
    for name in kept:
        with atomic_file(folder / f"{name}.safetensors") as path:
            shutil.copyfile(Path(str(before)) / f"{name}.safetensors", path)
    save_networks(folder, networks, config, getattr(torch, dtype))
    everything = networks | {name: load_network(folder, name) for name in kept}
    with atomic_file(folder / "README.md") as path:
        path.write_text(
            _card(config, {name: sum(p.numel() for p in net.parameters()) for name, net in everything.items()})
        )


def trained_weights(checkpoint: Path) -> tuple[dict[str, Tensor], int]:
    """The weights of a checkpoint (their average, where the run kept one) and its step. Consolidates ZeRO's shards."""
    import torch

    if checkpoint.is_dir():
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        shard = torch.load(
            checkpoint / ZERO_TAG / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=False
        )  # DeepSpeed writes objects; this is the user's own run
        weights = dict(get_fp32_state_dict_from_zero_checkpoint(str(checkpoint), tag=ZERO_TAG))
        callbacks, step = shard["callbacks"], shard["global_step"]
    else:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights, callbacks, step = stored["state_dict"], stored["callbacks"], stored["global_step"]
    average = callbacks.get("EMA", {}).get("average", {})
    return weights | {name: value for name, value in average.items() if name in weights}, step


def load_trained(task: Task, weights: Mapping[str, Tensor]) -> None:
    """Puts a checkpoint's weights into a task."""
    import torch

    from gamegen_x.training.task import check_shapes

    state = task.saved_state()
    check_shapes(state, weights, "the checkpoint")
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(weights[name])


@entry_point("export", {"checkpoint": str, "output": str, "run": str})
def main(cfg: DictConfig) -> None:
    import json

    checkpoint = Path(cfg.checkpoint)
    run = checkpoint.parent.parent if cfg.run is None else Path(cfg.run)
    if not checkpoint.exists():
        raise FileNotFoundError(
            f"no checkpoint {checkpoint}; a run keeps them as outputs/<name>/checkpoints/step-<step>"
        )
    for name in (RUN_CONFIG, RUN_FACTS):
        if not (run / name).is_file():
            raise FileNotFoundError(f"no {run / name}; name the run's folder with run=outputs/<name>")

    import torch

    from gamegen_x.training.checkpoints import finished
    from gamegen_x.training.run import fill_task

    known = {one.path.name: one for one in finished(checkpoint.parent)}
    fault = known[checkpoint.name].fault() if checkpoint.name in known else "it was never finished"
    if fault is not None:
        raise ValueError(f"checkpoint {checkpoint} cannot be used: {fault}; take one of {sorted(known)}")
    run_cfg = OmegaConf.load(run / RUN_CONFIG)
    assert isinstance(run_cfg, DictConfig)
    facts = json.loads((run / RUN_FACTS).read_text())
    torch.manual_seed(run_cfg.seed)  # networks that nobody trained yet are those of the run
    task = build(run_cfg.task)
    fill_task(task, run_cfg.weights)
    weights, step = trained_weights(checkpoint)
    load_trained(task, weights)
    config = describe(run_cfg, task, facts, {"checkpoint": str(checkpoint), "step": step})
    write_weights(task, Path(cfg.output), config, cfg.dtype, run_cfg.weights)
    print(json.dumps({"weights": str(cfg.output), "step": step}))


def _commit() -> str | None:
    """The commit of the code, where it lies in a git checkout."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()


def _card(config: Mapping[str, Any], num_parameters: Mapping[str, int]) -> str:
    lines = [
        "# Weights of GameGen-X",
        "",
        f"{config['width']}x{config['height']} pixels, {config['fps']:g} frames a second, "
        f"keys {' '.join(config['action_space']['keys'])}.",
        "",
        "| network | parameters |",
        "|---|---|",
        *(f"| {name} | {count / 1e6:.2f} M |" for name, count in num_parameters.items()),
        "",
        "Made by:",
        "",
        *(f"- {name}: `{value}`" for name, value in config["made_by"].items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
