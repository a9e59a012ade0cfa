"""The commands, as a user runs them: in a process of their own."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up import make_trace

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "data_pipeline", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run(*arguments: str) -> tuple[int, str, str]:
    with command(*arguments) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*") if path.suffix in (".tar", ".jsonl")}


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    for number in range(5):
        make_trace(folder / f"t{number}", num_frames=96, seed=number)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(traces, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "shards"
    code, out, err = run("pipeline=smoke", f"input={traces}", f"output={output}", "workers=2")
    assert code == 0, err
    return output, json.loads(out.splitlines()[-1]), err


def finished_clips(output: Path) -> set[str]:
    """Clips whose fate stands in a journal, as whole lines."""
    lines = [line for path in output.glob(".parts/*.jsonl") for line in path.read_text().split("\n")[:-1]]
    return {value["clip"] for value in map(json.loads, lines) if value["type"] == "fate"}


def test_the_last_line_is_one_json_object_with_the_figures(uninterrupted):
    output, figures, err = uninterrupted
    assert figures["num_clips_kept"] == 30
    assert figures["seconds_total"] > 0
    assert set(figures["stage_cpu_s"]) >= {"ingest_traces", "split_scenes", "write_shards"}
    assert json.loads((output / "curation.json").read_text()) == figures
    assert "5/5 sources" in err
    assert "s left" in err
    assert run("validate", str(output))[0] == 0


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_and_ends_with_the_same_dataset(uninterrupted, traces, tmp_path):
    """SIGKILL to the whole process group, or to the parent alone (its workers must then end by themselves)."""
    rng = random.Random(0)
    output = tmp_path / "shards"
    arguments = ("pipeline=smoke", f"input={traces}", f"output={output}", "workers=2")
    before: set[str] = set()
    num_kills = 0
    for kill in range(6):
        process = command(*arguments)
        wanted = len(before) + rng.randint(1, 4)
        while process.poll() is None and len(finished_clips(output)) < wanted:
            time.sleep(0.002)
        if process.poll() is not None:
            process.communicate()
            break
        (os.killpg if kill % 2 else os.kill)(process.pid, signal.SIGKILL)
        process.communicate()
        num_kills += 1
        now = finished_clips(output)
        assert now >= before  # nothing already written is lost
        before = now
        assert not (output / "dataset.json").exists()
    assert num_kills >= 3
    code, out, err = run(*arguments)
    assert code == 0, err
    figures = json.loads(out.splitlines()[-1])
    assert figures["num_clips_done_now"] <= 30 - len(before)
    assert figures["dataset_id"] == uninterrupted[1]["dataset_id"]
    assert contents(output) == contents(uninterrupted[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pipeline=smoke", "pipeline.clip_frmaes=8"), "clip_fr"),
        (("pipeline=smoke", "input=nowhere"), "input nowhere does not exist"),
        (("pipeline=nothing",), "multiplayer_traces"),
        (("pipeline=gameplay_videos", "pipeline/scene_detector=transnetv2"), "TransNetV2's PyTorch weights"),
        (("pipeline=smoke", "pipeline.clip_frames=30"), "multiples of 4"),
    ],
    ids=["typo", "missing input", "unknown pipeline", "missing weights", "impossible number"],
)
def test_a_mistake_ends_with_one_message_and_status_2(tmp_path, arguments, message):
    code, out, err = run(f"input={tmp_path}", f"output={tmp_path / 'out'}", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_validate_is_a_command(tmp_path):
    code, out, _ = run("validate", str(tmp_path))
    assert code == 1
    assert json.loads(out.splitlines()[-1])["problems_by_reason"] == {"no shards": 1}
