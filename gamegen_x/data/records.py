"""What the loader asks of a dataset: headers that are known at once, and frames, keys and state on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction
from gamegen_x.world.facts import Facts


@dataclass(frozen=True)
class RecordHeader:
    """What is known of a record without its pixels."""

    key: str
    num_frames: int
    num_players: int
    height: int
    width: int
    fps: float
    action_space: ActionSpace
    caption: str
    instructions: tuple[Instruction, ...]  # in the order of their frames
    has_actions: bool


@dataclass(frozen=True)
class Part:
    """Records that are cached together: one shard. `made_from` changes when their content does."""

    name: str
    made_from: str
    records: range  # places in `headers`


class DamagedRecord(ValueError):  # noqa: N818
    """A record that cannot be read. `reason` is a category to count by; the message says more."""

    def __init__(self, key: str, reason: str, detail: str = "") -> None:
        super().__init__(f"record {key!r}: {reason}" + (f" ({detail})" if detail else ""))
        self.key = key
        self.reason = reason


@runtime_checkable
class RecordSource(Protocol):
    """One split of a dataset: shards on disk, or made up on the spot."""

    name: str
    headers: Sequence[RecordHeader]
    parts: Sequence[Part]
    damage: Mapping[str, str]  # what was skipped: record key -> reason

    def prepare(self) -> None:
        """Does what is done once. One process calls this, before any calls `open`."""
        ...

    def open(self) -> None:
        """Learns which records there are."""
        ...

    def actions(self, index: int) -> UInt8[np.ndarray, "t p k"]: ...

    def state(self, index: int) -> Facts:
        """The game's truth by frame; empty where nobody recorded it."""
        ...

    def frames(self, index: int, view: int, start: int, stop: int) -> UInt8[np.ndarray, "t h w 3"]:
        """Pixels of one view. Raises DamagedRecord where they cannot be decoded."""
        ...


@runtime_checkable
class Dataset(Protocol):
    """A dataset in its splits (train, val and perhaps test), and the folder for what is made from it once."""

    cache_folder: Path
    max_damaged_share: float  # of the records of a split; above it training stops

    def splits(self) -> Mapping[str, RecordSource]: ...
