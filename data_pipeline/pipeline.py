"""Pipeline: the stages in order, over many sources at once; resumes from what is already written."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline.clip import Clip, DamagedSourceError
from data_pipeline.dataset import DatasetFolder
from data_pipeline.journal import Journal, size_of, stamp_of
from data_pipeline.ledger import Fate
from data_pipeline.locks import AtWork, only_run
from data_pipeline.progress import ProgressLine
from data_pipeline.stage import Ingest, Stage, identity
from data_pipeline.stages.write_shards import WriteShards
from data_pipeline.tar_shards import tar_members
from data_pipeline.workers import run_in_workers

VERSION = 2  # grows when the same stages begin to give other clips: unfinished work is then not mixed
PATIENCE_S = 30.0  # for the workers of a killed run
SECONDS_BETWEEN_LINES = 5.0
FIGURES = (  # of the whole dataset, whichever run made them
    "dataset_id",
    "num_clips_kept",
    "num_clips_rejected",
    "num_sources_damaged",
    "rejected",
    "damaged",
    "num_frames",
    "num_view_frames",
    "hours",
)


@dataclass(frozen=True)
class Event:
    """What a worker tells while it works on a source: one clip has met its fate."""

    is_kept: bool
    num_view_frames: int
    share_done: float  # of the source, 0 to 1


@dataclass
class Effort:
    """Seconds by stage, and frames, of one or many sources. "split_scenes" holds the decoding."""

    stage_cpu_s: defaultdict[str, float] = field(default_factory=partial(defaultdict, float))
    stage_wall_s: defaultdict[str, float] = field(default_factory=partial(defaultdict, float))
    num_view_frames: int = 0
    num_clips: int = 0

    def add(self, other: Effort) -> None:
        for ours, theirs in ((self.stage_cpu_s, other.stage_cpu_s), (self.stage_wall_s, other.stage_wall_s)):
            for stage, seconds in theirs.items():
                ours[stage] += seconds
        self.num_view_frames += other.num_view_frames
        self.num_clips += other.num_clips

    def figures(self, seconds: float) -> dict[str, Any]:
        cpu = sum(self.stage_cpu_s.values())
        return {
            "stage_cpu_s": {name: round(value, 3) for name, value in self.stage_cpu_s.items()},
            "stage_wall_s": {name: round(value, 3) for name, value in self.stage_wall_s.items()},
            "view_frames_per_s": round(self.num_view_frames / seconds, 1),
            "view_frames_per_cpu_s": round(self.num_view_frames / cpu, 1) if cpu else 0.0,
            "seconds_total": round(seconds, 3),
        }


@dataclass(frozen=True)
class Pipeline:
    """A mapping of stages in the order of the work: an Ingest first, a WriteShards last.

    It is a mapping and not a list so that `pipeline.stages.filter_motion.minimum=0.1` works on a command line. Its keys
    are the stages' names in the ledger.
    """

    stages: Mapping[str, Ingest | Stage]

    def __post_init__(self) -> None:
        order = list(self.stages.values())
        if len(order) < 3 or not isinstance(order[0], Ingest) or not isinstance(order[-1], WriteShards):
            raise ValueError(
                "a pipeline begins with an ingest stage and ends with write_shards, got "
                f"{list(self.stages) or 'no stages'}"
            )
        strays = [name for name, stage in list(self.stages.items())[1:] if not isinstance(stage, Stage)]
        if strays:
            raise ValueError(f"stages {strays} are no stages; only the first one ingests")

    @property
    def ingest(self) -> tuple[str, Ingest]:
        name, stage = next(iter(self.stages.items()))
        assert isinstance(stage, Ingest)
        return name, stage

    @property
    def later_stages(self) -> dict[str, Stage]:
        return {name: stage for name, stage in self.stages.items() if isinstance(stage, Stage)}

    @property
    def writer(self) -> WriteShards:
        stage = list(self.stages.values())[-1]
        assert isinstance(stage, WriteShards)
        return stage

    def run(
        self, sources: Path, output: Path, workers: int, max_damaged_share: float, overwrite: bool
    ) -> dict[str, Any]:
        """Curates everything below `sources` into `output` and returns the figures of this run.

        What a killed run finished is not done again. Raises ValueError when the folder holds another dataset, when
        nothing is kept, or when more than `max_damaged_share` of the sources are damaged.
        """
        if workers < 1 or not 0 <= max_damaged_share <= 1:
            raise ValueError(
                f"need workers >= 1 and max_damaged_share in [0, 1], got {workers} and {max_damaged_share}"
            )
        if not sources.exists():
            raise FileNotFoundError(f"input {sources} does not exist; name a folder that holds what is to be curated")
        began = time.monotonic()
        paths = self.ingest[1].find(sources)
        stamps = {name: stamp_of(self.ingest[1].files(path)) for name, path in paths.items()}
        effort = Effort()
        with only_run(output, PATIENCE_S):
            folder = DatasetFolder(output, {"version": VERSION, **identity(self.stages)}, stamps)
            if overwrite:
                folder.clear()
            dataset = folder.finished()
            if dataset is None:
                folder.prepare()
                effort = self._curate(paths, folder, workers)
                dataset = folder.finish(self.later_stages, self.writer.clips_per_shard, max_damaged_share)
        return {
            **{name: dataset[name] for name in FIGURES},
            "num_sources": len(paths),
            "workers": workers,
            "num_clips_done_now": effort.num_clips,
            "num_view_frames_done_now": effort.num_view_frames,
            **effort.figures(time.monotonic() - began),
            "output": str(output),
        }

    def curate_source(self, name: str, path: Path, stamp: str, parts: Path) -> Iterator[Event | Effort]:
        """One source through all stages. Yields an event a clip and, at the end, what it cost."""
        effort = Effort()
        with Journal(parts, name, stamp) as journal:
            try:
                clips: Iterator[Clip] = self._open(name, path, effort)
                for stage_name, stage in self.later_stages.items():
                    clips = _flow(stage_name, stage, clips, journal.fates, effort)
                for clip in clips:
                    fate = journal.append(_fate(clip), tar_members(clip.record) if clip.record else b"")
                    effort.num_clips += 1
                    effort.num_view_frames += fate.num_frames * fate.num_views
                    yield Event(fate.is_kept, fate.num_frames * fate.num_views, _share_done(clip))
            except DamagedSourceError as damage:
                journal.append(
                    Fate(name, name, "damaged", 0, 0, 0, by=damage.stage, reason=damage.reason, detail=damage.detail)
                )
            journal.finish()
        yield effort

    def _open(self, name: str, path: Path, effort: Effort) -> Iterator[Clip]:
        stage_name, ingest = self.ingest
        with _at(stage_name, effort):
            source = ingest.open(name, path)
        yield Clip(source=source, start=0, num_frames=source.num_frames)

    def _curate(self, paths: Mapping[str, Path], folder: DatasetFolder, workers: int) -> Effort:
        """All sources that are not finished, in parallel."""
        names = [name for name in paths if not Journal(folder.parts, name, folder.stamps[name]).is_done]
        jobs = [(name, paths[name], folder.stamps[name], folder.parts) for name in names]
        line = ProgressLine([size_of(self.ingest[1].files(paths[name])) for name in names], SECONDS_BETWEEN_LINES)
        total = Effort()
        for number, item in run_in_workers(self.curate_source, jobs, workers, AtWork(folder.path)):
            if isinstance(item, Event):
                line.clip(number, item.is_kept, item.num_view_frames, item.share_done)
            else:
                total.add(item)
                line.source(number)
        return total


def _flow(
    name: str, stage: Stage, clips: Iterator[Clip], finished: Mapping[str, Fate], effort: Effort
) -> Iterator[Clip]:
    """The clips after one stage; without those whose fate an earlier run has written."""
    for clip in clips:
        if clip.is_rejected:
            yield clip
            continue
        results = stage.process(clip)
        del clip  # nobody holds its frames while those of the next one are decoded
        while True:
            result = None
            with _at(name, effort):
                result = next(results, None)
            if result is None:
                break
            is_cut = bool(result.views or result.record) or result.is_rejected
            if is_cut and result.key in finished:
                continue
            yield replace(result, rejected_by=name) if result.is_rejected else result


@contextmanager
def _at(stage: str, effort: Effort) -> Iterator[None]:
    """Counts the time spent in a stage, and tells which one met a damage."""
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        yield
    except DamagedSourceError as damage:
        damage.stage = damage.stage or stage
        raise
    finally:
        effort.stage_cpu_s[stage] += time.process_time() - cpu
        effort.stage_wall_s[stage] += time.perf_counter() - wall


def _fate(clip: Clip) -> Fate:
    return Fate(
        clip=clip.key,
        source=clip.source.name,
        fate="rejected" if clip.is_rejected else "kept",
        start=clip.start,
        num_frames=clip.num_frames,
        num_views=clip.source.num_views,
        height=clip.record.height if clip.record else 0,
        width=clip.record.width if clip.record else 0,
        by=clip.rejected_by,
        reason=clip.reason,
        detail=clip.detail,
        scores=clip.scores,
        fingerprint="" if clip.is_rejected else clip.fingerprint.hex(),
    )


def _share_done(clip: Clip) -> float:
    return min(clip.stop / clip.source.num_frames, 1.0) if clip.source.num_frames else 0.0
