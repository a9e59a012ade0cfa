"""Runs that are watched in wandb: a real run, offline, and one run for a training that was resumed."""

from pathlib import Path

import pytest

from gamegen_x.training.run import run
from gamegen_x.training.run_tracking import is_logged_in
from tests.training.small_run import configure
from tests.training.test_run import PREVIEW

LOGGED = ("train/loss", "val/loss", "preview")


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No account on this machine."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_an_offline_run_holds_what_was_logged_and_a_resumed_one_goes_on_in_it(tmp_path):
    settings = ("task=vae", "logger=wandb", f"output={tmp_path / 'run'}", "trainer.val_check_interval=2", *PREVIEW)
    settings += ("callbacks.checkpoints.every_n_steps=2",)
    run(configure(tmp_path, *settings, "steps=2"), "the command")
    run(configure(tmp_path, *settings, "steps=4", "resume=true"), "the command")
    folder = tmp_path / "run" / "wandb"
    identity = (folder / "id.txt").read_text()
    runs = sorted(folder.glob("offline-run-*"))
    assert runs
    assert {each.name.rpartition("-")[2] for each in runs} == {identity}
    written = b"".join(path.read_bytes() for each in runs for path in each.glob("*.wandb"))
    assert all(name.encode() in written for name in LOGGED)
    assert list(folder.rglob("*.mp4"))


@pytest.mark.parametrize(
    ("settings", "is_known"),
    [({}, False), ({"WANDB_API_KEY": "k"}, True), ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, False)],
)
def test_a_run_is_online_where_wandb_knows_who_you_are(monkeypatch, settings, is_known):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert is_logged_in() is is_known


def test_a_netrc_is_an_account(tmp_path):
    Path(tmp_path / ".netrc").write_text("machine api.wandb.ai login user password k\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert is_logged_in()
