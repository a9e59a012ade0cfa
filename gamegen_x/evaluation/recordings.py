"""Recording: one real clip in memory; read from shards or traces."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gamegen_x.data.decode import Expected, decode_video
from gamegen_x.data.records import DamagedRecord
from gamegen_x.data.shards import Sample, find_shards, read_record, walk_samples
from gamegen_x.evaluation.checks import SPLITS, check_recordings
from gamegen_x.sampling.video_file import read_video
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction
from gamegen_x.schema.shard_record import ShardRecord
from gamegen_x.schema.trace import Trace
from gamegen_x.world.facts import Facts

T = TypeVar("T")


@dataclass(frozen=True)
class Recording:
    """A real clip of `p` views. `facts` are class numbers per frame, `classes` their names."""

    key: str
    caption: str
    video: UInt8[Tensor, "p t 3 h w"]
    actions: UInt8[Tensor, "p t k"]
    facts: Mapping[str, Int[Tensor, " t"]]
    classes: Mapping[str, tuple[str, ...]]
    instructions: tuple[Instruction, ...]
    action_space: ActionSpace
    fps: float
    planets: frozenset[int] = frozenset()  # the worlds it shows, where the game tells
    state: Facts | None = None  # t ..., all that was true; None of a single view of several

    @property
    def num_frames(self) -> int:
        return self.video.shape[1]

    def views(self) -> list[Recording]:
        """Every view as a recording of one player."""
        return [
            replace(
                self,
                key=f"{self.key}.view{seat}",
                video=video[None],
                actions=actions[None],
                state=self.state if len(self.video) == 1 else None,
            )
            for seat, (video, actions) in enumerate(zip(self.video, self.actions, strict=True))
        ]


@dataclass(frozen=True)
class Recordings:
    """Real clips: those that judges learn from, and those on worlds that no training has seen."""

    name: str  # where they come from, for people
    data_id: str  # the same id means the same clips
    train: list[Recording]
    val: list[Recording]

    @property
    def action_space(self) -> ActionSpace:
        return self.val[0].action_space

    @property
    def fps(self) -> float:
        return self.val[0].fps


def as_pixels(video: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes to [-1, 1]."""
    return video.float() / 127.5 - 1


def as_bytes(video: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """[-1, 1] to bytes; values outside are clamped."""
    return ((video.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def read_recordings(
    folder: str | Path,
    *,
    num_players: int,
    min_frames: int,
    max_train_clips: int,
    max_val_clips: int,
    max_damaged_share: float,
) -> Recordings:
    """The shards or traces under `folder`/train and `folder`/val, evenly thinned to the given numbers.

    With `num_players` 1, clips of several views become one recording a view. Raises FileNotFoundError where there is
    nothing to read; ValueError where too much is damaged, and where train and val share a world.
    """
    folder = Path(folder)
    check_recordings(folder)
    train, val = (
        _read_split(folder / split, num_players, min_frames, max_clips, max_damaged_share)
        for split, max_clips in zip(SPLITS, (max_train_clips, max_val_clips), strict=True)
    )
    shared = frozenset().union(*(clip.planets for clip in train)) & frozenset().union(*(clip.planets for clip in val))
    if shared:
        raise ValueError(
            f"{folder}: train and val both show the worlds {sorted(shared)[:5]}; val must be unseen worlds"
        )
    return Recordings(str(folder), _data_id(folder), train, val)


def _read_split(
    folder: Path, num_players: int, min_frames: int, max_clips: int, max_damaged_share: float
) -> list[Recording]:
    sources = _thinned(_sources(folder), max_clips)
    recordings: list[Recording] = []
    skipped: Counter[str] = Counter()
    for source in sources:
        try:
            recordings += _checked(source(), num_players, min_frames)
        except DamagedRecord as damage:
            skipped[damage.reason] += 1
        except ValueError as damage:
            skipped[str(damage)] += 1
    for reason, count in skipped.most_common():
        print(f"{folder}: skipped {count} of {len(sources)} clips: {reason}", flush=True)
    if skipped.total() > max_damaged_share * len(sources):
        raise ValueError(f"{folder}: {skipped.total()} of {len(sources)} clips cannot be used: {dict(skipped)}")
    return recordings


def _sources(folder: Path) -> list[Callable[[], Recording]]:
    """A reader for each record of the shards, or for each trace, whichever is there."""
    if any(folder.glob("*.tar")):
        return [partial(_of_record, sample, shard) for shard in find_shards(folder) for sample in walk_samples(shard)]
    return [partial(_of_trace, path.parent) for path in sorted(folder.glob("*/trace.json"))]


def _thinned(values: list[T], count: int) -> list[T]:
    return [values[i] for i in np.linspace(0, len(values) - 1, min(len(values), count)).round().astype(int)]


def _of_record(sample: Sample, shard: Path) -> Recording:
    record = read_record(sample, shard)
    if not record.has_actions:
        raise DamagedRecord(record.key, "nobody knows the keys of this video")
    expected = Expected(record.num_frames, record.height, record.width)
    views = [decode_video(video, expected) for video in record.videos]
    return _recording(record, record.key, record.caption.summary, views, record.instructions)


def _of_trace(folder: Path) -> Recording:
    trace = Trace.load(folder)
    views = [read_video(trace.video_path(seat))[0] for seat in range(trace.num_players)]
    instructions = tuple(Instruction(event.text, event.frame) for event in trace.text_events)
    return _recording(trace, folder.name, "", views, instructions)


def _recording(
    source: ShardRecord | Trace,
    key: str,
    caption: str,
    views: Sequence[UInt8[np.ndarray, "t h w 3"]],
    instructions: tuple[Instruction, ...],
) -> Recording:
    if {len(view) for view in views} != {source.num_frames}:
        raise ValueError("video and keys have different numbers of frames")
    return Recording(
        key=key,
        caption=caption,
        video=rearrange(torch.from_numpy(np.stack(views)), "p t h w c -> p t c h w").contiguous(),
        actions=rearrange(torch.from_numpy(source.actions), "t p k -> p t k").contiguous(),
        facts={name: torch.from_numpy(source.state[name].astype(np.int64)) for name in source.facts},
        classes=dict(source.facts),
        instructions=instructions,
        action_space=source.action_space,
        fps=source.fps,
        state=dict(source.state),
        planets=frozenset(np.unique(source.state.get("planet", np.empty(0))).tolist()),
    )


def _checked(recording: Recording, num_players: int, min_frames: int) -> list[Recording]:
    if recording.num_frames < min_frames:
        raise ValueError(f"fewer than {min_frames} frames")
    if num_players == 1:
        return recording.views()
    if len(recording.video) != num_players:
        raise ValueError(f"{len(recording.video)} views where {num_players} players are judged")
    return [recording]


def _data_id(folder: Path) -> str:
    """From the id in each split's dataset.json, else from the content itself."""
    digest = hashlib.sha256()
    for split in (folder / name for name in SPLITS):
        header = split / "dataset.json"
        if header.is_file():
            digest.update(str(json.loads(header.read_text())["dataset_id"]).encode())
            continue
        for path in sorted(path for path in split.rglob("*") if path.is_file()):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]
