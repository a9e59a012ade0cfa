"""A folder of videos -> sources, one view each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.clip import DamagedSourceError, Source
from data_pipeline.stage import Ingest, files_below, source_names
from data_pipeline.video_reader import VideoReader
from gamegen_x.schema.action_space import ActionSpace


@dataclass(frozen=True)
class IngestVideos(Ingest):
    """Finds videos by the ends of their names.

    Where the keys are known, they stand beside `play.mp4` in `play.keys.txt`, as a key string in frames of the dataset
    (`W*8 W+D*4 _*2`). A video without that file gets rows of zeros and `has_actions` false.
    """

    reader: VideoReader
    fps: float
    suffixes: Sequence[str]
    action_space: ActionSpace
    licence: str
    attribution: str

    def find(self, folder: Path) -> Mapping[str, Path]:
        suffixes = {suffix.lower() for suffix in self.suffixes}
        videos = [path for path in files_below(folder) if path.suffix.lower() in suffixes]
        if not videos:
            raise ValueError(f"no videos below {folder}: expected files that end with one of {sorted(suffixes)}")
        return source_names(videos, folder)

    def files(self, path: Path) -> Sequence[Path]:
        return [file for file in (path, _keys_file(path)) if file.is_file()]

    def open(self, name: str, path: Path) -> Source:
        info = self.reader.probe(path)
        actions = None
        keys_file = _keys_file(path)
        if keys_file.is_file():
            try:
                actions = self.action_space.parse(keys_file.read_text())[:, None]
            except ValueError as mistake:
                raise DamagedSourceError("unreadable keys", f"{keys_file.name}: {mistake}") from None
        num_frames = int(info.num_frames * self.fps / info.fps) if info.fps else 0
        return Source(
            name=name,
            label=os.fsencode(path.stem).decode(errors="replace"),  # it is said in captions
            videos=(path,),
            fps=self.fps,
            num_frames=num_frames if actions is None else len(actions),
            action_space=self.action_space,
            has_actions=actions is not None,
            actions=actions,
            licence=self.licence,
            attribution=self.attribution,
        )


def _keys_file(video: Path) -> Path:
    return video.with_suffix(".keys.txt")
