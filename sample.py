"""Samples one clip from a prompt, keys, an instruction or first frames, and writes it as MP4 (configs/sample.yaml)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from gamegen_x.config import entry_point

if TYPE_CHECKING:
    from torch import Tensor

    from gamegen_x.sampling.clip_sampler import SampleRequest
    from gamegen_x.sampling.networks import Networks

DEFAULT_FRAMES = 102


@entry_point("sample")
def main(cfg: DictConfig) -> None:
    from gamegen_x.models.weights import read_config

    read_config(cfg.weights)  # a wrong path is said before anything heavy is loaded

    from gamegen_x.sampling.clip_sampler import ClipSampler
    from gamegen_x.sampling.networks import Networks
    from gamegen_x.sampling.video_file import to_pixels, write_gif, write_video

    started = time.perf_counter()
    networks = Networks.load(cfg.weights, cfg.device)
    request = read_request(cfg, networks)
    overrides = {name: value for name, value in cfg.sampler.items() if value is not None}
    sampler = ClipSampler(networks, **{**networks.sampler, **overrides})
    video = sampler.sample(request, on_progress)
    pixels = to_pixels(video[0])
    frames = with_keys(pixels, request, networks, cfg.scale) if cfg.show_keys else side_by_side(pixels, cfg.scale)
    if Path(cfg.output).suffix == ".gif":
        write_gif(cfg.output, frames, networks.fps)
    else:
        write_video(cfg.output, frames, networks.fps, cfg.crf)
    seconds = round(time.perf_counter() - started, 2)
    print(json.dumps({"output": str(cfg.output), "frames": len(frames), "seconds_total": seconds}))


def read_request(cfg: DictConfig, networks: Networks) -> SampleRequest:
    """Everything that the user asked for, checked before the first latent is drawn."""
    import torch

    from gamegen_x.sampling.clip_sampler import SampleRequest
    from gamegen_x.schema.caption import Instruction

    actions = read_keys(cfg["keys"], networks, cfg.num_players) if cfg["keys"] else None
    num_frames = cfg.num_frames or (DEFAULT_FRAMES if actions is None else actions.shape[1])
    if num_frames < 1 or cfg.num_players < 1:
        raise ValueError(f"num_frames and num_players are at least 1, got {num_frames} and {cfg.num_players}")
    if actions is not None:  # keys that are shorter than the clip are followed by no key
        actions = torch.nn.functional.pad(actions[:, :num_frames], (0, 0, 0, max(0, num_frames - actions.shape[1])))
    context = None
    if cfg.continue_video:
        context = read_frames(cfg.continue_video, networks, cfg.num_context_frames, cfg.num_players)
    video_prompt = None
    if cfg.video_prompt:
        video_prompt = read_frames(cfg.video_prompt, networks, num_frames, cfg.num_players)
    instructions = [[Instruction(cfg.instruction, cfg.instruction_frame)]] if cfg.instruction else []
    return SampleRequest(
        prompts=[cfg.prompt],
        num_frames=num_frames,
        seed=cfg.seed,
        num_players=cfg.num_players,
        actions=None if actions is None else actions[None],
        context=context,
        instructions=instructions,
        video_prompt=video_prompt,
    )


def read_keys(text: str, networks: Networks, num_players: int) -> Tensor:
    """The keys `[p t k]` of a key string or of a file that holds one; the shorter players end with no key."""
    import torch

    if Path(text).is_file():
        text = Path(text).read_text()
    players = [networks.action_space.parse(part) for part in text.split("|")]
    if len(players) not in (1, num_players):
        raise ValueError(f"keys are given for {len(players)} players (separated by |), num_players is {num_players}")
    if len(players) == 1:
        players *= num_players
    longest = max(len(rows) for rows in players)
    actions = torch.zeros(num_players, longest, networks.action_space.num_keys)
    for player, rows in enumerate(players):
        actions[player, : len(rows)] = torch.from_numpy(rows)
    return actions


def read_frames(path: str, networks: Networks, num_frames: int, num_players: int) -> Tensor:
    """The first frames of a video a player, resized to what the weights make, as `[1 p t 3 h w]` in [-1, 1].

    `path` names one video for all players, or one for each, separated by |.
    """
    import torch

    from gamegen_x.sampling.video_file import from_pixels

    paths = path.split("|")
    if len(paths) not in (1, num_players):
        raise ValueError(f"{len(paths)} videos are given (separated by |), num_players is {num_players}: {path}")
    views = torch.stack([_first_frames(each, networks, num_frames) for each in paths])
    return from_pixels(views)[None].expand(-1, num_players, -1, -1, -1, -1)


def _first_frames(path: str, networks: Networks, num_frames: int) -> Tensor:
    """`[t h w 3]` bytes."""
    import cv2
    import numpy as np
    import torch

    from gamegen_x.sampling.video_file import read_video

    frames, _ = read_video(path)
    if len(frames) < num_frames:
        raise ValueError(
            f"{path} has {len(frames)} frames, {num_frames} are needed; give a longer video or ask for fewer"
        )
    size = (networks.width, networks.height)
    resized = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames[:num_frames]]
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
