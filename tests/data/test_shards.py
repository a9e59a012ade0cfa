import io
import pickle
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from made_shards import KEYS, draw_frames, encode, make_record, read_bits, write_dataset, write_shard
from webdataset.tariterators import group_by_keys, tar_file_expander

from gamegen_x.data.shards import ShardFolder, find_shards, read_record, walk_samples
from gamegen_x.schema.shard_record import ShardRecord


def open_folder(folder: Path, cache: Path, max_damaged_share: float = 1.0) -> ShardFolder:
    shards = ShardFolder(folder, cache, max_damaged_share)
    shards.prepare()
    shards.open()
    return shards


def records(folder: Path) -> list[ShardRecord]:
    return [read_record(sample, shard) for shard in find_shards(folder) for sample in walk_samples(shard)]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.canary),))

    canary = ""


def damaged_samples(canary: Path) -> dict[str, dict[str, Any]]:
    """One sample for each way to be broken, by the reason that must be counted."""
    good = make_record(9).to_sample()
    Bomb.canary = str(canary)
    pickled = io.BytesIO()
    np.save(pickled, np.array([Bomb()], dtype=object), allow_pickle=True)
    still = np.zeros((1, 64, 64, 3), np.uint8)

    def broken(**members: Any) -> dict[str, Any]:
        named = {name.replace("__", "."): content for name, content in members.items()}
        return {name: content for name, content in {**good, **named}.items() if content is not None}

    return {
        "json is missing": broken(json=None),
        "actions.npy is missing": broken(actions__npy=None),
        "view0.mp4 is missing": broken(view0__mp4=None),
        "json or arrays cannot be read": broken(json=b"{"),
        "a pickle, which is refused": broken(actions__npy=pickled.getvalue()),
        "video is empty": broken(view0__mp4=b""),
        "video cannot be opened": broken(view0__mp4=b"this is text" * 100),
        "video is not H.264": broken(view0__mp4=encode(draw_frames(9, 0, np.zeros((32, 7), np.uint8)), "mpeg4")),
        "video has another length": broken(view0__mp4=encode(still)),
        "video has another size": broken(
            view0__mp4=encode(np.zeros((32, 63, 65, 3), np.uint8), pixel_format="yuv444p")
        ),
    }


def test_what_is_damaged_is_skipped_and_counted_by_reason(tmp_path: Path) -> None:
    damaged = damaged_samples(tmp_path / "canary")
    samples = [make_record(clip).to_sample() for clip in range(3)]
    for number, sample in enumerate(damaged.values()):
        samples.insert(1, {**sample, "__key__": f"broken-{number}"})
    samples.append({**make_record(7).to_sample(), "weights.pkl": pickle.dumps(Bomb())})
    samples.append(make_record(2).to_sample())  # its key was seen before
    write_shard(tmp_path / "shards" / "a.tar", samples)
    whole = (tmp_path / "shards" / "a.tar").read_bytes()
    (tmp_path / "shards" / "b.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "shards" / "c.tar").write_bytes(whole[: 3 * 512])

    shards = open_folder(tmp_path / "shards", tmp_path / "cache")

    expected = Counter(list(damaged)) + Counter(
        ["a pickle, which is refused", "key seen before", "not a tar file", "shard ends too early"]
    )
    assert Counter(shards.damage.values()) == expected
    assert [header.key for header in shards.headers] == ["clip-0000", "clip-0001", "clip-0002"]
    assert not (tmp_path / "canary").exists()


def test_of_records_with_the_same_key_the_first_keeps_its_own_keys(tmp_path: Path) -> None:
    for name, clips in (("a", (1, 2)), ("b", (3, 4))):
        samples = [make_record(clip, num_players=1).to_sample() for clip in clips]
        write_shard(tmp_path / "shards" / f"{name}.tar", [{**samples[0], "__key__": "same"}, samples[1]])
    shards = open_folder(tmp_path / "shards", tmp_path / "cache")
    assert [header.key for header in shards.headers] == ["same", "clip-0002", "clip-0004"]
    for index, clip in enumerate((1, 2, 4)):
        np.testing.assert_array_equal(shards.actions(index), make_record(clip, num_players=1).actions)


def test_too_much_damage_stops_with_the_count_of_each_reason(tmp_path: Path) -> None:
    samples = [make_record(clip).to_sample() for clip in range(3)]
    del samples[1]["json"]
    write_shard(tmp_path / "shards" / "a.tar", samples)
    assert len(open_folder(tmp_path / "shards", tmp_path / "cache", 0.34).headers) == 2
    with pytest.raises(
        ValueError, match=r"1 of 3 samples .* are damaged, allowed is a share of 0.33: 1 x json is miss"
    ):
        open_folder(tmp_path / "shards", tmp_path / "cache", 0.33)


def test_a_folder_without_shards_says_how_to_make_some(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match="python -m data_pipeline"):
            open_folder(folder, tmp_path / "cache")


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shards", 5, has_state=True)
    shards = open_folder(tmp_path / "shards" / "train", tmp_path / "cache")
    for index, clip in enumerate(range(5)):
        record = make_record(clip, has_state=True)
        assert shards.headers[index].key == record.key
        assert shards.headers[index].action_space == KEYS
        np.testing.assert_array_equal(shards.actions(index), record.actions)
        np.testing.assert_array_equal(shards.state(index)["screen_xy"], record.state["screen_xy"])
        frames = shards.frames(index, 1, 5, 9).transpose(0, 3, 1, 2) / 127.5 - 1
        assert read_bits(frames, 0).tolist() == [clip] * 4
        assert read_bits(frames, 2).tolist() == [1] * 4
        assert read_bits(frames, 4).tolist() == [5, 6, 7, 8]


def test_webdataset_reads_the_same_samples(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shards", 3)
    (shard,) = (tmp_path / "shards" / "train").glob("*.tar")
    with shard.open("rb") as file:
        theirs = list(group_by_keys(tar_file_expander([{"url": str(shard), "stream": file}])))
    ours = records(shard.parent)
    assert [sample["__key__"] for sample in theirs] == [record.key for record in ours]
    for sample, record in zip(theirs, ours, strict=True):
        assert sample["view1.mp4"] == record.videos[1]


def test_what_webdataset_writes_is_read(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        writer.write(make_record(3).to_sample())
    (record,) = records(tmp_path)
    assert record.key == "clip-0003"


def test_shards_are_read_once_and_again_only_if_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "shards", 8)
    folder = tmp_path / "shards" / "train"
    open_folder(folder, tmp_path / "cache")
    read: list[str] = []
    monkeypatch.setattr(ShardFolder, "_index", lambda _, shard: read.append(shard.name))
    shards = ShardFolder(folder, tmp_path / "cache", 1.0)
    shards.prepare()
    assert read == []
    write_shard(folder / "shard-000001.tar", [make_record(77).to_sample()])
    shards.prepare()
    assert read == ["shard-000001.tar"]
    monkeypatch.undo()
    assert [header.key for header in open_folder(folder, tmp_path / "cache").headers][-1] == "clip-0077"


def test_damage_costs_little_time(tmp_path: Path) -> None:
    """Skipping must not be slower than reading: half of the samples damaged is no slower than none."""
    good = [make_record(clip, num_players=1).to_sample() for clip in range(12)]
    bad = [{**sample, "json": b"{"} if number % 2 else sample for number, sample in enumerate(good)]
    seconds = {}
    for name, samples in (("good", good), ("bad", bad)):
        write_shard(tmp_path / name / "a.tar", samples)
        rounds = []
        for number in range(5):
            start = time.process_time()
            open_folder(tmp_path / name, tmp_path / f"cache-{name}-{number}")
            rounds.append(time.process_time() - start)
        seconds[name] = min(rounds)
    assert seconds["bad"] <= 1.05 * seconds["good"]


def test_folders_inside_a_tar_are_part_of_the_key(tmp_path: Path) -> None:
    sample = make_record(1).to_sample()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for folder in ("x", "y"):
            for name, content in sample.items():
                if name != "__key__":
                    member = tarfile.TarInfo(f"{folder}/clip.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    keys = [record.key for record in records(tmp_path)]
    assert keys == ["x/clip", "y/clip"]
