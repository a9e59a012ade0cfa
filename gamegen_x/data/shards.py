"""ShardFolder: the records in a folder of WebDataset tar files; damaged ones are skipped and counted."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from gamegen_x.data.array_cache import ArrayCache
from gamegen_x.data.decode import Expected, UnreadableVideo, decode_video, probe_video
from gamegen_x.data.progress import Progress
from gamegen_x.data.records import DamagedRecord, Part, RecordHeader
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.shard_record import ShardRecord
from gamegen_x.world.facts import Facts

FORMAT = 1
PICKLES = ("pkl", "pickle", "pyd", "pth", "pt", "ckpt", "joblib")


@dataclass(frozen=True)
class Sample:
    """One sample as it lies in a tar file: the place of each member."""

    key: str
    members: Mapping[str, tuple[int, int]]  # name -> offset, number of bytes
    damage: str = ""  # what is already known to be wrong

    def read(self, shard: Path) -> dict[str, Any]:
        """The raw WebDataset sample: bytes by member."""
        with shard.open("rb") as file:
            sample: dict[str, Any] = {"__key__": self.key}
            for name, (offset, size) in self.members.items():
                file.seek(offset)
                sample[name] = file.read(size)
        return sample


def walk_samples(shard: Path) -> Iterator[Sample]:
    """The samples of one tar file, as WebDataset groups them: neighbours whose names agree up to the first dot.

    A file that is no tar, or ends too early, gives one sample with `damage` for what is lost.
    """
    try:
        with tarfile.open(shard, "r:") as tar:
            key: str | None = None
            members: dict[str, tuple[int, int]] = {}
            damage = ""
            for member in _members(tar, shard):
                if member is None:
                    yield Sample(key or shard.name, members, "shard ends too early")
                    return
                if not member.isfile():
                    continue
                folder, _, file_name = member.name.rpartition("/")
                base, _, name = file_name.partition(".")
                if folder:
                    base = f"{folder}/{base}"
                if base != key:
                    if key is not None:
                        yield Sample(key, members, damage)
                    key, members, damage = base, {}, ""
                if name in members:
                    damage = "member twice in one sample"
                members[name] = (member.offset_data, member.size)
            if key is not None:
                yield Sample(key, members, damage)
    except (tarfile.TarError, EOFError):
        yield Sample(shard.name, {}, "not a tar file")


def read_record(sample: Sample, shard: Path) -> ShardRecord:
    """Reads and checks one sample. Raises DamagedRecord."""
    if sample.damage:
        raise DamagedRecord(sample.key, sample.damage)
    for member in sample.members:
        if member.rpartition(".")[2] in PICKLES:
            raise DamagedRecord(sample.key, "a pickle, which is refused", member)
    for member in ("json", "actions.npy", "view0.mp4"):
        if member not in sample.members:
            raise DamagedRecord(sample.key, f"{member} is missing")
    try:
        record = ShardRecord.from_sample(sample.read(shard))
    except ValueError as mistake:
        reason = "a pickle, which is refused" if "allow_pickle" in str(mistake) else "json or arrays cannot be read"
        raise DamagedRecord(sample.key, reason, str(mistake)) from mistake
    try:
        for video in record.videos:
            probe_video(video, Expected(record.num_frames, record.height, record.width))
    except UnreadableVideo as mistake:
        raise DamagedRecord(sample.key, mistake.reason, mistake.detail) from mistake
    return record


def find_shards(folder: Path) -> list[Path]:
    """The tar files of a folder. Raises FileNotFoundError that says how to make some."""
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        what = "has no *.tar in it" if folder.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"expected a folder of shards, but {folder} {what}; make one with `python -m data_pipeline`, "
            "or train without data: data=synthetic"
        )
    return shards


class ShardDataset:
    """Folders of shards, one a split. `splits` names each split's folder below `folder`, e.g. {"train": "train"}."""

    def __init__(self, folder: str, splits: Mapping[str, str], cache_folder: str, max_damaged_share: float) -> None:
        if not {"train", "val"} <= splits.keys():
            raise ValueError(f"a dataset needs the splits train and val, got {list(splits)}")
        self.folder = Path(folder)
        self.cache_folder = Path(cache_folder)
        self.max_damaged_share = max_damaged_share
        self._names = dict(splits)

    def splits(self) -> Mapping[str, ShardFolder]:
        return {
            split: ShardFolder(self.folder / name, self.cache_folder / split, self.max_damaged_share)
            for split, name in self._names.items()
        }


class ShardFolder:
    """The good records of a folder of shards, read where they lie.

    The first `prepare` reads and checks every sample once and keeps what it learned in `cache_folder`; a shard that
    changed is read again. Samples that are damaged are skipped; above `max_damaged_share` of all samples, `open`
    raises ValueError with the count of each reason.
    """

    def __init__(self, folder: str | Path, cache_folder: str | Path, max_damaged_share: float) -> None:
        self.folder = Path(folder)
        self.name = str(folder)
        self.cache_folder = Path(cache_folder)
        self.max_damaged_share = max_damaged_share
        self.headers: list[RecordHeader] = []
        self.parts: Sequence[Part] = []
        self.damage: dict[str, str] = {}
        self._samples: list[tuple[Path, Sample]] = []
        self._actions = ArrayCache(self.cache_folder / "actions", "uint8", {})

    def prepare(self) -> None:
        """Indexes the shards that are not indexed yet. One process does this, before the others `open`."""
        missing = [shard for shard in find_shards(self.folder) if self._load_index(shard) is None]
        for shard in Progress(f"reading shards of {self.folder}", len(missing)).through(missing):
            self._index(shard)

    def open(self) -> None:
        """Learns from the index which records there are."""
        self.headers, self._samples, self.damage = [], [], {}
        parts: list[Part] = []
        keys: set[str] = set()
        for shard in find_shards(self.folder):
            index = self._load_index(shard)
            if index is None:
                raise FileNotFoundError(f"{shard} changed while it was read; start again")
            begin = len(self.headers)
            self.damage.update({f"{shard.name}:{key}": reason for key, reason in index["damage"]})
            self._actions.open(shard.stem, index["sha256"], [record["key"] for record in index["records"]], keys)
            for record in index["records"]:
                if record["key"] in keys:
                    self.damage[f"{shard.name}:{record['key']}"] = "key seen before"
                    continue
                keys.add(record["key"])
                members = {name: (place[0], place[1]) for name, place in record.pop("members").items()}
                self._samples.append((shard, Sample(record["key"], members)))
                self.headers.append(_header_from_dict(record))
            parts.append(Part(shard.stem, index["sha256"], range(begin, len(self.headers))))
        self.parts = parts
        if not self.headers and not self.damage:
            raise ValueError(
                f"the shards in {self.folder} hold no samples; write them anew with `python -m data_pipeline`"
            )
        check_damage(self.name, self.damage, len(self.headers), self.max_damaged_share)

    def actions(self, index: int) -> UInt8[np.ndarray, "t p k"]:
        return self._actions.array(self.headers[index].key)

    def state(self, index: int) -> Facts:
        _, sample = self._samples[index]
        if "state.npz" not in sample.members:
            return {}
        with np.load(io.BytesIO(self._member(index, "state.npz")), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def frames(self, index: int, view: int, start: int, stop: int) -> UInt8[np.ndarray, "t h w 3"]:
        header = self.headers[index]
        expected = Expected(header.num_frames, header.height, header.width)
        try:
            return decode_video(self._member(index, f"view{view}.mp4"), expected, start, stop)
        except UnreadableVideo as mistake:
            raise DamagedRecord(header.key, mistake.reason, mistake.detail) from mistake

    def _member(self, index: int, name: str) -> bytes:
        shard, sample = self._samples[index]
        offset, size = sample.members[name]
        with shard.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _index_path(self, shard: Path) -> Path:
        return self.cache_folder / "index" / f"{shard.stem}.json"

    def _load_index(self, shard: Path) -> dict[str, Any] | None:
        try:
            index = json.loads(self._index_path(shard).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return index if index.get("file") == _file_facts(shard) else None

    def _index(self, shard: Path) -> None:
        """Reads every sample of a shard once."""
        records: list[dict[str, Any]] = []
        damage: list[tuple[str, str]] = []
        actions: dict[str, npt.NDArray[np.uint8]] = {}
        for sample in walk_samples(shard):
            try:
                record = read_record(sample, shard)
                if record.key in actions:
                    raise DamagedRecord(record.key, "key seen before")
            except DamagedRecord as mistake:
                damage.append((mistake.key, mistake.reason))
                continue
            actions[record.key] = record.actions
            records.append({**_header_to_dict(record), "members": {k: list(v) for k, v in sample.members.items()}})
        with shard.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self._actions.write(shard.stem, sha256, list(actions), iter(actions.items()))
        with atomic_file(self._index_path(shard)) as temporary:
            temporary.write_text(
                json.dumps({"file": _file_facts(shard), "sha256": sha256, "records": records, "damage": damage})
            )


def check_damage(name: str, damage: Mapping[str, str], num_good: int, max_damaged_share: float) -> None:
    """Raises ValueError, with the count of each reason and an example, where too much is damaged or nothing is left."""
    total = len(damage) + num_good
    if damage and (not num_good or len(damage) / total > max_damaged_share):
        reasons = Counter(damage.values())
        examples = {reason: key for key, reason in reversed(list(damage.items()))}
        counted = "; ".join(f"{count} x {reason} (e.g. {examples[reason]})" for reason, count in reasons.most_common())
        raise ValueError(
            f"{len(damage)} of {total} samples in {name} are damaged, allowed is a share of {max_damaged_share}: "
            f"{counted}. See `python -m data_pipeline validate {name}`, or raise data.dataset.max_damaged_share"
        )


def _members(tar: tarfile.TarFile, shard: Path) -> Iterator[tarfile.TarInfo | None]:
    """The members whose bytes are all there; None where the file ends too early."""
    size = shard.stat().st_size
    try:
        for member in tar:
            if member.offset_data + member.size > size:
                yield None
                return
            yield member
    except (tarfile.TarError, EOFError):
        yield None


def _file_facts(shard: Path) -> dict[str, int]:
    facts = shard.stat()
    return {"format": FORMAT, "num_bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}


def _header_to_dict(record: ShardRecord) -> dict[str, Any]:
    return {
        "key": record.key,
        "num_frames": record.num_frames,
        "num_players": record.num_players,
        "height": record.height,
        "width": record.width,
        "fps": record.fps,
        "action_space": record.action_space.to_dict(),
        "caption": record.caption.summary,
        "instructions": [instruction.to_dict() for instruction in record.instructions],
        "has_actions": record.has_actions,
    }


def _header_from_dict(value: Mapping[str, Any]) -> RecordHeader:
    instructions = sorted(map(Instruction.from_dict, value["instructions"]), key=lambda said: said.frame)
    return RecordHeader(
        **{
            **value,
            "action_space": ActionSpace.from_dict(value["action_space"]),
            "instructions": tuple(instructions),
        }
    )
