"""The ledger: every clip's fate, kept, or rejected by whom and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from gamegen_x.schema.files import atomic_file


@dataclass(frozen=True)
class Fate:
    """One line of `ledger.jsonl`. A source that cannot be read is one line with fate "damaged".

    `start` and `num_frames` count frames at the dataset's rate. A kept clip names its place: `shard`, `offset` and
    `size` in bytes, and the SHA-256 of these bytes.
    """

    clip: str
    source: str
    fate: Literal["kept", "rejected", "damaged"]
    start: int
    num_frames: int
    num_views: int
    height: int = 0
    width: int = 0
    by: str = ""
    reason: str = ""
    detail: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    shard: str = ""
    offset: int = 0
    size: int = 0
    sha256: str = ""

    @property
    def is_kept(self) -> bool:
        return self.fate == "kept"

    def to_dict(self) -> dict[str, Any]:
        """Without the fields that say nothing."""
        always = ("clip", "source", "fate", "start", "num_frames", "num_views", *(["offset"] if self.is_kept else []))
        return {name: value for name, value in asdict(self).items() if value or name in always}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Fate:
        known = {field.name for field in fields(cls)}
        return cls(**{name: item for name, item in value.items() if name in known})


def write_ledger(path: Path, fates: Iterable[Fate]) -> None:
    with atomic_file(path) as temporary, temporary.open("w") as file:
        file.writelines(json.dumps(fate.to_dict(), sort_keys=True) + "\n" for fate in fates)


def read_ledger(path: Path) -> list[Fate]:
    """Raises ValueError that names the line at fault."""
    fates = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            fates.append(Fate.from_dict(json.loads(line)))
        except (TypeError, ValueError) as mistake:
            raise ValueError(f"{path}, line {number}: not a fate of a clip ({mistake})") from None
    return fates


def summary(fates: Iterable[Fate]) -> dict[str, Any]:
    """Counts of clips by fate; of the rejected and the damaged by stage and reason."""
    fates = list(fates)
    counts = Counter(fate.fate for fate in fates)
    why: dict[str, dict[str, int]] = {"rejected": {}, "damaged": {}}
    for fate in fates:
        if not fate.is_kept:
            name = f"{fate.by}: {fate.reason}"
            why[fate.fate][name] = why[fate.fate].get(name, 0) + 1
    return {
        "num_clips_kept": counts["kept"],
        "num_clips_rejected": counts["rejected"],
        "num_sources_damaged": counts["damaged"],
        "rejected": dict(sorted(why["rejected"].items())),
        "damaged": dict(sorted(why["damaged"].items())),
    }
