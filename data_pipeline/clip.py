"""Clip: what flows from stage to stage; frozen, stages return new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Caption, Instruction
from gamegen_x.schema.shard_record import ShardRecord
from gamegen_x.schema.trace import TextEvent

Frames = npt.NDArray[np.uint8]  # t h w 3, RGB


class DamagedSourceError(ValueError):
    """A source that cannot be read. `reason` is the same for all of its kind, so that it can be counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it survives the way back from a worker
        self.reason = reason
        self.detail = detail
        self.stage = ""  # the one that met it; filled in by the pipeline

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, eq=False)
class Source:
    """What a clip is cut from: one video, or one session with a video a seat, on the clock of the dataset."""

    name: str  # unique in the dataset; letters, digits, "-" and "_"
    label: str  # game, or the name of the video
    videos: tuple[Path, ...]  # one a view
    fps: float  # of the dataset
    num_frames: int  # at `fps`; for a plain video what its header promises, 0 when it promises nothing
    action_space: ActionSpace
    video_fps: float | None = None  # a session's constant rate; None reads the times in the file
    has_actions: bool = False
    actions: npt.NDArray[np.uint8] | None = None  # t p k
    state: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)  # rows are frames
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    text_events: tuple[TextEvent, ...] = ()
    camera: str = ""
    licence: str = ""
    attribution: str = ""

    @property
    def num_views(self) -> int:
        return len(self.videos)


@dataclass(frozen=True, eq=False)
class Clip:
    """A span of a source. The seats of one session stay together as its views.

    The frames are decoded once, by the stage that cuts, and shared by all later stages.
    """

    source: Source
    start: int  # frame of the source, on the dataset's clock
    num_frames: int
    views: tuple[Frames, ...] = ()  # one array a view
    scores: Mapping[str, float] = field(default_factory=dict)
    fingerprint: bytes = b""
    camera: str = ""
    caption: Caption | None = None
    actions: npt.NDArray[np.uint8] | None = None  # t p k
    state: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    instructions: tuple[Instruction, ...] = ()
    record: ShardRecord | None = None
    rejected_by: str = ""  # the stage; filled in by the pipeline
    reason: str = ""  # the same for all of its kind
    detail: str = ""  # the numbers of this one

    @property
    def key(self) -> str:
        return f"{self.source.name}-{self.start:06d}"

    @property
    def stop(self) -> int:
        return self.start + self.num_frames

    @property
    def is_rejected(self) -> bool:
        return bool(self.reason)

    @property
    def truth(self) -> dict[str, npt.NDArray[Any]]:
        """The rows of the source's state that belong to this clip."""
        return {name: values[self.start : self.stop] for name, values in self.source.state.items()}

    def scored(self, name: str, score: float) -> Clip:
        return replace(self, scores={**self.scores, name: round(float(score), 6)})

    def rejected(self, reason: str, detail: str = "") -> Clip:
        """Says why this clip falls; its frames are let go."""
        return replace(self, reason=reason, detail=detail, views=(), record=None)


def spread(frames: Frames, count: int) -> Frames:
    """`count` frames at equal distances, first and last among them (fewer when the clip is shorter)."""
    places = np.linspace(0, len(frames) - 1, min(count, len(frames)))
    return frames[np.round(places).astype(int)]
