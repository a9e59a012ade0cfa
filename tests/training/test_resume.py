import json
import signal
import subprocess
import sys
import time

import pytest

from gamegen_x.training.checkpoints import finished
from gamegen_x.training.metrics_file import read_metrics
from tests.training.train_command import ROOT, command, environment, train


def test_every_stage_killed_at_random_moments_ends_as_if_nothing_had_happened():
    told = subprocess.run(
        [sys.executable, "-m", "tests.training.kill_resume", "--times", "2"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    stages = json.loads(told.stdout.splitlines()[-1])
    assert list(stages) == ["vae", "pretrain", "instruct"]
    for stage in stages.values():
        assert stage["kills"] == 2
        assert stage["rows"] == 27  # 24 steps and 3 validations, none lost, none twice


RUN = ["task=vae", "steps=40", "callbacks.checkpoints.every_n_steps=5", "trainer.val_check_interval=100"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def stopped(folder):
    """A run that SIGTERM ended, and what it said."""
    process = subprocess.Popen(
        command(folder / "run", folder / "cache", *RUN), cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not finished(folder / "run" / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    return process.returncode, said, [one.step for one in finished(folder / "run" / "checkpoints")]


def test_sigterm_saves_where_training_stands_and_says_how_to_go_on(folder, stopped):
    status, said, steps = stopped
    assert status == 128 + signal.SIGTERM
    assert "resume=true" in said
    assert read_metrics(folder / "run" / "metrics.csv")[-1]["step"] == str(steps[-1])


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(folder, stopped):
    newest, before = sorted(finished(folder / "run" / "checkpoints"), key=lambda one: -one.step)[:2]
    bytes_of_it = bytearray(newest.path.read_bytes())
    bytes_of_it[len(bytes_of_it) // 2] ^= 1
    newest.path.write_bytes(bytes_of_it)
    said = train(folder / "run", folder / "cache", *RUN, "resume=true", "callbacks.progress=null")
    assert f"checkpoint of step {newest.step} is damaged" in said
    assert f"from step {before.step}" in said
    assert [int(row["step"]) for row in read_metrics(folder / "run" / "metrics.csv")] == list(range(1, 41))


def test_a_second_run_in_the_same_folder_is_refused_and_touches_nothing(folder, stopped):
    before = (folder / "run" / "metrics.csv").read_bytes()
    with pytest.raises(AssertionError, match="already holds a run"):
        train(folder / "run", folder / "cache", *RUN)
    assert (folder / "run" / "metrics.csv").read_bytes() == before
