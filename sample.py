"""Samples one clip from a prompt, keys, an instruction or first frames, and writes it as MP4 (configs/sample.yaml)."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from gamegen_x.config import check_seed, entry_point, has_rules, rules_know
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction
from gamegen_x.schema.trace import MAX_PLAYERS, Trace
from gamegen_x.schema.weights_folder import (
    as_learned,
    check_files,
    check_players_stepped,
    check_transition,
    players_together,
    read_config,
    warn_of_players,
    warn_of_sentence,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gamegen_x.games.dynamics import RulesDynamics
    from gamegen_x.sampling.clip_sampler import SampleRequest
    from gamegen_x.sampling.learned_world import LearnedDynamics
    from gamegen_x.sampling.networks import Networks
    from gamegen_x.world.facts import Facts

DEFAULT_FRAMES = 102
MOST_STRETCHED = 0.5  # log of a video's width over height against that of the weights; beyond it the user is warned


@entry_point(
    "sample",
    {
        "num_frames": int,
        "game": dict,
        "instruction": str,
        "instruction_frame": int,
        "continue_video": str,
        "video_prompt": str,
        "sampler": "gamegen_x.sampling.settings.SamplerSettings",
    },
)
def main(cfg: DictConfig) -> None:
    started = time.perf_counter()
    described = read_config(cfg.weights)
    check_files(cfg.weights, described["networks"])
    if cfg.dynamics is not None and not has_rules(cfg):
        check_transition(cfg.weights, described)
    check_players(cfg, described)
    actions = check_request(cfg, ActionSpace.from_dict(described["action_space"]))
    num_frames = cfg.num_frames or (DEFAULT_FRAMES if actions is None else actions.shape[1])
    num_given = cfg.num_context_frames if cfg.continue_video else 0
    sentence = as_learned(described, cfg.instruction or "")
    spoken = Instruction.said(sentence, cfg.instruction_frame, num_frames, num_given)

    from gamegen_x.sampling.clip_sampler import ClipSampler
    from gamegen_x.sampling.networks import Networks
    from gamegen_x.sampling.settings import SamplerSettings
    from gamegen_x.sampling.video_file import to_pixels, write_gif, write_video

    settings = SamplerSettings.of(described, cfg.sampler)
    request = make_request(cfg, described, actions, num_frames, spoken)
    if actions is not None and actions.shape[1] > request.num_frames:
        print(f"keys are cut: num_frames={request.num_frames}, keys reach to frame {actions.shape[1]}", file=sys.stderr)
    if cfg.continue_video:
        given = f"the first {cfg.num_context_frames} frames of {cfg.continue_video}"
        is_shared = cfg.num_players > 1 and "|" not in cfg.continue_video
        whose = f", the same for all {cfg.num_players} players" if is_shared else ""
        print(f"goes on after {given}{whose}", file=sys.stderr)
    for warning in (
        warn_of_players(players_together(described), cfg.num_players),
        warn_of_sentence(described, sentence),
    ):
        if warning is not None:
            print(f"warning: {warning}", file=sys.stderr)
    print(f"sampling {request.num_frames} frames with {cfg.weights}", file=sys.stderr, flush=True)
    networks = Networks.load(cfg.weights, cfg.device)
    sampler = ClipSampler(networks, settings)
    request = with_truth(cfg, request, networks, spoken)
    video = sampler.sample(request, on_progress)
    pixels = to_pixels(video[0])
    frames = with_keys(pixels, request, networks, cfg.scale) if cfg.show_keys else side_by_side(pixels, cfg.scale)
    if Path(cfg.output).suffix == ".gif":
        write_gif(cfg.output, frames, networks.fps)
    else:
        write_video(cfg.output, frames, networks.fps, cfg.crf)
    seconds = round(time.perf_counter() - started, 2)
    print(json.dumps({"output": str(cfg.output), "frames": len(frames), "seconds_total": seconds}))


def check_request(cfg: DictConfig, action_space: ActionSpace) -> npt.NDArray[np.uint8] | None:
    """Says what is wrong with a request before torch is imported; gives the keys `[p t k]`, if there are any.

    They begin with those of the given frames of continue_video: as recorded, or none where it is a plain video.
    """
    num_frames = 1 if cfg.num_frames is None else cfg.num_frames
    if min(cfg.num_players, cfg.scale, num_frames, cfg.num_context_frames) < 1:
        raise ValueError(
            "num_frames, num_players, num_context_frames and scale are at least 1, "
            f"got {cfg.num_frames}, {cfg.num_players}, {cfg.num_context_frames} and {cfg.scale}"
        )
    check_seed(cfg.seed)
    if Path(cfg.output).suffix not in (".mp4", ".gif"):
        raise ValueError(
            f"output={cfg.output} ends with neither .mp4 nor .gif, the two kinds of files that are written"
        )
    for option in ("continue_video", "video_prompt"):
        for path in (cfg[option] or "").split("|"):
            if path and not Path(path).is_file():
                raise FileNotFoundError(f"{option}: no video file {path} (seen from {Path.cwd()})")
            if path and Path(path).resolve() == Path(cfg.output).resolve():
                raise ValueError(f"output={cfg.output} is the {option}, which would be lost; give another output")
    if cfg.continue_video and num_frames <= cfg.num_context_frames and cfg.num_frames is not None:
        raise ValueError(
            f"num_frames={num_frames} has no frame after the first num_context_frames={cfg.num_context_frames}, which "
            "are those of continue_video; give more, or let keys say how many follow: num_frames=null"
        )
    held = read_keys(cfg["keys"], action_space, cfg.num_players) if cfg["keys"] else None
    if held is None or not cfg.continue_video:
        return held
    past = np.zeros((cfg.num_players, cfg.num_context_frames, action_space.num_keys), np.uint8)
    session = recorded_session(cfg.continue_video, cfg.num_players)
    if session is not None and session.action_space.keys == action_space.keys:
        known = session.actions[: cfg.num_context_frames, : cfg.num_players]
        past[:, : len(known)] = known.transpose(1, 0, 2)
    return np.concatenate([past, held], axis=1)


def check_players(cfg: DictConfig, described: Mapping[str, Any]) -> None:
    """Raises ValueError for more players than a world holds, or than the weights' own truth steps."""
    if cfg.num_players > MAX_PLAYERS:
        raise ValueError(f"a world has at most {MAX_PLAYERS} players, got num_players={cfg.num_players}")
    is_learned = cfg.dynamics is not None and not rules_know(cfg, described["action_space"]["keys"])
    if is_learned and "transition" in described["networks"]:
        check_players_stepped(cfg.weights, described, cfg.num_players)


def recorded_session(continue_video: str, num_players: int) -> Trace | None:
    """The session whose first seats these videos are, in order; None for others."""
    paths = [Path(path) for path in continue_video.split("|")]
    folder = paths[0].parent
    if not (folder / "trace.json").is_file() or paths != [folder / f"seat-{i}.mp4" for i in range(num_players)]:
        return None
    return Trace.load(folder)


def read_keys(text: str, action_space: ActionSpace, num_players: int) -> npt.NDArray[np.uint8]:
    """The keys `[p t k]` of a key string or of a file that holds one: one for all players, or one each.

    Shorter ones end with no key. Raises ValueError for any other number of them.
    """
    if os.path.isfile(text):  # Path.is_file raises where a key string is longer than names of files may be
        text = Path(text).read_text()
    elif text.endswith(".txt"):
        raise FileNotFoundError(f"no file {text}; keys is such a file, or a string like 'W*24 D*24'")
    players = [action_space.parse(part) for part in text.split("|")]
    if len(players) not in (1, num_players):
        raise ValueError(
            f"keys are given for {len(players)} players (separated by |), num_players is {num_players}; "
            f"add num_players={len(players)}"
        )
    if len(players) == 1:
        players *= num_players
    return np.stack([with_length(rows, max(len(rows) for rows in players)) for rows in players])


def with_length(rows: npt.NDArray[np.uint8], num_frames: int) -> npt.NDArray[np.uint8]:
    """Rows of keys cut to a length, or followed by no key."""
    rows = rows[:num_frames]
    return np.pad(rows, ((0, num_frames - len(rows)), (0, 0)))


def make_request(
    cfg: DictConfig,
    described: Mapping[str, Any],
    actions: npt.NDArray[np.uint8] | None,
    num_frames: int,
    spoken: Instruction | None,
) -> SampleRequest:
    """Everything that the user asked for, as tensors. `described` is the config.json of the weights."""
    import torch

    from gamegen_x.sampling.clip_sampler import SampleRequest

    held = None
    if actions is not None:
        held = torch.from_numpy(np.stack([with_length(rows, num_frames) for rows in actions])).float()[None]
    size = (described["height"], described["width"])
    context = video_prompt = None
    if cfg.continue_video:
        context = read_frames(cfg.continue_video, size, cfg.num_context_frames, cfg.num_players)
    if cfg.video_prompt:
        video_prompt = read_frames(cfg.video_prompt, size, num_frames, cfg.num_players)
    return SampleRequest(
        prompts=[cfg.prompt],
        num_frames=num_frames,
        seed=cfg.seed,
        num_players=cfg.num_players,
        actions=held,
        context=context,
        instructions=[[spoken]] if spoken else [],
        video_prompt=video_prompt,
    )


def with_truth(
    cfg: DictConfig, request: SampleRequest, networks: Networks, spoken: Instruction | None
) -> SampleRequest:
    """The request with the drawn truth of its world; unchanged for weights that are told nothing."""
    from dataclasses import replace

    import torch

    from gamegen_x.data.state import drawing_of

    drawing = drawing_of(networks.config, networks.vae.spatial_factor)
    if drawing is None or cfg.dynamics is None:
        return request
    num_frames = request.num_frames + -request.num_frames % networks.vae.unit_frames
    held = np.zeros((num_frames, request.num_players, networks.action_space.num_keys), np.uint8)
    if request.actions is not None:
        held[: request.num_frames] = request.actions[0].transpose(0, 1).round().numpy().astype(np.uint8)
    dynamics = choose_dynamics(cfg, networks.config)
    if dynamics is None:
        return request
    facts = true_facts(cfg, dynamics, held, spoken, (networks.height, networks.width), networks.fps)
    if facts is None:
        return request
    rows = networks.vae.coding.rows(num_frames)
    state, near = drawing({name: values[rows] for name, values in facts.items()})
    return replace(request, state=state[None].to(torch.float32), near=None if near is None else near[None])


def choose_dynamics(cfg: DictConfig, described: Mapping[str, Any]) -> RulesDynamics | LearnedDynamics | None:
    """Who steps the truth: those that were asked for, or the weights' own where the rules are of another game; None:
    nobody can, which is said."""
    from gamegen_x.config import build
    from gamegen_x.sampling.learned_world import LearnedDynamics

    keys = list(described["action_space"]["keys"])
    if rules_know(cfg, keys):
        rules: RulesDynamics = build(cfg.dynamics)
        return rules
    if "transition" not in described["networks"]:
        print(
            f"these weights are told nothing: {cfg.game['_target_']} knows other keys than {keys}, and they hold no "
            "transition network"
        )
        return None
    return LearnedDynamics(cfg.weights, cfg.num_players)


def true_facts(
    cfg: DictConfig,
    dynamics: RulesDynamics | LearnedDynamics,
    held: npt.NDArray[np.uint8],
    spoken: Instruction | None,
    size: tuple[int, int],
    fps: float,
) -> Facts | None:
    """Facts `[t ...]` of a new world under these keys `[t p k]`, or of a recorded one that goes on; None: unknown.

    Places are in pixels of pictures of `size`, height and width.
    """
    from gamegen_x.games.snowglobe_conditions import FACTS
    from gamegen_x.world.drawing import from_halves, to_halves
    from gamegen_x.world.facts import continued, stepped

    said = {spoken.frame: spoken.text} if spoken else {}
    if not cfg.continue_video:
        facts = stepped(dynamics.fresh(cfg.seed, "val"), held, said)[1]
        sky = ", ".join(classes[int(facts[fact][0])] for fact, classes in FACTS.items() if fact in facts)
        begins = f"begins with {sky}, whatever the prompt says" if sky else "begins as one of the recordings did"
        print(f"the world of seed={cfg.seed} {begins}; another seed, another world")
        return facts
    session = recorded_session(cfg.continue_video, cfg.num_players)
    if session is None or len(session.players) != cfg.num_players:
        print(
            f"{cfg.weights} should be told where its players are, which only a recorded session knows "
            "(its seat-0.mp4|seat-1.mp4, made by gamegen_x.games.record or gamegen_x.serve.replay); "
            f"{cfg.continue_video} are not the {cfg.num_players} seats of one: the clip is made without, and players "
            "lose each other"
        )
        return None
    if session.fps != fps:
        raise ValueError(
            f"{cfg.continue_video} has {session.fps:g} frames a second, {cfg.weights} knows how keys act at {fps:g}; "
            "record at that rate, or set dynamics=none"
        )
    past = {name: values[: cfg.num_context_frames] for name, values in session.state.items()}
    if "screen_xy" in past:  # in pixels of the recording, which the weights may show smaller
        past["screen_xy"] = from_halves(to_halves(past["screen_xy"], video_size(session.video_path(0))), size)
    return continued(dynamics, past, held, said)


def video_size(path: Path) -> tuple[int, int]:
    """Height and width of a video."""
    import cv2

    video = cv2.VideoCapture(str(path))
    return int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(video.get(cv2.CAP_PROP_FRAME_WIDTH))


def read_frames(path: str, size: tuple[int, int], num_frames: int, num_players: int) -> Tensor:
    """The first frames of a video a player, resized to what the weights make, as `[1 p t 3 h w]` in [-1, 1].

    `path` names one video for all players, or one for each, separated by |.
    """
    import torch

    from gamegen_x.sampling.video_file import from_pixels

    paths = path.split("|")
    if len(paths) not in (1, num_players):
        raise ValueError(f"{len(paths)} videos are given (separated by |), num_players is {num_players}: {path}")
    views = torch.stack([first_frames(each, size, num_frames) for each in paths])
    return from_pixels(views)[None].expand(-1, num_players, -1, -1, -1, -1)


def first_frames(path: str, size: tuple[int, int], num_frames: int) -> Tensor:
    """The first frames of one video as bytes `[t h w 3]`; `size` is height and width."""
    import cv2
    import torch

    from gamegen_x.sampling.video_file import read_video

    frames, _ = read_video(path)
    if len(frames) < num_frames:
        raise ValueError(
            f"{path} has {len(frames)} frames, {num_frames} are needed; give a longer video or ask for fewer "
            "(num_context_frames of continue_video, num_frames with a video_prompt)"
        )
    height, width = frames.shape[1:3]
    if abs(math.log(width / height * size[0] / size[1])) > MOST_STRETCHED:
        print(
            f"warning: {path} is {width}x{height} and is squeezed to {size[1]}x{size[0]}; views of several players "
            "side by side are one video a player, cut apart",
            file=sys.stderr,
        )
    resized = [cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in frames[:num_frames]]
    return torch.from_numpy(np.stack(resized))


def side_by_side(frames: Tensor, scale: int) -> Tensor:
    """The players' views `[p t h w 3]` in one row, enlarged: `[t h w 3]`."""
    from einops import rearrange

    row = rearrange(frames, "p t h w c -> t h (p w) c")
    return row.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


def with_keys(frames: Tensor, request: SampleRequest, networks: Networks, scale: int) -> Tensor:
    """The players' views with their keys and the instruction drawn on them: `[t h w 3]`."""
    import torch

    from gamegen_x.evaluation.answer import Film, Pane
    from gamegen_x.evaluation.films import compose

    spoken = [one for each in request.instructions for one in each]
    words = [next((one.text for one in spoken if one.frame <= frame), "") for frame in range(request.num_frames)]
    panes = [
        Pane(
            title=f"player {player + 1}",
            frames=view.movedim(-1, 1),
            actions=None if request.actions is None else request.actions[0, player][:, None],
            words=words,
            context_frames=0 if request.context is None else request.context.shape[2],
        )
        for player, view in enumerate(frames)
    ]
    keys = dict(enumerate(networks.action_space.keys))
    return torch.from_numpy(compose(Film("", panes), keys, networks.width * scale))


def on_progress(done: int, total: int) -> None:
    print(f"sampled {done}/{total} latent frames", flush=True)


if __name__ == "__main__":
    main()
