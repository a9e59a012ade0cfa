"""Frames <-> MP4 (H.264)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from av.video.reformatter import VideoReformatter
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from gamegen_x.schema.files import atomic_file


def to_pixels(video: Float[Tensor, "*any 3 h w"]) -> UInt8[Tensor, "*any h w 3"]:
    """[-1, 1], channels first -> 0..255, channels last, on the CPU: where files and pictures are made."""
    pixels = ((video.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous().cpu()


def from_pixels(pixels: UInt8[Tensor, "*any h w 3"]) -> Float[Tensor, "*any 3 h w"]:
    """The inverse of `to_pixels`."""
    return pixels.movedim(-1, -3).float() / 127.5 - 1


def write_video(path: str | Path, frames: npt.NDArray[np.uint8] | Tensor, fps: float, crf: int) -> None:
    """Writes `[t h w 3]` uint8 frames as H.264 that browsers play. The file is whole or absent."""
    array = np.asarray(frames)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or not len(array):
        raise ValueError(f"a video is uint8 frames [t h w 3], got {array.dtype} {array.shape}")
    if array.shape[1] % 2 or array.shape[2] % 2:
        raise ValueError(f"H.264 needs an even height and width, got {array.shape[1]}x{array.shape[2]}")
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = array.shape[2], array.shape[1], "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium", "x264-params": "mbtree=0"}  # equal frames: equal bytes
        reformatter = VideoReformatter()  # one thread: starting more costs more than small pictures do
        for frame in array:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(reformatter.reformat(picture, format="yuv420p", threads=1)))
        container.mux(stream.encode())


def write_gif(path: str | Path, frames: npt.NDArray[np.uint8] | Tensor, fps: float) -> None:
    """Writes `[t h w 3]` uint8 frames as a GIF that repeats. Browsers play at most 50 frames a second."""
    images = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in np.asarray(frames)]
    with atomic_file(path) as temporary:
        images[0].save(
            temporary, format="GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0
        )


def read_video(path: str | Path) -> tuple[npt.NDArray[np.uint8], float]:
    """All frames `[t h w 3]` of a video file, and its frames a second. Raises ValueError where it cannot be read."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no video file {path}")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            reformatter = VideoReformatter()
            frames = [
                reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                for frame in container.decode(stream)
            ]
            rate = stream.average_rate
    except (av.FFmpegError, IndexError) as mistake:
        raise ValueError(f"{path} is not a readable video: {mistake}") from mistake
    if not frames or rate is None:
        raise ValueError(f"{path} holds no video frames")
    return np.stack(frames), float(rate)
