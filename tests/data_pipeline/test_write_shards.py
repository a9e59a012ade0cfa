import io
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from made_up import FACTS, KEYS, make_clip, make_pipeline, make_source, panning, read_video
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_pipeline.clip import Clip
from data_pipeline.ledger import Fate
from data_pipeline.tar_shards import END_OF_ARCHIVE, assemble, read_samples, tar_members
from gamegen_x.schema.caption import Caption, Instruction
from gamegen_x.schema.shard_record import ShardRecord

WRITER = make_pipeline().writer


def finished_clip(seed: int = 0, num_frames: int = 8) -> Clip:
    source = make_source(
        num_frames,
        2,
        name=f"source{seed}",
        has_actions=True,
        facts=FACTS,
        camera="overhead",
        licence="CC0-1.0",
        attribution="me",
    )
    rng = np.random.default_rng(seed)
    clip = make_clip(
        panning(num_frames, seed=seed),
        panning(num_frames, seed=seed + 50),
        source=source,
        caption=Caption(summary="Two players walk."),
        actions=rng.integers(0, 2, (num_frames, 2, KEYS.num_keys)).astype(np.uint8),
        state={"weather": np.ones(num_frames, np.uint8), "pose": np.zeros((num_frames, 2, 3, 3), np.float32)},
        instructions=(Instruction(text="Let it snow.", frame=4),),
        camera="overhead: pan left | static",
    ).scored("motion", 0.25)
    (clip,) = WRITER.process(clip)
    return clip


def test_a_record_holds_everything_the_clip_knows():
    record = finished_clip().record
    assert (record.key, record.num_frames, record.height, record.width, record.fps) == (
        "source0-000000",
        8,
        64,
        64,
        24.0,
    )
    assert record.has_actions
    assert record.scores == {"motion": 0.25}
    assert (record.camera, record.licence, record.attribution, record.source) == (
        "overhead: pan left | static",
        "CC0-1.0",
        "me",
        "toy",
    )
    assert record.instructions[0].frame == 4
    assert set(record.state) == {"weather", "pose"}
    assert record.facts == FACTS


def test_the_videos_are_h264_and_look_like_the_frames():
    smooth = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in panning(8)])
    video = WRITER.encode(smooth, 24.0)
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.frames, float(stream.average_rate)) == ("h264", 8, 24.0)
    grey = [moving.astype(float).mean(-1) for moving in (read_video(io.BytesIO(video)), smooth)]
    assert 10 * np.log10(255**2 / np.mean((grey[0] - grey[1]) ** 2)) > 32


def test_equal_clips_are_equal_bytes_whatever_lies_in_memory():
    rng = np.random.default_rng(0)
    frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.8) for frame in panning(16, seed=5, down=0.5)])
    different = set()
    for _ in range(8):
        garbage = [np.frombuffer(rng.bytes(size), np.uint8).copy() for size in rng.integers(100, 60000, 100).tolist()]
        del garbage[::2]
        different.add(WRITER.encode(frames, 24.0))
    assert len(different) == 1
    assert tar_members(finished_clip().record) == tar_members(finished_clip().record)


def test_records_come_back_from_a_tar_as_they_were():
    clips = [finished_clip(seed) for seed in range(3)]
    tar = b"".join(tar_members(clip.record) for clip in clips) + END_OF_ARCHIVE
    for clip, sample in zip(clips, read_samples(io.BytesIO(tar)), strict=True):
        record = ShardRecord.from_sample(sample)
        assert record.key == clip.key
        assert record.videos == clip.record.videos
        assert (record.actions == clip.actions).all()
        assert record.caption == clip.caption
        assert record.instructions == clip.instructions


def test_webdataset_reads_the_shards(tmp_path: Path):
    clips = [finished_clip(seed) for seed in range(3)]
    kept = [
        (Fate(clip.key, clip.source.name, "kept", 0, 8, 2), lambda clip=clip: tar_members(clip.record))
        for clip in clips
    ]
    fates = list(assemble(kept, tmp_path, clips_per_shard=2))
    assert [fate.shard for fate in fates] == ["shard-000000.tar", "shard-000000.tar", "shard-000001.tar"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-000000.tar", "shard-000001.tar"]
    samples = []
    for name in ("shard-000000.tar", "shard-000001.tar"):
        with (tmp_path / name).open("rb") as file:
            samples += list(group_by_keys(tar_file_expander([{"url": name, "stream": file}])))
    assert [sample["__key__"] for sample in samples] == [clip.key for clip in clips]
    assert ShardRecord.from_sample(samples[0]).num_players == 2
    with (tmp_path / fates[1].shard).open("rb") as file:
        file.seek(fates[1].offset)
        assert file.read(len(tar_members(clips[1].record))) == tar_members(clips[1].record)


def test_a_clip_without_a_caption_or_keys_is_a_mistake_of_the_pipeline():
    with pytest.raises(ValueError, match="put caption_clips and align_actions before it"):
        list(WRITER.process(make_clip(panning(4))))
