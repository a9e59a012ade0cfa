"""The folder of a dataset: parts while it is being made; shards, ledger and dataset.json when it is done."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline.journal import Journal
from data_pipeline.ledger import Fate, read_ledger, summary, write_ledger
from data_pipeline.stage import Stage
from data_pipeline.tar_shards import END_OF_ARCHIVE, assemble, read_samples
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.shard_record import ShardRecord

SCHEMA_VERSION = 1
DATASET = "dataset.json"
LEDGER = "ledger.jsonl"
PARTS = ".parts"
SHARDS = "shard-*.tar"


@dataclass(frozen=True)
class DatasetFolder:
    """`identity` is what the stages are, `stamps` the version of every source, in the dataset's order.

    `dataset.json` is written last: a folder without it is unfinished. The dataset's id is a hash over the identity and
    over the bytes of every record, in order.
    """

    path: Path
    identity: Mapping[str, Any]
    stamps: Mapping[str, str]

    @property
    def parts(self) -> Path:
        return self.path / PARTS

    def finished(self) -> dict[str, Any] | None:
        """What `dataset.json` says, when it stands for exactly these sources and its shards are there.

        Raises ValueError on another dataset.
        """
        if not (self.path / DATASET).is_file():
            return None
        dataset: dict[str, Any] = json.loads((self.path / DATASET).read_text())
        if dataset["pipeline"] != self.identity:
            raise ValueError(
                f"{self.path} holds dataset {dataset['dataset_id']}, made with other settings of "
                f"{_differences(dataset['pipeline'], self.identity)}; choose another output, or overwrite=true"
            )
        return dataset if dataset["sources"] == self.stamps and self._has_its_shards() else None

    def prepare(self) -> None:
        """Makes the folder ready for more work: what was finished before is taken back into parts."""
        settings = self.parts / "pipeline.json"
        if (self.path / DATASET).is_file():
            self._take_back()
        elif settings.is_file() and (found := json.loads(settings.read_text())) != self.identity:
            raise ValueError(
                f"{self.path} holds unfinished work, made with other settings of {_differences(found, self.identity)}; "
                "choose another output, or overwrite=true"
            )
        with atomic_file(settings) as temporary:
            temporary.write_text(json.dumps(self.identity) + "\n")

    def finish(self, stages: Mapping[str, Stage], clips_per_shard: int, max_damaged_share: float) -> dict[str, Any]:
        """Settles what concerns all sources, and writes ledger, shards and `dataset.json`.

        Raises ValueError when too much is damaged or nothing is kept; the ledger then tells why, and the parts stay.
        """
        journals = {name: Journal(self.parts, name, stamp) for name, stamp in self.stamps.items()}
        fates = [fate for journal in journals.values() for fate in journal.fates.values()]
        for name, stage in stages.items():
            verdicts = stage.settle([fate for fate in fates if fate.is_kept])
            fates = [_settled(fate, name, *verdicts[fate.clip]) if fate.clip in verdicts else fate for fate in fates]
        write_ledger(self.path / LEDGER, fates)
        self._check(fates, max_damaged_share)
        kept = [(fate, partial(journals[fate.source].read, fate)) for fate in fates if fate.is_kept]
        placed = {fate.clip: fate for fate in assemble(kept, self.path, clips_per_shard)}
        fates = [placed[fate.clip] if fate.is_kept else fate for fate in fates]
        write_ledger(self.path / LEDGER, fates)
        for shard in {path.name for path in self.path.glob(SHARDS)} - {fate.shard for fate in fates}:
            (self.path / shard).unlink()  # of a run that was killed, with other sources
        dataset = self._describe(fates)
        with atomic_file(self.path / DATASET) as temporary:
            temporary.write_text(json.dumps(dataset, indent=2) + "\n")
        shutil.rmtree(self.parts)
        return dataset

    def clear(self) -> None:
        """Removes what a run writes, and nothing else."""
        (self.path / DATASET).unlink(missing_ok=True)
        shutil.rmtree(self.parts, ignore_errors=True)
        (self.path / LEDGER).unlink(missing_ok=True)
        for shard in self.path.glob(SHARDS):
            shard.unlink()

    def _has_its_shards(self) -> bool:
        """Whether every shard that the ledger names has the size that it had."""
        if not (self.path / LEDGER).is_file():
            return False
        ends: dict[str, int] = {}
        for fate in read_ledger(self.path / LEDGER):
            if fate.is_kept:
                ends[fate.shard] = max(ends.get(fate.shard, 0), fate.offset + fate.size)
        shards = {path.name: path.stat().st_size for path in self.path.glob(SHARDS)}
        return all(shards.get(name) == end + len(END_OF_ARCHIVE) for name, end in ends.items())

    def _check(self, fates: list[Fate], max_damaged_share: float) -> None:
        counts = summary(fates)
        share = counts["num_sources_damaged"] / len(self.stamps)
        if share > max_damaged_share:
            raise ValueError(
                f"{counts['num_sources_damaged']} of {len(self.stamps)} sources are damaged ({share:.0%}), at most "
                f"{max_damaged_share:.0%} may be: {counts['damaged']}. See {self.path / LEDGER}. Nothing is lost: "
                "mend or remove them, or raise max_damaged_share, and run the same command again"
            )
        if not counts["num_clips_kept"]:
            raise ValueError(
                f"not one clip was kept: {counts['rejected'] | counts['damaged'] or 'the sources hold no frames'}. "
                f"See {self.path / LEDGER}; lower the thresholds that reject most, and use overwrite=true"
            )

    def _describe(self, fates: list[Fate]) -> dict[str, Any]:
        kept = [fate for fate in fates if fate.is_kept]
        content = [self.identity, [[fate.clip, fate.sha256] for fate in kept]]
        first = ShardRecord.from_sample(
            next(read_samples(io.BytesIO(record_bytes(self.path, kept[0]) + END_OF_ARCHIVE)))
        )
        frames = sum(fate.num_frames for fate in kept)
        return {
            "schema_version": SCHEMA_VERSION,
            "dataset_id": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
            "action_space": first.action_space.to_dict(),
            "fps": first.fps,
            "height": first.height,
            "width": first.width,
            **summary(fates),
            "num_frames": frames,
            "num_view_frames": sum(fate.num_frames * fate.num_views for fate in kept),
            "hours": round(frames / first.fps / 3600, 4),
            "clips_by_length": _counts(str(fate.num_frames) for fate in kept),  # frames
            "clips_by_size": _counts(f"{fate.height}x{fate.width}" for fate in kept),
            "clips_by_players": _counts(str(fate.num_views) for fate in kept),
            "shards": [{"name": name, "num_clips": count} for name, count in _counts(f.shard for f in kept).items()],
            "pipeline": self.identity,
            "sources": dict(self.stamps),
        }

    def _take_back(self) -> None:
        """Shards -> parts, for the sources that are still the same; then the shards go.

        A source that lost a clip to another source's is done again: that clip's record was not kept. So is one whose
        records are not in the shards any more.
        """
        dataset = json.loads((self.path / DATASET).read_text())
        by_source: defaultdict[str, list[Fate]] = defaultdict(list)
        for fate in read_ledger(self.path / LEDGER) if (self.path / LEDGER).is_file() else []:
            by_source[fate.source].append(fate)
        shutil.rmtree(self.parts, ignore_errors=True)
        for name, fates in by_source.items():
            is_same = name in self.stamps and self.stamps[name] == dataset["sources"].get(name)
            has_all = not any(fate.fate == "rejected" and fate.fingerprint for fate in fates)
            if is_same and has_all and all(is_intact(self.path, fate) for fate in fates):
                with Journal(self.parts, name, self.stamps[name]) as journal:
                    for fate in fates:
                        data = record_bytes(self.path, fate) if fate.is_kept else b""
                        journal.append(replace(fate, shard="", offset=0), data)
                    journal.finish()
        (self.path / DATASET).unlink()
        for shard in self.path.glob(SHARDS):
            shard.unlink()


def is_intact(folder: Path, fate: Fate) -> bool:
    """Whether the record of a clip, if it was kept, is in its shard as it was written."""
    if not fate.is_kept:
        return True
    shard = folder / fate.shard
    return shard.is_file() and hashlib.sha256(record_bytes(folder, fate)).hexdigest() == fate.sha256


def record_bytes(folder: Path, fate: Fate) -> bytes:
    with (folder / fate.shard).open("rb") as file:
        file.seek(fate.offset)
        return file.read(fate.size)


def _settled(fate: Fate, stage: str, reason: str, detail: str) -> Fate:
    """A kept clip rejected in view of all sources: its record stays behind in the parts."""
    return replace(fate, fate="rejected", by=stage, reason=reason, detail=detail, offset=0, size=0, sha256="")


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)] or ["the order of the stages"]


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
