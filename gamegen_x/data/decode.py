"""H.264 bytes -> frames, and frames -> another size."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8


@dataclass(frozen=True)
class Expected:
    """What a record promises about each of its videos."""

    num_frames: int
    height: int
    width: int


class UnreadableVideo(ValueError):  # noqa: N818
    """`reason` is a category to count by; the message says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def probe_video(video: bytes, expected: Expected) -> None:
    """Looks at a video's header only. Raises UnreadableVideo where it cannot be what the record promises."""
    if not video:
        raise UnreadableVideo("video is empty", "0 bytes")
    try:
        with av.open(io.BytesIO(video), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise UnreadableVideo("no video inside", f"{len(video)} bytes")
            stream = container.streams.video[0]
            if stream.codec_context.name != "h264":
                raise UnreadableVideo("video is not H.264", f"its codec is {stream.codec_context.name}")
            if (stream.height, stream.width) != (expected.height, expected.width):
                raise UnreadableVideo(
                    "video has another size",
                    f"{stream.height}x{stream.width}, the record says {expected.height}x{expected.width}",
                )
            if stream.frames and stream.frames != expected.num_frames:
                raise UnreadableVideo(
                    "video has another length", f"{stream.frames} frames, the record says {expected.num_frames}"
                )
    except FFmpegError as mistake:
        raise UnreadableVideo("video cannot be opened", str(mistake)) from mistake


def decode_video(
    video: bytes, expected: Expected, start: int = 0, stop: int | None = None
) -> UInt8[np.ndarray, "t h w 3"]:
    """Frames `start` to `stop` of an H.264 file, from the key frame before. Raises UnreadableVideo."""
    stop = expected.num_frames if stop is None else stop
    frames: list[UInt8[np.ndarray, "h w 3"]] = []
    try:
        with av.open(io.BytesIO(video), metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # the loader's workers are what runs side by side
            number = 0
            if start:
                per_frame = 1 / (Fraction(stream.average_rate or 1) * Fraction(stream.time_base or 1))
                first = stream.start_time or 0
                container.seek(int(first + start * per_frame), stream=stream, backward=True)
            reformatter = VideoReformatter()  # one thread: starting more costs more than small pictures do
            for position, frame in enumerate(container.decode(stream)):
                if position == 0 and start:
                    number = round(((frame.pts or 0) - first) / per_frame)
                if number >= stop:
                    break
                if number >= start:
                    frames.append(reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())
                number += 1
    except (FFmpegError, IndexError) as mistake:
        raise UnreadableVideo("video cannot be decoded", str(mistake)) from mistake
    if len(frames) != stop - start:
        raise UnreadableVideo("video ends too early", f"{start + len(frames)} frames, expected {stop}")
    if frames[0].shape != (expected.height, expected.width, 3):
        raise UnreadableVideo(
            "video has another size", f"{frames[0].shape[:2]}, the record says {expected.height, expected.width}"
        )
    return np.stack(frames)


def resize_and_crop(
    frames: UInt8[np.ndarray, "t h_in w_in 3"], height: int, width: int
) -> UInt8[np.ndarray, "t h w 3"]:
    """Scales frames until they cover the size, keeps the middle."""
    if frames.shape[1:3] == (height, width):
        return frames
    scale = max(height / frames.shape[1], width / frames.shape[2])
    scaled = (max(width, round(frames.shape[2] * scale)), max(height, round(frames.shape[1] * scale)))
    top, left = (scaled[1] - height) // 2, (scaled[0] - width) // 2
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.stack(
        [
            cv2.resize(frame, scaled, interpolation=interpolation)[top : top + height, left : left + width]
            for frame in frames
        ]
    )
