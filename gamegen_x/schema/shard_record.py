"""ShardRecord: what one sample in a shard holds; 1..P views, keys, caption."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Caption, Instruction
from gamegen_x.schema.unreadable import UNREADABLE

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ShardRecord:
    """One clip, ready to train on. In a WebDataset tar it is the members of one key:

    `<key>.view0.mp4` ... `<key>.view<p-1>.mp4` (H.264), `<key>.json`, `<key>.actions.npy` (`[t p k]` uint8) and,
    where the game tells, `<key>.state.npz` (arrays whose first axis is t). Frame t shows the world after the keys of
    row t acted. A video whose keys
    nobody knows has rows of zeros and `has_actions` false.
    """

    key: str
    videos: tuple[bytes, ...]  # one H.264 file a view
    num_frames: int
    height: int
    width: int
    fps: float
    action_space: ActionSpace
    actions: npt.NDArray[np.uint8]  # t p k
    caption: Caption
    source: str  # game, or the name of the video it was cut from
    has_actions: bool = True
    instructions: tuple[Instruction, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)  # what the filters measured
    camera: str = ""  # the camera's kind or motion, e.g. "overhead", "pan left"
    licence: str = ""
    attribution: str = ""
    state: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # see Trace.facts

    def __post_init__(self) -> None:
        expected = (self.num_frames, len(self.videos), self.action_space.num_keys)
        if not self.videos or self.actions.shape != expected:
            raise ValueError(f"record {self.key!r}: actions have shape [t p k] = {expected}, got {self.actions.shape}")
        for name, values in self.state.items():
            if len(values) != self.num_frames:
                raise ValueError(
                    f"record {self.key!r}: state {name!r} has {len(values)} rows, expected {self.num_frames}"
                )

    @property
    def num_players(self) -> int:
        return len(self.videos)

    def to_sample(self) -> dict[str, Any]:
        """The WebDataset sample: a `__key__` and the bytes of every member."""
        sample: dict[str, Any] = {"__key__": self.key}
        for view, video in enumerate(self.videos):
            sample[f"view{view}.mp4"] = video
        sample["json"] = json.dumps(self._header(), sort_keys=True).encode()
        sample["actions.npy"] = _array_bytes(self.actions)
        if self.state:
            sample["state.npz"] = _arrays_bytes(self.state)
        return sample

    @classmethod
    def from_sample(cls, sample: Mapping[str, Any]) -> ShardRecord:
        """Reads raw members (bytes). Raises ValueError that names the sample and what is wrong with it."""
        key = str(sample.get("__key__", "?"))
        for member in ("json", "actions.npy", "view0.mp4"):
            if member not in sample:
                raise ValueError(f"record {key!r}: member {member!r} is missing")
        try:
            header = json.loads(sample["json"])
            if header["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema_version is {header['schema_version']}, this code reads {SCHEMA_VERSION}")
            num_players = int(header["num_players"])
            missing = [view for view in range(num_players) if f"view{view}.mp4" not in sample]
            if missing:
                raise ValueError(f"the json promises {num_players} views, missing are {missing}")
            state: dict[str, npt.NDArray[Any]] = {}
            if "state.npz" in sample:
                with np.load(io.BytesIO(sample["state.npz"]), allow_pickle=False) as arrays:
                    state = {name: arrays[name] for name in arrays.files}
            return cls(
                key=key,
                videos=tuple(sample[f"view{view}.mp4"] for view in range(num_players)),
                num_frames=int(header["num_frames"]),
                height=int(header["height"]),
                width=int(header["width"]),
                fps=float(header["fps"]),
                action_space=ActionSpace.from_dict(header["action_space"]),
                actions=np.load(io.BytesIO(sample["actions.npy"]), allow_pickle=False),
                caption=Caption.from_dict(header["caption"]),
                source=str(header["source"]),
                has_actions=bool(header["has_actions"]),
                instructions=tuple(Instruction.from_dict(value) for value in header["instructions"]),
                scores={name: float(score) for name, score in header["scores"].items()},
                camera=str(header["camera"]),
                licence=str(header["licence"]),
                attribution=str(header["attribution"]),
                state=state,
                facts={name: tuple(values) for name, values in header["facts"].items()},
            )
        except KeyError as missing_field:
            raise ValueError(f"record {key!r}: the json has no field {missing_field}") from None
        except UNREADABLE as mistake:
            raise ValueError(f"record {key!r}: {mistake}") from mistake

    def _header(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "num_players": self.num_players,
            "num_frames": self.num_frames,
            "height": self.height,
            "width": self.width,
            "fps": self.fps,
            "action_space": self.action_space.to_dict(),
            "has_actions": self.has_actions,
            "caption": self.caption.to_dict(),
            "instructions": [instruction.to_dict() for instruction in self.instructions],
            "source": self.source,
            "scores": dict(self.scores),
            "camera": self.camera,
            "licence": self.licence,
            "attribution": self.attribution,
            "facts": {name: list(values) for name, values in self.facts.items()},
        }


def _array_bytes(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _arrays_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict[str, Any](arrays))
    return buffer.getvalue()
