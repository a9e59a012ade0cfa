"""Small real videos and traces for the tests of curation."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from data_pipeline.clip import Clip, Source
from data_pipeline.pipeline import Pipeline
from data_pipeline.stages.align_actions import AlignActions
from data_pipeline.stages.annotate_camera import AnnotateCamera, HomographyTracker
from data_pipeline.stages.caption_clips import CaptionClips
from data_pipeline.stages.filter_aesthetics import FilterAesthetics, ImageStatistics
from data_pipeline.stages.filter_motion import DisFlow, FilterMotion
from data_pipeline.stages.ingest_traces import IngestTraces
from data_pipeline.stages.ingest_videos import IngestVideos
from data_pipeline.stages.remove_duplicates import PerceptualHash, RemoveDuplicates
from data_pipeline.stages.split_scenes import NoScenes, SplitScenes
from data_pipeline.stages.write_shards import WriteShards
from data_pipeline.truth_captioner import TruthCaptioner
from data_pipeline.video_reader import PyAVReader
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.trace import TextEvent, Trace

KEYS = ActionSpace("toy", ("w", "a", "s", "d"))
FACTS = {
    "weather": ("clear", "rain", "snow", "fog"),
    "time_of_day": ("day", "dusk", "night"),
    "season": ("summer", "winter"),
}
TRACKER = HomographyTracker(
    step=2, num_steps=4, max_corners=80, max_width=256, min_share=0.6, min_shift=0.1, min_zoom=0.3, min_roll=20
)


def texture(seed: int, size: int = 400) -> np.ndarray:
    """A colourful picture "h w 3" with corners to track."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(
        rng.integers(30, 220, (size // 16, size // 16, 3), dtype=np.uint8), (size, size), interpolation=2
    )
    for x, y, radius in rng.integers(0, size, (4 * size, 3)):
        colour = tuple(int(part) for part in rng.integers(0, 255, 3))
        cv2.circle(coarse, (int(x), int(y)), 2 + int(radius) % 3, colour, -1)
    return coarse


def panning(num_frames: int, seed: int = 0, right: float = 1.0, down: float = 0.0, size: int = 64) -> np.ndarray:
    """A camera that moves over a texture by so many pixels a frame: "t h w 3"."""
    picture = texture(seed)
    matrices = [np.float32([[1, 0, -150 - right * t], [0, 1, -150 - down * t]]) for t in range(num_frames)]
    return np.stack([cv2.warpAffine(picture, m, (size, size), borderMode=cv2.BORDER_WRAP) for m in matrices])


def write_video(
    path: Path,
    frames: np.ndarray,
    fps: float = 24,
    codec: str = "libx264",
    crf: int = 12,
    title: str = "",
    turned: int = 0,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        options = {"crf": str(crf), "preset": "ultrafast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        if turned:
            stream.set_display_rotation(turned)  # degrees counterclockwise
        stream.pix_fmt = "yuv444p" if frames.shape[1] % 2 else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def read_video(data: Any) -> np.ndarray:
    with av.open(data) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def make_trace(
    folder: Path,
    num_frames: int = 48,
    num_seats: int = 2,
    fps: float = 24,
    seed: int = 0,
    text_events: tuple[TextEvent, ...] = (),
    **changes: Any,
) -> Trace:
    """A session in which every seat pans over its own texture, with random keys and the facts of a sky."""
    rng = np.random.default_rng(seed)
    for seat in range(num_seats):
        video = panning(num_frames, seed=100 * seed + seat, right=1 + seat, down=0.5)
        write_video(folder / f"seat-{seat}.mp4", video, fps)
    state = {
        "frame": np.arange(num_frames),
        **{name: np.full(num_frames, rng.integers(len(names)), np.uint8) for name, names in FACTS.items()},
    }
    trace = Trace(
        **{
            "folder": folder,
            "game": "toy",
            "seed": seed,
            "fps": fps,
            "action_space": KEYS,
            "players": tuple(f"player{seat}" for seat in range(num_seats)),
            "actions": rng.integers(0, 2, (num_frames, num_seats, 4)).astype(np.uint8),
            "state": state,
            "text_events": text_events,
            "camera": "overhead",
            "licence": "CC0-1.0",
            "attribution": "made up",
            "facts": FACTS,
            **changes,
        }
    )
    trace.save()
    return trace


def make_source(num_frames: int = 16, num_views: int = 1, **changes: Any) -> Source:
    """A source without files, for stages that do not read any."""
    values: dict[str, Any] = {
        "name": "made-up",
        "label": "toy",
        "videos": tuple(Path(f"seat-{seat}.mp4") for seat in range(num_views)),
        "fps": 24.0,
        "num_frames": num_frames,
        "action_space": KEYS,
    }
    return Source(**{**values, **changes})


def make_clip(*views: np.ndarray, **changes: Any) -> Clip:
    source = changes.pop("source", None) or make_source(len(views[0]), len(views))
    return Clip(source=source, start=changes.pop("start", 0), num_frames=len(views[0]), views=views, **changes)


def make_pipeline(clip_frames: int = 16, clips_per_shard: int = 4, **changes: Any) -> Pipeline:
    """Every stage of multiplayer_traces, for short clips."""
    reader = PyAVReader(None, None, num_threads=1)
    stages: dict[str, Any] = {
        "ingest_traces": IngestTraces(reader=reader, fps=24.0, codecs=["h264"]),
        "split_scenes": SplitScenes(reader, NoScenes(), min_frames=8, max_frames=clip_frames, multiple=4),
        "filter_aesthetics": FilterAesthetics(ImageStatistics(), minimum=1.0, num_frames=2),
        "filter_motion": FilterMotion(DisFlow(), minimum=0.01, maximum=4.0, num_pairs=2, max_width=64),
        "remove_duplicates": RemoveDuplicates(PerceptualHash(), threshold=0.97, num_frames=4),
        "annotate_camera": AnnotateCamera(TRACKER),
        "caption_clips": CaptionClips(TruthCaptioner(player_colours={})),
        "align_actions": AlignActions(),
        "write_shards": WriteShards(
            crf=12, preset="veryfast", pixel_format="yuv420p", keyframe_every=24, clips_per_shard=clips_per_shard
        ),
    }
    return Pipeline({**stages, **changes})


def make_video_pipeline(**changes: Any) -> Pipeline:
    """The same stages for plain videos."""
    _, *later = make_pipeline(**changes).stages.items()
    ingest = IngestVideos(PyAVReader(None, None, 1), 24.0, [".mp4", ".mkv"], KEYS, licence="CC0-1.0", attribution="me")
    return Pipeline({"ingest_videos": ingest, **dict(later)})
