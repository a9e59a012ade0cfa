"""H264: a tier whose blocks are groups of pictures: the first stands alone, the others say what changed since."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import av
import numpy as np

from gamegen_x.games.door import Frame
from gamegen_x.serve.frame_codec import Tier, shrunk

ENCODER = "libx264"
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
CODECS: Mapping[str, str] = {  # as WebCodecs calls them; of level 3.1: pictures of up to 1280x720
    "yuv444p": "avc1.f4001f",  # High 4:4:4 Predictive
    "yuv420p": "avc1.64001f",  # High
}
# Every block begins with a whole picture and brings its own parameter sets; colours are said to be those of BT.709.
X264 = "keyint=infinite:scenecut=0:repeat-headers=1:annexb=1:threads=1:colorprim=bt709:transfer=bt709:colormatrix=bt709"
FPS = 24  # only rates of bits would depend on it
_START = re.compile(rb"\x00?\x00\x00\x01")  # of a unit of the stream
_NOTE = 6  # kind of a unit: x264 tells its settings in 600 bytes, to every block


@dataclass(frozen=True, kw_only=True)
class H264(Tier):
    """A decibel less crisp than the best JPEG, in a fifth to two fifths of its bytes; a millisecond of a core a block.

    Nothing refers to another block, so that any may be skipped, and one encoding serves all who look.
    """

    crf: float  # 0 (without loss) to 51
    preset: str  # of x264, e.g. veryfast
    pixel_format: str  # yuv444p keeps single pixels crisp; yuv420p halves the colours, and every browser reads it
    is_slow: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.crf <= 51 or self.pixel_format not in CODECS or self.preset not in PRESETS:
            raise ValueError(
                f"a tier of H.264 has a crf from 0 to 51, a pixel_format of {list(CODECS)} and a preset of "
                f"{list(PRESETS)}, got {self.crf}, {self.pixel_format!r} and {self.preset!r}"
            )

    @property
    def codec(self) -> str:
        return CODECS[self.pixel_format]

    def fault(self) -> str | None:
        if ENCODER not in av.codecs_available:
            return f"this build of PyAV has no {ENCODER}"
        try:
            self.encode([np.zeros((16, 16, 3), np.uint8)])
        except (av.FFmpegError, ValueError) as mistake:
            return f"{ENCODER} of this build of PyAV writes no {self.pixel_format}: {mistake}"
        return None

    def encode(self, pictures: Sequence[Frame]) -> list[bytes]:
        """Annex B, one access unit a picture. For yuv420p a last odd row or column is left out.

        Raises av.FFmpegError where the encoder cannot.
        """
        small = [_even(shrunk(picture, self.shrink), self.pixel_format) for picture in pictures]
        encoder = av.CodecContext.create(ENCODER, "w")
        encoder.height, encoder.width = small[0].shape[:2]
        encoder.pix_fmt = self.pixel_format
        encoder.time_base = Fraction(1, FPS)
        encoder.options = {"crf": str(self.crf), "preset": self.preset, "tune": "zerolatency", "x264-params": X264}
        packets = []
        for picture in small:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            packets += encoder.encode(frame.reformat(format=self.pixel_format, dst_colorspace="ITU709"))
        packets += encoder.encode(None)
        return [_without_notes(bytes(packet)) for packet in packets]


def _without_notes(packet: bytes) -> bytes:
    units = _START.split(packet)[1:]
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units if unit[0] & 31 != _NOTE)


def _even(picture: Frame, pixel_format: str) -> Frame:
    if pixel_format == "yuv420p":
        height, width = picture.shape[:2]
        picture = picture[: height - height % 2, : width - width % 2]
    return np.ascontiguousarray(picture)
