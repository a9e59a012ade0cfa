"""The loader: frames of views that training is handed a processor second, beside webdataset with decord."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.measuring import Rule, run_in_turn
from benchmarks.rows import Row, compared_rates
from benchmarks.settings import composed
from data_pipeline.stages.write_shards import WriteShards
from data_pipeline.tar_shards import END_OF_ARCHIVE, tar_members
from gamegen_x.config import build
from gamegen_x.data.batch import Batch
from gamegen_x.data.datamodule import VideoDataModule
from gamegen_x.schema.caption import Caption
from gamegen_x.schema.shard_record import ShardRecord

PART = "data_loader"
CACHED, DECODED, PEER = "cached frames", "decoded frames", "webdataset+decord"


def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    num_clips = settings.batch_size * settings.num_batches
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder, "shards"), settings, rule.seed)
        cached, decoded = (batches(Path(folder), settings, rule.seed, is_cached) for is_cached in (True, False))
        plain = plain_batches(shards, settings, rule.seed)
        check_alike(next(cached), next(plain))
        runs: dict[str, Callable[[], object]] = {
            name: lambda series=series: list(islice(series, settings.num_batches))  # type: ignore[misc]
            for name, series in ((CACHED, cached), (DECODED, decoded), (PEER, plain))
        }
        rounds = run_in_turn(runs, rule)
    amounts = dict.fromkeys(runs, float(num_clips * settings.num_players * settings.window))
    return [
        compared_rates(PART, name.replace(" ", "_"), "frames/s", rounds, amounts, PEER, rule, None, ours=name)
        for name in (CACHED, DECODED)
    ]


def write_shards(folder: Path, settings: DictConfig, seed: int) -> list[str]:
    """Made-up clips as the curation would write them; gives the tar files."""
    overrides = (f"data.dataset.num_clips={{train: {settings.num_clips}}}", f"data.dataset.seed={seed}")
    sizes = (f"data.dataset.{name}={settings[name]}" for name in ("num_frames", "num_players"))
    clips = build(composed("train", "data=synthetic", *overrides, *sizes).data.dataset).splits()["train"]
    curation = composed("curate", "pipeline=multiplayer_traces", "input=unused", "output=unused")
    writer: WriteShards = build(curation.pipeline.stages.write_shards)
    (folder / "train").mkdir(parents=True)
    tars = []
    for start in range(0, settings.num_clips, settings.clips_per_shard):
        tars.append(folder / "train" / f"shard-{start:06d}.tar")
        with tars[-1].open("wb") as tar:
            for index in range(start, min(start + settings.clips_per_shard, settings.num_clips)):
                tar.write(tar_members(record_of(clips, index, writer)))
            tar.write(END_OF_ARCHIVE)
    return [str(tar) for tar in tars]


def record_of(clips: Any, index: int, writer: WriteShards) -> ShardRecord:
    header = clips.headers[index]
    views = range(header.num_players)
    return ShardRecord(
        key=header.key,
        videos=tuple(writer.encode(clips.frames(index, view, 0, header.num_frames), header.fps) for view in views),
        num_frames=header.num_frames,
        height=header.height,
        width=header.width,
        fps=header.fps,
        action_space=header.action_space,
        actions=clips.actions(index),
        caption=Caption(header.caption),
        source=clips.name,
        instructions=header.instructions,
    )


def batches(folder: Path, settings: DictConfig, seed: int, is_cached: bool) -> Iterator[Batch]:
    """Our loader's batches without end, made in this process; `is_cached` is how training is configured."""
    cfg = composed(
        "train", "data=shards", "task=vae", f"data.dataset.folder={folder / 'shards'}", "data.dataset.splits.val=train",
        f"data.cache_frames={str(is_cached).lower()}", "data.views=all", f"data.num_frames={settings.window}",
        f"data.batch_size={settings.batch_size}", "data.num_workers=0", f"seed={seed}",
    )  # fmt: skip
    data: VideoDataModule = build(cfg.data)
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    while True:
        yield from loader


def plain_batches(tars: list[str], settings: DictConfig, seed: int) -> Iterator[Tensor]:
    """The same batches as one would write them without this project: no index, no cache, no order to go on from."""
    import webdataset

    rng = np.random.default_rng(seed)
    samples = iter(webdataset.WebDataset(tars, shardshuffle=False).repeat())
    while True:
        starts = rng.integers(0, settings.num_frames - settings.window + 1, settings.batch_size)
        clips = [
            [window(sample, view, start, settings.window) for view in range(settings.num_players)]
            for sample, start in zip(islice(samples, settings.batch_size), starts, strict=True)
        ]
        frames = torch.from_numpy(np.array(clips))
        yield frames.movedim(-1, -3).float().div_(127.5).sub_(1)


def window(sample: Mapping[str, bytes], view: int, start: int, length: int) -> Any:
    import decord

    video = decord.VideoReader(io.BytesIO(sample[f"view{view}.mp4"]), num_threads=1)
    return video.get_batch(range(start, start + length)).asnumpy()


def check_alike(ours: Batch, peer: Tensor) -> None:
    """Raises RuntimeError where the two do not do the same work."""
    assert ours.video is not None
    if ours.video.shape != peer.shape or ours.video.dtype != peer.dtype:
        raise RuntimeError(f"ours hands over {ours.video.shape} {ours.video.dtype}, the peer {peer.shape} {peer.dtype}")
