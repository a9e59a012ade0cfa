import os

import pytest
import torch

from gamegen_x.training.checkpoints import TensorCheckpointIO, finish, finished, newest


def make(folder, step, score=None):
    path = folder / f"step-{step:08d}"
    TensorCheckpointIO().save_checkpoint({"weights": torch.full((1000,), float(step))}, path)
    return finish(path, step, score)


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    assert newest(tmp_path) is None
    make(tmp_path, 10)
    made = make(tmp_path, 20, score=0.5)
    assert newest(tmp_path) == made
    assert TensorCheckpointIO().load_checkpoint(made.path)["weights"][0] == 20


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_damage_is_noticed_and_the_one_before_is_taken(tmp_path, damage, capsys):
    before, last = make(tmp_path, 10), make(tmp_path, 20)
    content = bytearray(last.path.read_bytes())
    if damage == "truncated":
        last.path.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 3] ^= 4
        last.path.write_bytes(content)
    else:
        last.path.unlink()
    assert newest(tmp_path) == before
    assert "step 20 is damaged" in capsys.readouterr().err


def test_a_checkpoint_without_its_manifest_was_never_finished(tmp_path):
    before = make(tmp_path, 10)
    TensorCheckpointIO().save_checkpoint({}, tmp_path / "step-00000020")
    assert newest(tmp_path) == before


def test_a_folder_of_shards_is_checked_file_by_file(tmp_path):
    path = tmp_path / "step-00000010"
    (path / "checkpoint").mkdir(parents=True)
    for rank in range(2):
        (path / "checkpoint" / f"rank{rank}.pt").write_bytes(bytes([rank] * 100))
    made = finish(path, 10, None)
    assert newest(tmp_path) == made
    (path / "checkpoint" / "rank1.pt").write_bytes(b"short")
    assert newest(tmp_path) is None


def test_removing_takes_the_manifest_first_so_that_no_half_checkpoint_is_trusted(tmp_path, monkeypatch):
    made = make(tmp_path, 10)
    monkeypatch.setattr("gamegen_x.training.checkpoints._remove", lambda _: None)  # killed in between
    made.remove()
    assert finished(tmp_path) == []


def test_a_pickled_object_in_a_checkpoint_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"weights": Evil()}, tmp_path / "step-00000010")
    with pytest.raises(Exception, match="Weights only"):
        TensorCheckpointIO().load_checkpoint(tmp_path / "step-00000010")
    assert not (tmp_path / "evil").exists()
