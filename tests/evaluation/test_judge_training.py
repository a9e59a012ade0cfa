from dataclasses import replace

import pytest
import torch
from moving_picture import COMMANDS, KEYS, write_shards
from suites import judge_training

from gamegen_x.evaluation.commands import UNLISTED, Commands
from gamegen_x.evaluation.judge_training import Schedule, balanced_accuracy, find_blocks, settled
from gamegen_x.evaluation.judges import InverseDynamics
from gamegen_x.evaluation.recordings import Recording, read_recordings


def recording(keys: str) -> Recording:
    actions = torch.from_numpy(KEYS.parse(keys))[None]
    video = torch.arange(actions.shape[1], dtype=torch.uint8)[None, :, None, None, None].expand(1, -1, 3, 4, 4)
    return Recording("made up", "", video, actions, {}, {}, (), KEYS, 24.0)


def test_every_block_of_constant_keys_is_found_with_what_was_held_before():
    one = recording("w*4 w+d*3 a*5 _*4")
    blocks = find_blocks([one], Commands(["_", "a"], KEYS), block_frames=4)
    found = list(zip(blocks.start.tolist(), blocks.command.tolist(), blocks.command_before.tolist(), strict=True))
    assert found == [(3, 1, UNLISTED), (4, 1, 1), (8, 0, 1)]
    windows = blocks.windows([one], 4)
    assert windows[0, :, 0, 0, 0].tolist() == list(range(3, 11))
    assert blocks.labels([one], 4).tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_a_command_that_nobody_holds_is_named():
    with pytest.raises(ValueError, match=r"no recording holds \['s'\] for 4 frames"):
        find_blocks([recording("w*8")], Commands(["w", "s"], KEYS), block_frames=4)


def test_a_fact_is_settled_once_it_has_been_the_same_for_a_while():
    assert settled(torch.tensor([1, 1, 1, 0, 0, 0, 0]), 2).tolist() == [False, False, True, False, False, True, True]


def test_every_class_counts_the_same_in_balanced_accuracy():
    truth = torch.tensor([0, 0, 0, 0, 1])
    assert balanced_accuracy(torch.tensor([0, 0, 0, 0, 0]), truth) == 0.5


def test_motion_is_read_alike_by_day_and_by_night():
    network = InverseDynamics(4, 4, channels=[8], grid=1, hidden=8).eval()
    frames = torch.randn(2, 8, 3, 16, 16)
    assert torch.allclose(network(frames), network(0.4 * frames - 0.3), atol=0.05)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (30, 41), (9, 120)])
def test_judges_take_any_size(height, width):
    network = InverseDynamics(4, 2, channels=[4, 8], grid=2, hidden=8)
    assert network(torch.randn(1, 4, 3, height, width)).shape == (1, 4)


def test_judges_are_trained_once_and_the_same_data_makes_the_same_judges(tmp_path):
    write_shards(tmp_path / "shards", 3, 3, {"train": 0, "val": 100})
    recordings = read_recordings(
        tmp_path / "shards", num_players=1, min_frames=16, max_train_clips=9, max_val_clips=9, max_damaged_share=0.0
    )
    short = {
        "inverse_dynamics_schedule": Schedule(4, 1, 4, 1e-3, 0.0),
        "environment_schedule": Schedule(4, 1, 4, 1e-3, 0.0),
    }
    commands = Commands(COMMANDS, KEYS)
    windows = recordings.val[0].video[:, :16].reshape(2, 8, 3, 32, 32)

    def logits(folder, **changes):
        judges = judge_training(tmp_path / folder, **{**short, **changes}).judges(
            recordings, commands, torch.device("cpu")
        )
        return judges.key_logits(windows)

    first = logits("one")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.safetensors")}
    assert len(stamps) == 2
    assert torch.equal(first, logits("one"))  # loaded
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert torch.equal(first, logits("another"))  # trained again
    assert not torch.equal(first, logits("one", seed=1))
    assert len(list((tmp_path / "one").iterdir())) == 2
    recordings = replace(recordings, train=recordings.train[:1])  # of the same data
    logits("one")
    assert len(list((tmp_path / "one").iterdir())) == 3
