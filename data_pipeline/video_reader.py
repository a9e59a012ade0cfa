"""Frames of a video at a given rate and size, by PyAV or decord behind one interface."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.clip import DamagedSourceError
from data_pipeline.stage import NOT_IN_IDENTITY

_EPSILON = 1e-4  # of a frame: container times are rounded to a time base


@dataclass(frozen=True)
class VideoInfo:
    """What a file's header says. `num_frames` may be an estimate, and 0 where the header is silent."""

    codec: str
    height: int
    width: int
    fps: float
    num_frames: int


@dataclass(frozen=True)
class VideoReader(ABC):
    """Reads a video from its beginning, frame by frame. The file is opened by the call, in the process that calls."""

    height: int | None  # None keeps the source's
    width: int | None
    num_threads: int = field(metadata=NOT_IN_IDENTITY)

    def __post_init__(self) -> None:
        if (self.height is None) != (self.width is None):
            raise ValueError(f"set both height and width or neither, got {self.height} and {self.width}")
        for name, size in (("height", self.height), ("width", self.width)):
            if size is not None and (size < 2 or size % 2):
                raise ValueError(f"{name} is an even number of pixels (H.264 halves the colours), got {size}")

    @abstractmethod
    def probe(self, path: Path) -> VideoInfo:
        """Raises DamagedSourceError when this is not a video."""

    @abstractmethod
    def _timed_frames(self, path: Path) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
        """Every frame in order, with its time in seconds from the first."""

    def frames(self, path: Path, fps: float, video_fps: float | None) -> Iterator[npt.NDArray[np.uint8]]:
        """Frames "h w 3" (RGB) at `fps`: frame k is what was on the screen at k / fps seconds.

        `video_fps` is the constant rate of a recorded session; None trusts the times in the file. Raises
        DamagedSourceError where the file breaks; the frames before have been yielded by then.
        """
        check_not_empty(path)
        last: npt.NDArray[np.uint8] | None = None
        last_time, gap, shown = 0.0, 1 / fps, 0
        for index, (file_time, frame) in enumerate(self._timed_frames(path)):
            time = file_time if video_fps is None else index / video_fps
            if last is not None:
                gap = max(time - last_time, 0.0)
                while shown < time * fps - _EPSILON:
                    yield last
                    shown += 1
            fitted = self._fit(frame)
            if last is not None and fitted.shape != last.shape:
                sizes = " to ".join(f"{size[1]}x{size[0]}" for size in (last.shape, fitted.shape))
                raise DamagedSourceError(
                    "size changes", f"{path.name}: from {sizes} at frame {index}; set height and width"
                )
            last, last_time = fitted, time
        if last is None:
            raise DamagedSourceError("no frames", f"{path.name} has a video stream, and not one frame could be decoded")
        if video_fps is not None:
            gap = 1 / video_fps
        while shown < (last_time + gap) * fps - _EPSILON:
            yield last
            shown += 1

    def _covering(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size of the source's shape that covers the wanted one; never larger than the source."""
        if self.height is None or self.width is None:
            return height, width
        scale = min(height / self.height, width / self.width)
        return (round(height / scale), round(width / scale)) if scale > 1 else (height, width)

    def _fit(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The largest centred cut of the wanted aspect ratio, resized by area (up: by cubic)."""
        height, width = frame.shape[:2]
        if self.height is None or self.width is None:
            if height % 2 or width % 2:
                raise DamagedSourceError("odd size", f"{width}x{height}; H.264 needs even sizes: set height and width")
            return frame
        if (height, width) == (self.height, self.width):
            return frame
        scale = min(height / self.height, width / self.width)
        cut_height, cut_width = round(self.height * scale), round(self.width * scale)
        top, left = (height - cut_height) // 2, (width - cut_width) // 2
        cut = frame[top : top + cut_height, left : left + cut_width]
        method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(cut, (self.width, self.height), interpolation=method), np.uint8)


@dataclass(frozen=True)
class PyAVReader(VideoReader):
    """Decodes with FFmpeg through PyAV. Sequential, one frame in memory."""

    def probe(self, path: Path) -> VideoInfo:
        import av

        check_not_empty(path)
        with _open_av(path) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            num_frames = stream.frames
            if not num_frames and container.duration:
                num_frames = int(container.duration / 1e6 * fps)
            height, width = stream.height, stream.width
            with suppress(av.error.FFmpegError):  # whoever reads the frames meets that
                if _quarter_turns(next(container.decode(stream), None)) % 2:
                    height, width = width, height
            return VideoInfo(stream.codec_context.name, height, width, fps, num_frames)

    def _timed_frames(self, path: Path) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
        import av
        from av.video.reformatter import Interpolation, VideoReformatter

        with _open_av(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = self.num_threads
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            reformatter = VideoReformatter()
            first: float | None = None
            index = 0
            try:
                for frame in container.decode(stream):
                    time = frame.time
                    if time is None:
                        time = index / fps if fps else 0.0
                    first = time if first is None else first
                    index += 1
                    turns = _quarter_turns(frame)
                    size = (frame.height, frame.width)
                    height, width = self._covering(*size) if turns % 2 == 0 else self._covering(*size[::-1])[::-1]
                    # One thread: at 64x64 more of them cost four times as much
                    rgb = reformatter.reformat(
                        frame, width, height, format="rgb24", interpolation=Interpolation.AREA, threads=1
                    )
                    upright = np.rot90(np.asarray(rgb.to_ndarray(), np.uint8), turns)
                    yield time - first, np.ascontiguousarray(upright)
            except av.error.FFmpegError as mistake:
                check_readable([path])
                raise DamagedSourceError(
                    "cannot decode", f"{path.name} breaks after frame {index}: {mistake}"
                ) from None


@dataclass(frozen=True)
class DecordReader(VideoReader):
    """Decodes with decord, `batch_frames` frames at a time."""

    batch_frames: int = field(metadata=NOT_IN_IDENTITY)

    def probe(self, path: Path) -> VideoInfo:
        info = PyAVReader(None, None, self.num_threads).probe(path)  # decord tells no codec
        reader = self._open(path)
        height, width = (int(size) for size in reader[0].shape[:2])
        return VideoInfo(info.codec, height, width, float(reader.get_avg_fps()), max(len(reader), info.num_frames))

    def _timed_frames(self, path: Path) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
        import decord

        reader = self._open(path)
        index = 0
        try:
            times = reader.get_frame_timestamp(range(len(reader)))[:, 0]
            for start in range(0, len(reader), self.batch_frames):
                batch = range(start, min(start + self.batch_frames, len(reader)))
                for index, frame in zip(batch, reader.get_batch(batch).asnumpy(), strict=True):
                    yield float(times[index] - times[0]), frame
        except decord.DECORDError as mistake:
            check_readable([path])
            first_line = str(mistake).splitlines()[0]
            raise DamagedSourceError("cannot decode", f"{path.name} breaks after frame {index}: {first_line}") from None

    def _open(self, path: Path) -> Any:
        import decord

        check_not_empty(path)
        try:
            return decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=self.num_threads)
        except (decord.DECORDError, RuntimeError) as mistake:
            check_readable([path])
            first_line = str(mistake).splitlines()[0]
            raise DamagedSourceError("not a video", f"{path.name}: {first_line}") from None
        except UnicodeEncodeError:
            raise DamagedSourceError(
                "name is not UTF-8", f"{path.name}: decord opens no such file; rename it, or use pipeline/reader=pyav"
            ) from None


def resampled_indices(num_frames: int, video_fps: float, fps: float) -> npt.NDArray[np.int64]:
    """For every frame at `fps` the frame of a constant-rate video that is on the screen then: what `frames` yields."""
    num_shown = math.ceil(num_frames * fps / video_fps - _EPSILON)
    indices = np.floor(np.arange(num_shown) * video_fps / fps + _EPSILON * video_fps / fps).astype(np.int64)
    return np.minimum(indices, num_frames - 1)


def held_between(
    actions: npt.NDArray[np.uint8], indices: Sequence[int] | npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """Rows of "t p k" at a lower rate: a key counts when it acted on any frame since the one shown before."""
    starts = np.concatenate([[0], np.asarray(indices[:-1]) + 1])
    stops = np.asarray(indices) + 1
    return np.stack([actions[min(a, b - 1) : b].max(axis=0) for a, b in zip(starts, stops, strict=True)])


def check_not_empty(path: Path) -> None:
    if not path.is_file():
        raise DamagedSourceError("missing file", f"{path.name} is not there")
    if path.stat().st_size == 0:
        raise DamagedSourceError("zero bytes", f"{path.name} is empty")


def _quarter_turns(frame: Any) -> int:
    """How often a PyAV frame is to be turned counterclockwise to stand as players show it: what a telephone noted."""
    return round(frame.rotation / 90) % 4 if frame is not None else 0


def check_readable(files: Iterable[Path]) -> None:
    """Raises the system's OSError (no permission, a failing disk, too many open files): then no file is damaged."""
    for path in files:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass


def _open_av(path: Path) -> Any:
    import av

    try:
        container = av.open(str(path), metadata_errors="ignore")  # tags come in any encoding
    except av.error.FFmpegError as mistake:
        check_readable([path])
        raise DamagedSourceError("not a video", f"{path.name}: {mistake}") from None
    if not container.streams.video:
        container.close()
        raise DamagedSourceError("no video stream", f"{path.name} holds no picture")
    return container
