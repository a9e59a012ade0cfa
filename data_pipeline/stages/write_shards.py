"""Clips -> ShardRecords in tar files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from data_pipeline.clip import Clip, Frames
from data_pipeline.stage import Stage
from gamegen_x.schema.shard_record import ShardRecord


@dataclass(frozen=True)
class WriteShards(Stage):
    """Encodes each view as H.264 and makes the record. One thread an encoder: the same frames give the same bytes.

    `crf` 0 (lossless) to 51; `keyframe_every` in frames: a reader can start there.
    """

    crf: float
    preset: str
    pixel_format: str
    keyframe_every: int
    clips_per_shard: int

    def __post_init__(self) -> None:
        if self.clips_per_shard < 1 or self.keyframe_every < 1:
            raise ValueError(
                "clips_per_shard and keyframe_every are 1 or more, "
                f"got {self.clips_per_shard} and {self.keyframe_every}"
            )

    def process(self, clip: Clip) -> Iterator[Clip]:
        source = clip.source
        if clip.caption is None or clip.actions is None:
            raise ValueError("write_shards needs captions and keys: put caption_clips and align_actions before it")
        height, width = clip.views[0].shape[1:3]
        record = ShardRecord(
            key=clip.key,
            videos=tuple(self.encode(frames, source.fps) for frames in clip.views),
            num_frames=clip.num_frames,
            height=height,
            width=width,
            fps=source.fps,
            action_space=source.action_space,
            actions=clip.actions,
            caption=clip.caption,
            source=source.label,
            has_actions=source.has_actions,
            instructions=clip.instructions,
            scores=clip.scores,
            camera=clip.camera or source.camera,
            licence=source.licence,
            attribution=source.attribution,
            state=clip.state,
            facts=source.facts,
        )
        yield replace(clip, record=record, views=())

    def encode(self, frames: Frames, fps: float) -> bytes:
        """An MP4 file of frames "t h w 3"."""
        import av

        file = io.BytesIO()
        options = {"fflags": "+bitexact"}
        with av.open(file, "w", format="mp4", options=options) as container:
            # x264's macroblock tree reads beyond small pictures: at 64x64 it gives other bytes every time.
            codec_options = {"crf": str(self.crf), "preset": self.preset, "x264-params": "mbtree=0"}
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=codec_options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = self.pixel_format
            stream.gop_size = self.keyframe_every
            stream.codec_context.thread_count = 1
            reformatter = av.video.reformatter.VideoReformatter()
            for frame in frames:
                rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
                container.mux(stream.encode(reformatter.reformat(rgb, format=self.pixel_format, threads=1)))
            container.mux(stream.encode())
        return file.getvalue()
