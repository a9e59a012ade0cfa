"""Recorded sessions -> sources. The seats of one session stay together as views."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipeline.clip import DamagedSourceError, Source
from data_pipeline.stage import Ingest, files_below, source_names
from data_pipeline.video_reader import VideoReader, check_readable, held_between, resampled_indices
from gamegen_x.schema.caption import Instruction
from gamegen_x.schema.trace import Trace

HEADER = "trace.json"


@dataclass(frozen=True)
class IngestTraces(Ingest):
    """Finds folders with a `trace.json` and puts keys, state and text events on the dataset's clock.

    At a lower rate a key counts for a frame when it acted on any recorded frame since the one before, so that no
    short press is lost; state is that of the frame shown.
    """

    reader: VideoReader
    fps: float
    codecs: tuple[str, ...] | list[str]

    def find(self, folder: Path) -> Mapping[str, Path]:
        # A folder with a seat's video and no header is an unfinished recording: it is counted as damaged.
        folders = sorted({path.parent for path in files_below(folder) if path.name in (HEADER, "seat-0.mp4")})
        if not folders:
            raise ValueError(
                f"no traces below {folder}: expected folders with a {HEADER}; "
                f"record some with `python -m gamegen_x.games.record game=snowglobe output={folder}`"
            )
        sources = source_names(folders, folder)
        check_one_action_space(sources)
        return sources

    def open(self, name: str, path: Path) -> Source:
        try:
            trace = Trace.load(path)
        except ValueError as mistake:
            check_readable(self.files(path))
            raise DamagedSourceError("unreadable trace", str(mistake)) from None
        videos = tuple(trace.video_path(seat) for seat in range(trace.num_players))
        for seat, video in enumerate(videos):
            info = self.reader.probe(video)
            if info.codec not in self.codecs:
                raise DamagedSourceError(
                    "wrong codec", f"seat {seat} is {info.codec}, expected one of {list(self.codecs)}"
                )
            if info.num_frames < trace.num_frames:
                raise DamagedSourceError(
                    "truncated video", f"seat {seat} has {info.num_frames} frames, its keys {trace.num_frames}"
                )
        try:
            for event in trace.text_events:
                Instruction(event.text, event.frame)
        except ValueError as mistake:
            raise DamagedSourceError("unreadable instruction", str(mistake)) from None
        shown = resampled_indices(trace.num_frames, trace.fps, self.fps)
        return Source(
            name=name,
            label=trace.game,
            videos=videos,
            fps=self.fps,
            num_frames=len(shown),
            video_fps=trace.fps,
            action_space=trace.action_space,
            has_actions=True,
            actions=held_between(trace.actions, shown),
            state={key: values[shown] for key, values in trace.state.items()},
            facts=trace.facts,
            text_events=tuple(
                replace(event, frame=int((shown < event.frame).sum()))
                for event in trace.text_events
                if event.frame <= shown[-1]
            ),
            camera=trace.camera,
            licence=trace.licence,
            attribution=trace.attribution,
        )


def check_one_action_space(traces: Mapping[str, Path]) -> None:
    """One dataset has one set of keys. Headers that cannot be read are left to `open`, which counts them."""
    seen: dict[str, str] = {}
    for name, folder in traces.items():
        try:
            space = json.loads((folder / HEADER).read_text())["action_space"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        seen.setdefault(json.dumps(space, sort_keys=True), name)
    if len(seen) > 1:
        spaces = "; ".join(f"{name} has {space}" for space, name in seen.items())
        raise ValueError(
            f"the traces have different keys, and a dataset has one action space: {spaces}. Curate each game apart"
        )
