"""Says what is wrong with a dataset, by sample and reason."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.clip import DamagedSourceError
from data_pipeline.dataset import DATASET, LEDGER, is_intact
from data_pipeline.ledger import read_ledger
from data_pipeline.stage import files_below
from data_pipeline.tar_shards import read_samples
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Caption, Instruction
from gamegen_x.schema.shard_record import ShardRecord
from gamegen_x.schema.trace import Trace


@dataclass(frozen=True)
class Problem:
    """`sample` is "<file>: <key>", or the file alone. `reason` is the same for all of its kind."""

    sample: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.sample}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


def validate(path: Path) -> tuple[list[Problem], dict[str, Any]]:
    """Every problem of a folder of shards, a single shard or a folder of traces, and what was counted.

    Reads every member and decodes every frame.
    """
    shards = [path] if path.suffix == ".tar" and path.is_file() else sorted(path.glob("*.tar"))
    traces = [file for file in files_below(path) if file.name == "trace.json"] if path.exists() else []
    counts: Counter[str] = Counter(num_samples=0, num_view_frames=0)
    problems: list[Problem]
    if not path.exists():
        problems = [
            Problem(str(path), "nothing there", "expected a folder of shards (shard-000000.tar, ...) or traces")
        ]
    elif shards:
        problems = list(_shard_problems(shards, counts))
        problems += _dataset_problems(path, counts) if path.is_dir() else []
    elif traces:
        problems = list(_trace_problems(traces, counts))
    else:
        problems = [Problem(str(path), "no shards", "expected shard-000000.tar, ... or folders with a trace.json")]
    reasons = Counter(problem.reason for problem in problems)
    return problems, {
        "path": str(path),
        "is_valid": not problems,
        "num_problems": len(problems),
        "num_samples": counts["num_samples"],
        "num_samples_damaged": len({problem.sample for problem in problems}),
        "num_view_frames": counts["num_view_frames"],
        "problems_by_reason": dict(sorted(reasons.items())),
    }


def record_problems(record: ShardRecord) -> Iterator[tuple[str, str]]:
    """(reason, detail) of what `ShardRecord` itself does not refuse: pictures, values, texts."""
    if record.actions.dtype != np.uint8 or not np.isin(record.actions, (0, 1)).all():
        yield "keys are not 0 or 1", f"{record.actions.dtype}, {np.unique(record.actions)[:5].tolist()}"
    for instruction in record.instructions:
        if instruction.frame >= record.num_frames:
            yield "instruction outside the clip", f"frame {instruction.frame} of {record.num_frames}"
    for name, names in record.facts.items():
        values = record.state.get(name)
        if values is not None and values.size and int(values.max()) >= len(names):
            yield "class without a name", f"state {name!r} holds {int(values.max())}, facts name {len(names)}"
    pose = record.state.get("pose")
    if pose is not None and not np.isfinite(pose).all():
        yield "pose is not finite", ""
    for view, video in enumerate(record.videos):
        for reason, detail in _video_problems(video, record):
            yield reason, f"view {view}: {detail}"


def _video_problems(video: bytes, record: ShardRecord) -> Iterator[tuple[str, str]]:
    import av

    if not video:
        yield "zero bytes", "no video"
        return
    num_frames = 0
    try:
        with av.open(BytesIO(video), metadata_errors="ignore") as container:
            if not container.streams.video:
                yield "no video stream", ""
                return
            stream = container.streams.video[0]
            if stream.codec_context.name != "h264":
                yield "wrong codec", f"{stream.codec_context.name}, expected h264"
            if (stream.height, stream.width) != (record.height, record.width):
                found, said = f"{stream.width}x{stream.height}", f"{record.width}x{record.height}"
                yield "wrong size", f"{found}, the json says {said}"
            for _ in container.decode(stream):
                num_frames += 1
    except av.error.FFmpegError as mistake:
        yield "cannot decode", f"after frame {num_frames}: {mistake}"
        return
    if num_frames != record.num_frames:
        yield "wrong number of frames", f"{num_frames}, the json says {record.num_frames}"


def _shard_problems(shards: list[Path], counts: Counter[str]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    action_space: ActionSpace | None = None
    for shard in shards:
        for sample in _samples(shard):
            if isinstance(sample, Problem):
                yield sample
                continue
            name = f"{shard.name}: {sample['__key__']}"
            counts["num_samples"] += 1
            if sample["__key__"] in seen:
                yield Problem(name, "duplicate key", f"also in {seen[sample['__key__']]}")
            seen[sample["__key__"]] = shard.name
            try:
                record = ShardRecord.from_sample(sample)
            except ValueError as mistake:
                yield Problem(name, "missing member" if "is missing" in str(mistake) else "unreadable", str(mistake))
                continue
            counts["num_view_frames"] += record.num_frames * record.num_players
            action_space = action_space or record.action_space
            if record.action_space != action_space:
                yield Problem(name, "another action space", f"{record.action_space.keys}, others {action_space.keys}")
            for reason, detail in record_problems(record):
                yield Problem(name, reason, detail)


def _samples(shard: Path) -> Iterator[dict[str, Any] | Problem]:
    if shard.stat().st_size == 0:
        yield Problem(shard.name, "zero bytes")
        return
    last = "the beginning"
    with shard.open("rb") as file:
        try:
            for sample in read_samples(file):
                last = sample["__key__"]
                yield sample
        except (tarfile.TarError, EOFError, OSError) as mistake:
            yield Problem(shard.name, "broken tar", f"after {last}: {mistake}")


def _dataset_problems(folder: Path, counts: Counter[str]) -> Iterator[Problem]:
    """Where dataset.json and the ledger do not fit the shards."""
    if not (folder / DATASET).is_file():
        yield Problem(DATASET, "missing file", "the dataset is unfinished: run the command that makes it again")
        return
    try:
        dataset = json.loads((folder / DATASET).read_text())
        kept = [fate for fate in read_ledger(folder / LEDGER) if fate.is_kept]
        missing = [shard["name"] for shard in dataset["shards"] if not (folder / shard["name"]).is_file()]
        promised = int(dataset["num_clips_kept"])
    except (OSError, KeyError, TypeError, ValueError) as mistake:
        yield Problem(DATASET, "unreadable", f"{type(mistake).__name__}: {mistake}")
        return
    for name in missing:
        yield Problem(name, "missing file", f"named in {DATASET}")
    if counts["num_samples"] != promised:
        yield Problem(DATASET, "wrong number of samples", f"{counts['num_samples']} found, {promised} promised")
    if len(kept) != promised:
        yield Problem(LEDGER, "wrong number of samples", f"{len(kept)} kept, {promised} in {DATASET}")
    for fate in kept:
        if fate.shard not in missing and not is_intact(folder, fate):
            yield Problem(f"{fate.shard}: {fate.clip}", "changed since it was written", f"not what {LEDGER} says")


def _trace_problems(headers: list[Path], counts: Counter[str]) -> Iterator[Problem]:
    for header in headers:
        name = header.parent.name
        counts["num_samples"] += 1
        try:
            trace = Trace.load(header.parent)
        except ValueError as mistake:
            yield Problem(name, "unreadable", str(mistake))
            continue
        counts["num_view_frames"] += trace.num_frames * trace.num_players
        try:
            record = _as_record(trace)
        except (OSError, DamagedSourceError) as mistake:
            yield Problem(name, "missing file", str(mistake))
            continue
        for reason, detail in record_problems(record):
            yield Problem(name, reason, detail)


def _as_record(trace: Trace) -> ShardRecord:
    """A whole trace as one record, so that the same checks serve. Its size is that of the first seat."""
    import av

    videos = tuple(trace.video_path(seat).read_bytes() for seat in range(trace.num_players))
    height = width = 0
    try:
        with av.open(BytesIO(videos[0]), metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            height, width = stream.height, stream.width
    except (av.error.FFmpegError, IndexError):
        pass  # the checks of the video say so
    return ShardRecord(
        key=trace.folder.name,
        videos=videos,
        num_frames=trace.num_frames,
        height=height,
        width=width,
        fps=trace.fps,
        action_space=trace.action_space,
        actions=trace.actions,
        caption=Caption(summary=trace.game),
        source=trace.game,
        instructions=tuple(Instruction(text=event.text, frame=event.frame) for event in trace.text_events),
        state=trace.state,
        facts=trace.facts,
    )
