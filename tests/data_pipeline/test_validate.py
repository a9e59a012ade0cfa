import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from made_up import make_pipeline, make_trace, panning, write_video

from data_pipeline.__main__ import check
from data_pipeline.tar_shards import read_samples
from data_pipeline.validate import validate


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("validate")
    make_trace(folder / "in" / "t", num_frames=32)
    make_pipeline().run(folder / "in", folder / "out", workers=1, max_damaged_share=0, overwrite=False)
    return folder / "out"


def samples_of(folder: Path) -> list[dict]:
    with (folder / "shard-000000.tar").open("rb") as file:
        return list(read_samples(file))


def write_samples(path: Path, samples: list[dict]) -> None:
    with tarfile.open(path, "w") as tar:
        for sample in samples:
            for name, data in sample.items():
                if name != "__key__":
                    member = tarfile.TarInfo(f"{sample['__key__']}.{name}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def array(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def arrays(**values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **values)
    return file.getvalue()


def header(sample: dict, **changes) -> bytes:
    return json.dumps({**json.loads(sample["json"]), **changes}).encode()


def other_video(tmp_path: Path, frames: np.ndarray, codec: str = "libx264") -> bytes:
    return write_video(tmp_path / "other.mp4", frames, codec=codec).read_bytes()


NUM_KEYS = 4
DAMAGES = {
    "missing member": lambda s, _: s.pop("actions.npy"),
    "missing view": lambda s, _: s.pop("view1.mp4"),
    "zero bytes": lambda s, _: s.update({"view1.mp4": b""}),
    "text for a video": lambda s, _: s.update({"view1.mp4": b"hello, I am not a video"}),
    "wrong codec": lambda s, p: s.update({"view0.mp4": other_video(p, panning(16), "mpeg4")}),
    "wrong size": lambda s, p: s.update({"view0.mp4": other_video(p, panning(16, size=32))}),
    "one frame": lambda s, p: s.update({"view0.mp4": other_video(p, panning(1))}),
    "keys of 2": lambda s, _: s.update({"actions.npy": array(np.full((16, 2, NUM_KEYS), 2, np.uint8))}),
    "keys of another length": lambda s, _: s.update({"actions.npy": array(np.zeros((9, 2, NUM_KEYS), np.uint8))}),
    "keys cut short": lambda s, _: s.update({"actions.npy": s["actions.npy"][:80]}),
    "pickled keys": lambda s, _: s.update({"actions.npy": pickled_array()}),
    "no json": lambda s, _: s.update({"json": b"{"}),
    "another version": lambda s, _: s.update({"json": header(s, schema_version=99)}),
    "long summary": lambda s, _: s.update({"json": header(s, caption={"summary": "word " * 40})}),
    "caption of one string": lambda s, _: s.update({"json": header(s, caption="Two players meet.")}),
    "late instruction": lambda s, _: s.update(
        {"json": header(s, instructions=[{"text": "Let it snow.", "frame": 16}])}
    ),
    "nameless class": lambda s, _: s.update({"state.npz": arrays(weather=np.full(16, 200, np.uint8))}),
    "lost pose": lambda s, _: s.update({"state.npz": arrays(pose=np.full((16, 2, 3, 3), np.nan, np.float32))}),
}
REASONS = {
    "missing member": "missing member",
    "missing view": "unreadable",
    "zero bytes": "zero bytes",
    "text for a video": "cannot decode",
    "wrong codec": "wrong codec",
    "wrong size": "wrong size",
    "one frame": "wrong number of frames",
    "keys of 2": "keys are not 0 or 1",
    "keys of another length": "unreadable",
    "keys cut short": "unreadable",
    "pickled keys": "unreadable",
    "no json": "unreadable",
    "another version": "unreadable",
    "long summary": "unreadable",
    "caption of one string": "unreadable",
    "late instruction": "instruction outside the clip",
    "nameless class": "class without a name",
    "lost pose": "pose is not finite",
}


def pickled_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


def test_a_clean_dataset_has_no_problems(clean, capsys):
    assert check([str(clean)]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["is_valid"]
    assert (figures["num_samples"], figures["num_view_frames"]) == (2, 64)


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_found_named_and_laid_to_its_sample(clean, tmp_path, damage):
    first, second = samples_of(clean)
    DAMAGES[damage](second, tmp_path)
    write_samples(tmp_path / "shard-000000.tar", [first, second])
    problems, figures = validate(tmp_path / "shard-000000.tar")
    assert [(problem.sample, problem.reason) for problem in problems] == [
        (f"shard-000000.tar: {second['__key__']}", REASONS[damage])
    ]
    assert (figures["num_samples"], figures["num_samples_damaged"], figures["is_valid"]) == (2, 1, False)


def copied(clean: Path, to: Path) -> Path:
    for path in clean.glob("[!.]*"):
        (to / path.name).write_bytes(path.read_bytes())
    return to


def reasons(path: Path) -> set[str]:
    return {f"{problem.sample}: {problem.reason}" for problem in validate(path)[0]}


def test_a_shard_that_is_cut_short_or_empty_is_found(clean, tmp_path):
    folder = copied(clean, tmp_path)
    shard = folder / "shard-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) * 3 // 4])
    assert "shard-000000.tar: broken tar" in reasons(folder)
    shard.write_bytes(b"")
    assert "shard-000000.tar: zero bytes" in reasons(folder)
    shard.write_bytes(b"not a tar " * 200)
    assert "shard-000000.tar: broken tar" in reasons(folder)


def test_the_same_key_twice_is_found(clean, tmp_path):
    folder = copied(clean, tmp_path)
    (folder / "shard-000001.tar").write_bytes((folder / "shard-000000.tar").read_bytes())
    key = samples_of(clean)[0]["__key__"]
    assert reasons(folder) >= {f"shard-000001.tar: {key}: duplicate key", "dataset.json: wrong number of samples"}


def test_missing_files_and_a_ledger_that_lies_are_found(clean, tmp_path):
    folder = copied(clean, tmp_path)
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    (folder / "ledger.jsonl").write_text(lines[0] + "\n")
    assert reasons(folder) == {"ledger.jsonl: wrong number of samples"}
    (folder / "ledger.jsonl").write_text("{")
    assert reasons(folder) == {"dataset.json: unreadable"}
    (folder / "dataset.json").unlink()
    assert reasons(folder) == {"dataset.json: missing file"}
    (folder / "shard-000000.tar").unlink()
    assert reasons(folder) == {f"{folder}: no shards"}


def test_a_record_that_is_not_what_the_ledger_says_is_found(clean, tmp_path):
    folder = copied(clean, tmp_path)
    first, second = samples_of(clean)
    second["actions.npy"] = array(1 - np.load(io.BytesIO(second["actions.npy"])))
    write_samples(folder / "shard-000000.tar", [first, second])
    assert f"shard-000000.tar: {second['__key__']}: changed since it was written" in reasons(folder)


def test_traces_are_validated_too(tmp_path):
    for name in ("good", "short", "gone", "bad"):
        make_trace(tmp_path / name, num_frames=10)
    write_video(tmp_path / "short" / "seat-1.mp4", panning(3))
    (tmp_path / "gone" / "seat-0.mp4").unlink()
    (tmp_path / "bad" / "events.jsonl").write_text("{")
    assert reasons(tmp_path) == {"short: wrong number of frames", "gone: missing file", "bad: unreadable"}


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]])
def test_validate_says_how_it_is_called(arguments, capsys):
    assert check(arguments) == 2
    assert "python -m data_pipeline validate PATH" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_an_empty_or_missing_folder_is_not_a_valid_dataset(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert check([str(tmp_path / name)]) == 1
    assert "expected" in capsys.readouterr().out
