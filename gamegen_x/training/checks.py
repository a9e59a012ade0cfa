"""What can be said about a training run from its config alone: before torch is imported and anything is built."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gamegen_x.config import to_dict
from gamegen_x.data.checks import check_data
from gamegen_x.schema.weights_folder import DISTILLED, check_files, is_of_others, read_config

NETWORKS = ("vae", "text_encoder", "msdit", "instructnet", "small_decoder", "transition")
NEEDED: Mapping[str, Sequence[str]] = {  # from the stages before
    "vae": (),
    "decoder": ("vae",),
    "pretrain": ("vae",),
    "instruct": ("vae", "text_encoder", "msdit"),
    "distill": ("vae", "text_encoder", "msdit", "instructnet"),
    "dynamics": (),
}
ADDED_BY = {"decoder": "small_decoder", "dynamics": "transition"}  # stages that leave all other networks as they are
# What a network may have that its weights lack: each starts so that it changes nothing. By argument, and by module.
ADDED = ("players", "state_channels", "expects_words")
NEW_PARTS = ("players", "embed_state", "embed_words")
FEWER_BLOCKS = "small_decoder"  # may begin as a larger one of which it keeps the first blocks at each size
CHECKPOINTS = "checkpoints"
MADE_UP = "the clips are made up (data=synthetic); for others give e.g. data=snowglobe data.dataset.folder=<shards>"


def check_run(cfg: DictConfig) -> None:
    """Raises ValueError or FileNotFoundError for a run that cannot start as configured."""
    if not is_first_process():
        return  # the first has looked already, and may have begun to write
    check_output(Path(cfg.output), cfg.resume)
    _check_play(cfg)
    check_foreign_files(cfg)
    if cfg.weights is not None:
        check_weights(Path(cfg.weights), cfg)
    elif cfg.stage in ADDED_BY or (NEEDED[cfg.stage] and cfg.task.get("latent_scale") is None):
        # stands on a trained vae: of latents alone numbers by hand will do, but some stages add to a folder
        if cfg.stage == "dynamics":
            raise ValueError(
                "task=dynamics adds a network to a folder of weights, but weights is null; give those that you want to "
                "play with, e.g. weights=outputs/<name>_instruct/weights, and the recordings that they learned from: "
                "data=multiplayer_traces data.dataset.folder=<shards> action_space=<game>"
            )
        needed = " and ".join(NEEDED[cfg.stage])
        raise ValueError(
            f"task={cfg.stage} stands on a trained {needed}, but weights is null; "
            f"give weights=<folder>, e.g. weights=outputs/snowglobe_{_stage_before(cfg.stage)}/weights"
        )
    check_data(to_dict(cfg.data))
    if "msdit" in cfg.task and cfg.data.content == "frames" and cfg.data.get("state") is not None:
        raise ValueError(
            f"task={cfg.stage} is told a state that is drawn beside latents, and data.content=frames has none; "
            "choose state=none, or data.content=latents"
        )
    optimizer = str(cfg.task.optimizer._target_)
    is_zero = "zero_strategy" in str(OmegaConf.select(cfg, "trainer.strategy._target_"))
    if is_zero and cfg.trainer.strategy.stage not in (1, 2):
        raise ValueError(
            f"trainer.strategy.stage is 1 or 2, got {cfg.trainer.strategy.stage}: weights are averaged, shown in "
            "previews and exported whole"
        )
    if "muon" in optimizer and is_zero:
        raise ValueError(
            "Muon needs whole matrices, and ZeRO cuts the optimizer's state into flat pieces; "
            "use optimizer=adamw, or a trainer that is not deepspeed_*"
        )


def _check_play(cfg: DictConfig) -> None:
    """Raises ValueError where play is asked for that is not learned from, or the reverse."""
    plays, share = cfg.data.get("play_along") is not None, OmegaConf.select(cfg, "task.past.played_share") or 0.0
    if cfg.stage == "decoder" and cfg.data.content == "frames":
        return
    if plays and (not share or cfg.data.content != "latents"):
        raise ValueError(
            "data.play_along is for task=decoder with data.content=frames, or for causal networks that stand on it "
            f"(past.played_share above 0, data.content=latents), got task={cfg.stage} with "
            f"data.content={cfg.data.content} and past.played_share={share}; set data.play_along=null"
        )
    if share and not plays:
        needed = "" if cfg.data.content == "latents" else " and data.content=latents"
        raise ValueError(
            f"past.played_share={share}, but nobody plays the clips along; add "
            f"+play_along@data.play_along=default{needed}, or set past.played_share=0"
        )


def is_made_up(cfg: DictConfig) -> bool:
    """Whether a run would learn nothing but moving discs, because nobody named data."""
    return str(cfg.data.dataset._target_).startswith("gamegen_x.data.synthetic.")


def check_output(output: Path, resume: bool | str) -> None:
    """A run never writes over another one."""
    if resume not in (True, False, "auto"):
        raise ValueError(f"resume is true, false or auto, got {resume!r}")
    if output.is_file():
        raise ValueError(f"output={output} is a file, expected a folder for the run")
    if not resume and (output / CHECKPOINTS).is_dir() and any((output / CHECKPOINTS).iterdir()):
        raise ValueError(
            f"{output} already holds a run; continue it with resume=true, or choose another folder with name=<name>"
        )
    if resume is True and not output.is_dir():
        raise FileNotFoundError(f"resume=true, but there is no run in {output}; start it without resume, or set name")


def check_foreign_files(cfg: DictConfig) -> None:
    """Networks of others are there, where a local file is meant."""
    vgg = OmegaConf.select(cfg, "task.perceptual.weights")
    if vgg is not None and not Path(vgg).is_file():
        raise FileNotFoundError(
            f"task.perceptual.weights: no file {vgg}; put torchvision's vgg16-397923af.pth there, "
            "or use task/perceptual=gradients or null, which need none"
        )
    t5 = OmegaConf.select(cfg, "task.text_encoder.path")
    is_local = t5 is not None and (t5.startswith(("/", ".", "~")) or t5.count("/") > 1)  # the Hub's names: owner/name
    if is_local and not Path(t5).is_dir():
        raise FileNotFoundError(
            f"text_encoder.path: no folder {t5}; put the files of google/t5-v1_1-xxl there (config.json, tokenizer and "
            "weights), name a T5 of the Hub, or use text_encoder=tiny, which needs none"
        )


def check_weights(folder: Path, cfg: DictConfig) -> None:
    """The networks of a weights folder must be those that this run builds."""
    described = read_config(folder)
    networks = described["networks"]
    if cfg.stage == "dynamics":
        before, now = list(described["action_space"]["keys"]), list(cfg.action_space["keys"])
        if before != now:
            raise ValueError(
                f"{folder} knows the keys {before}, this run {now}, and its network would stand beside the others; "
                f"set action_space={described['action_space']['name']}, or give other weights"
            )
    elif "transition" in networks and described.get("places") is None:
        raise ValueError(
            f"{folder} holds a transition network of an earlier version, which does not say what it steps; train it "
            "again (task=dynamics), or go on from a folder without it"
        )
    if cfg.stage in ("pretrain", "instruct", "distill") and described["kind"] == DISTILLED:
        raise ValueError(
            f"{folder} is distilled: it knows one look only, can teach nobody and learns no flow; "
            "give the weights that it learned from"
        )
    more = is_told_more(described.get("drawn_state"), to_dict(cfg.data).get("state"))
    missing = [name for name in NEEDED[cfg.stage] if name not in networks]
    if missing:
        raise ValueError(
            f"{folder} holds {sorted(networks)}, but task={cfg.stage} stands on {missing} too; "
            f"train stage {_stage_before(cfg.stage)} first, and give its weights folder"
        )
    for name in NETWORKS:
        if name in networks and name in cfg.task:
            mine = to_dict(cfg[name])
            new = {
                added for added in ADDED if networks[name].get(added) is None or (added == "state_channels" and more)
            }
            theirs = networks[name] | {added: mine.get(added) for added in new}
            if is_of_others(mine):  # it may stand elsewhere on this machine
                theirs = theirs | {"path": mine["path"]}
            if name == FEWER_BLOCKS:
                theirs = with_fewer_blocks(theirs, mine)
            differing = differences(theirs, mine)
            if differing:
                shown = "; ".join(differing[:3])
                raise ValueError(
                    f"{folder} holds a {name} of another preset: {shown} (weights, then this run); "
                    f"choose the same with {_chooses(name, differing)}, or other weights"
                )
            check_files(folder, {name: networks[name]})


def _chooses(name: str, differing: Sequence[str]) -> str:
    """What decides on the first thing in which networks differ."""
    return next(
        (f"{group}=..." for group in ("state", "players") if differing[0].startswith(group)), f"{name}=<preset>"
    )


def with_fewer_blocks(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Mapping[str, Any]:
    """A decoder's description with no more blocks at any size than another one's; blocks add to what comes in."""
    if len(theirs["stages"]) != len(mine["stages"]):
        return theirs
    sizes = zip(theirs["stages"], mine["stages"], strict=True)
    stages = [{**size, "decoder_blocks": min(size["decoder_blocks"], own["decoder_blocks"])} for size, own in sizes]
    return {**theirs, "stages": stages}


def is_told_more(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Whether this run draws what weights were told, and more after it: no setting of their drawer has changed."""
    if before is None or now is None:
        return False
    had, has = before["drawer"], now["drawer"]
    return not differences(had, {name: has.get(name) for name in had})


def differences(theirs: Any, mine: Any, place: str = "") -> list[str]:
    """Where two descriptions differ, as `place: theirs, mine`."""
    if isinstance(theirs, Mapping) and isinstance(mine, Mapping):
        found = []
        for key in sorted(theirs.keys() | mine.keys()):
            found += differences(theirs.get(key), mine.get(key), f"{place}.{key}" if place else str(key))
        return found
    if isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        return [
            line
            for number, pair in enumerate(zip(theirs, mine, strict=True))
            for line in differences(*pair, place=f"{place}[{number}]")
        ]
    return [] if theirs == mine else [f"{place} is {theirs}, {mine}"]


def is_first_process() -> bool:
    return all(int(os.environ.get(name, "0")) == 0 for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


def _stage_before(stage: str) -> str:
    return {"instruct": "pretrain", "distill": "instruct"}.get(stage, "vae")
