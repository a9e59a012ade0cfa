import json
import tarfile

import numpy as np
import pytest
import torch
from moving_picture import KEYS, NUM_FRAMES, SIZE, write_shards

from gamegen_x.evaluation.checks import holds_recordings
from gamegen_x.evaluation.recordings import as_bytes, as_pixels, read_recordings
from gamegen_x.sampling.video_file import write_video
from gamegen_x.schema.trace import TextEvent, Trace

READING = {"num_players": 1, "min_frames": 16, "max_train_clips": 9, "max_val_clips": 9, "max_damaged_share": 0.0}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, 3, 2, {"train": 0, "val": 100})
    return folder


def write_trace(folder, seed):
    rng = np.random.default_rng(seed)
    actions = rng.integers(2, size=(24, 2, KEYS.num_keys)).astype(np.uint8)
    for seat in range(2):
        frames = np.full((24, 16, 16, 3), 60 + 60 * seat, np.uint8)
        write_video(folder / f"seat-{seat}.mp4", frames, 24.0, crf=10)
    state = {"weather": np.arange(24) // 12, "planet": np.full(24, seed)}
    Trace(
        folder, "made_up", seed, 24.0, KEYS, ("a", "b"), actions, state,
        text_events=(TextEvent(12, 0, "Let it rain."),), facts={"weather": ("clear", "rain")},
    ).save()  # fmt: skip
    return actions


def test_shards_are_read_with_keys_facts_and_sentences(shards):
    recordings = read_recordings(shards, **READING)
    assert len(recordings.train) == 3
    assert len(recordings.val) == 2
    clip = recordings.val[0]
    assert clip.video.shape == (1, NUM_FRAMES, 3, SIZE, SIZE)
    assert clip.actions.shape == (1, NUM_FRAMES, KEYS.num_keys)
    assert clip.caption == "A picture moves."
    said = clip.instructions[0]
    facts = torch.stack([clip.facts["time_of_day"], clip.facts["weather"]])
    assert (facts[:, said.frame :] == facts[:, -1:]).all()


def test_traces_are_read_view_by_view(tmp_path):
    actions = write_trace(tmp_path / "train" / "trace-0", 0)
    write_trace(tmp_path / "val" / "trace-0", 9)
    recordings = read_recordings(tmp_path, **READING)
    assert [clip.key for clip in recordings.train] == ["trace-0.view0", "trace-0.view1"]
    second = recordings.train[1]
    assert torch.equal(second.actions[0], torch.from_numpy(actions[:, 1]))
    assert abs(float(second.video.float().mean()) - 120) < 3
    assert second.instructions[0].frame == 12
    assert second.caption == ""


def test_two_players_stay_together_when_two_are_judged(tmp_path):
    write_trace(tmp_path / "train" / "trace-0", 0)
    write_trace(tmp_path / "val" / "trace-0", 9)
    recordings = read_recordings(tmp_path, **{**READING, "num_players": 2})
    assert recordings.val[0].video.shape[:2] == (2, 24)


def test_worlds_that_were_trained_on_are_refused_as_unseen_worlds(tmp_path):
    write_shards(tmp_path, 2, 1, {"train": 5, "val": 6})
    with pytest.raises(ValueError, match=r"share|both show the worlds \[6\]"):
        read_recordings(tmp_path, **READING)


def test_clips_are_thinned_evenly(shards):
    recordings = read_recordings(shards, **{**READING, "max_train_clips": 2})
    assert [clip.key for clip in recordings.train] == ["clip-000000.view0", "clip-000002.view0"]


def test_the_data_id_follows_the_content(shards, tmp_path):
    write_shards(tmp_path, 3, 2, {"train": 0, "val": 100})
    first, again = (read_recordings(folder, **READING).data_id for folder in (shards, shards))
    assert first == again
    for split in ("train", "val"):
        (tmp_path / split / "dataset.json").write_text(json.dumps({"dataset_id": split}))
    assert read_recordings(tmp_path, **READING).data_id != first


def test_damaged_clips_are_counted_by_reason_and_fail_above_their_share(shards, capsys, tmp_path):
    write_shards(tmp_path, 3, 2, {"train": 0, "val": 100})
    path = tmp_path / "train" / "shard-000000.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + 10])
    recordings = read_recordings(tmp_path, **{**READING, "max_damaged_share": 0.5})
    assert len(recordings.train) == 2
    assert "skipped 1 of 3 clips: " in capsys.readouterr().out
    with pytest.raises(ValueError, match="1 of 3 clips cannot be used"):
        read_recordings(tmp_path, **READING)


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
    assert not holds_recordings(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gamegen_x\.games\.record"):
        read_recordings(tmp_path, **READING)


def test_bytes_and_pixels_are_inverse():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_bytes(as_pixels(values)), values)
    assert as_bytes(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
