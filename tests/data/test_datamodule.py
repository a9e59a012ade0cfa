import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from made_shards import (
    CLIP,
    FRAME,
    HELD,
    KEYS,
    SIZE,
    VIEW,
    encode,
    make_data,
    make_record,
    read_bits,
    write_dataset,
    write_shard,
)

from gamegen_x.data.batch import Batch
from gamegen_x.data.datamodule import VideoDataModule
from gamegen_x.schema.caption import Instruction


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "shards", 10)


def check_alignment(batch: Batch) -> None:
    """Pixels, keys and record of every row say the same."""
    assert batch.video is not None
    for row, key in enumerate(batch.keys):
        pixels = batch.video[row][batch.is_player[row]].numpy()
        actions = batch.actions[row][batch.is_player[row]].numpy()
        assert set(read_bits(pixels, CLIP).flat) == {int(key[-4:])}
        frames = read_bits(pixels, FRAME)
        assert (np.diff(frames.astype(int), axis=-1) == 1).all()
        assert (frames[0] == frames).all()  # all views show the same moment
        np.testing.assert_array_equal(read_bits(pixels, HELD), np.packbits(actions.astype(np.uint8), axis=-1)[..., 0])


@pytest.mark.parametrize("cache_frames", [True, False])
def test_keys_and_pixels_of_a_window_belong_together(shards: Path, cache_frames: bool) -> None:
    data = make_data(shards, "data.batch_size=5", "data.num_frames=8", f"data.cache_frames={cache_frames}")
    loader = data.train_dataloader()
    starts = set()
    for batch in [*loader, *loader]:
        assert batch.video is not None
        assert batch.video.shape == (5, 2, 8, 3, SIZE, SIZE)
        assert batch.actions.shape == (5, 2, 8, 7)
        assert [set(read_bits(row.numpy(), VIEW).flat) for row in batch.video.transpose(0, 1)] == [{0}, {1}]
        assert batch.captions == [f"Clip number {int(key[-4:])}." for key in batch.keys]
        check_alignment(batch)
        starts |= set(read_bits(batch.video.numpy(), FRAME)[:, 0, 0].tolist())
    assert starts <= set(range(0, 25, 4))
    assert len(starts) > 3


def test_one_view_at_a_time_shows_every_view_once_an_epoch(shards: Path) -> None:
    data = make_data(shards, "data.batch_size=4", "data.num_frames=8", "data.views=one")
    seen: Counter[tuple[str, int]] = Counter()
    for batch in data.train_dataloader():
        assert batch.video is not None
        assert batch.video.shape[1] == 1
        check_alignment(batch)
        seen.update(zip(batch.keys, read_bits(batch.video.numpy(), VIEW)[:, 0, 0].tolist(), strict=True))
    assert seen == Counter((f"clip-{clip:04d}", view) for clip in range(10) for view in range(2))


def test_windows_are_the_same_cached_or_decoded_and_on_any_workers(shards: Path) -> None:
    given = []
    for options in (["data.cache_frames=true"], ["data.cache_frames=false"]):
        data = make_data(shards, "data.batch_size=5", "data.num_frames=8", *options)
        given.append(list(data.train_dataloader()))
    for one, other in zip(*given, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.video, other.video)
        assert torch.equal(one.actions, other.actions)


def test_clips_with_fewer_players_are_filled_up(tmp_path: Path) -> None:
    for split in ("train", "val"):
        records = [make_record(clip, num_players=1 + clip % 3) for clip in range(6)]
        write_shard(tmp_path / "shards" / split / "a.tar", [record.to_sample() for record in records])
    data = make_data(tmp_path / "shards", "data.batch_size=6", "data.num_frames=8")
    (batch,) = data.train_dataloader()
    assert batch.is_player.sum(1).tolist() == [1 + int(key[-4:]) % 3 for key in batch.keys]
    assert batch.video is not None
    assert batch.video.shape[1] == 3
    assert (batch.video[~batch.is_player] == 0).all()
    assert (batch.actions[~batch.is_player] == 0).all()
    check_alignment(batch)


def test_validation_is_the_same_each_time(shards: Path) -> None:
    data = make_data(shards, "data.batch_size=1", "data.num_frames=8")
    loader = data.val_dataloader()
    first, again = list(loader), list(loader)
    assert [batch.keys for batch in first] == [["clip-0200"], ["clip-0201"]]
    assert all(torch.equal(one.video, other.video) for one, other in zip(first, again, strict=True))
    assert len(list(data.test_dataloader())) == 2


def test_instructions_are_told_relative_to_the_window(tmp_path: Path) -> None:
    said = [Instruction("Let it snow.", 12)]
    write_dataset(tmp_path / "shards", 4, instructions=said)
    data = make_data(
        tmp_path / "shards",
        "data.batch_size=4",
        "data.num_frames=8",
        "data.start_multiple=1",
        "data.max_instruction_age=6",
    )
    loader = data.train_dataloader()
    told = set()
    for _ in range(20):
        for batch in loader:
            assert batch.video is not None
            starts = read_bits(batch.video.numpy(), FRAME)[:, 0, 0].astype(int)
            for start, text, begins in zip(starts, batch.instructions, batch.instruction_starts.tolist(), strict=True):
                is_told = start + 8 > 12 and start - 12 <= 6
                assert text == ("Let it snow." if is_told else "")
                assert begins == (12 - start if is_told else 8)
                told.add(text)
    assert len(told) == 2


def test_other_sizes_are_scaled_and_cropped(shards: Path) -> None:
    data = make_data(shards, "data.batch_size=2", "data.num_frames=8", "data.height=32", "data.width=48")
    batch = next(iter(data.train_dataloader()))
    assert batch.video is not None
    assert batch.video.shape[-2:] == (32, 48)


def test_buckets_give_batches_of_their_shapes(shards: Path) -> None:
    buckets = (
        "{long: {height: 32, width: 32, num_frames: 32, share: 0.5, batch_size: 2},"
        " large: {height: 64, width: 64, num_frames: 4, share: 0.5, batch_size: 3}}"
    )
    data = make_data(shards, "data.num_frames=null", "data.batch_size=null", f"data.buckets={buckets}")
    shapes = Counter()
    loader = data.train_dataloader()
    for _ in range(6):
        for batch in loader:
            assert batch.video is not None
            shapes[tuple(batch.video.shape)] += len(batch)
    assert set(shapes) == {(2, 2, 32, 3, 32, 32), (3, 2, 4, 3, 64, 64)}
    counts = list(shapes.values())
    assert abs(counts[0] - counts[1]) <= 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["data.batch_size=11"], "needs 11 samples for one batch"),
        (["data.num_frames=33"], "longest 32 frames"),
        (["data.num_frames=null"], "either data.num_frames and data.batch_size, or data.buckets"),
        (["data.views=some"], "data.views is one of"),
        (["data.content=latent"], "data.content is one of"),
        (["data.content=latents"], "needs weights="),
        (["+data.video_prompts.edgy=0.5"], "edges"),
        (["data.video_prompts.edges=0.7", "data.video_prompts.flow=0.7"], "at most 1"),
        (["action_space.keys=[w,a]"], "which the action space"),
    ],
)
def test_settings_that_cannot_work_are_explained(shards: Path, options: list[str], said: str) -> None:
    with pytest.raises(Exception, match=said):
        make_data(shards, "data.batch_size=2", *options).train_dataloader()


def test_keys_find_their_place_in_a_larger_action_space(shards: Path) -> None:
    wider = "action_space.keys=[q, up, w, a, s, d, space, e]"
    plain = make_data(shards, "data.batch_size=10", "data.num_frames=8")
    data = make_data(shards, "data.batch_size=10", "data.num_frames=8", wider)
    (batch,), (usual,) = data.train_dataloader(), plain.train_dataloader()
    assert batch.actions.shape[-1] == 8
    for column, key in enumerate(["q", "up", "w", "a", "s", "d", "space", "e"]):
        expected = usual.actions[..., KEYS.keys.index(key)] if key != "up" else torch.zeros(10, 2, 8)
        assert torch.equal(batch.actions[..., column], expected)


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [make_record(clip, num_players=1, num_frames=16 if clip == 3 else 32).to_sample() for clip in range(10)]
    del samples[0]["json"]
    for split in ("train", "val"):
        write_shard(tmp_path / "shards" / split / "a.tar", samples)
    options = ["data.batch_size=8", "data.num_frames=32", "data.dataset.max_damaged_share=0.1"]
    data = make_data(tmp_path / "shards", *options)
    said = capsys.readouterr().err
    assert "1 damaged samples are skipped: 1 x json is missing" in said
    assert (
        "1 of 9 clips are smaller or shorter than every bucket and left out, e.g. clip-0003: 64x64, 16 frames" in said
    )
    assert len(data.train_dataloader().plan.by_name["all"].samples) == 8


def test_shards_without_samples_say_so(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_shard(tmp_path / "shards" / split / "a.tar", [])
    with pytest.raises(ValueError, match="hold no samples"):
        make_data(tmp_path / "shards")


def damaged_dataset(folder: Path, num_damaged: int) -> Path:
    """Ten clips, of which some have a good header and pixels that break off."""
    samples = []
    for clip in range(10):
        sample = make_record(clip, num_players=1).to_sample()
        if clip < num_damaged:
            short = encode(np.zeros((32, SIZE, SIZE, 3), np.uint8))
            media = short.index(b"mdat") + 4
            sample["view0.mp4"] = (
                short[:media] + bytes(255 - b for b in short[media : media + 200]) + short[media + 200 :]
            )
        samples.append(sample)
    for split in ("train", "val"):
        write_shard(folder / split / "a.tar", samples)
    return folder


@pytest.mark.parametrize("cache_frames", [True, False])
def test_pixels_that_break_off_are_replaced_and_counted(tmp_path: Path, cache_frames: bool) -> None:
    folder = damaged_dataset(tmp_path / "shards", 2)
    options = ["data.batch_size=4", "data.num_frames=32", f"data.cache_frames={cache_frames}"]
    data = make_data(folder, *options, "data.dataset.max_damaged_share=0.5")
    loader = data.train_dataloader()
    for _ in range(4):
        for batch in loader:
            assert not {"clip-0000", "clip-0001"} & set(batch.keys)
            check_alignment(batch)
    damage = data.damage("train") if cache_frames else loader.damage
    assert set(damage) == {"clip-0000", "clip-0001"}
    with pytest.raises(ValueError, match=r"are damaged, allowed is a share of 0.1: \d x video"):
        list(make_data(folder, *options, "data.dataset.max_damaged_share=0.1").train_dataloader())


def test_a_decoded_clip_is_kept_and_decoded_no_second_time(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data(shards, "data.batch_size=2", "data.height=16", "data.width=16")
    monkeypatch.setattr("gamegen_x.data.shards.decode_video", None)
    data = make_data(shards, "data.batch_size=2", "data.height=16", "data.width=16")
    assert len(list(data.train_dataloader())) == 5


def test_synthetic_clips_need_no_data(tmp_path: Path) -> None:
    options = ["data.batch_size=4", "data.dataset.num_clips={train: 6, val: 2}", "data.dataset.num_frames=32"]
    data: VideoDataModule = make_data(tmp_path / "cache", *options, data="synthetic")
    batch = next(iter(data.train_dataloader()))
    assert batch.video is not None
    assert batch.video.shape == (4, 2, 24, 3, 64, 64)
    assert not math.isclose(float(batch.video.std()), 0)
    assert batch.actions.any()
