"""The command itself: mistakes end in one message, and its suites compose and build."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from moving_picture import KEYS

from gamegen_x.config import CONFIGS, build, check
from gamegen_x.evaluation.__main__ import check_fit, check_game, load_telling
from gamegen_x.evaluation.commands import Commands
from gamegen_x.evaluation.generation import Telling
from gamegen_x.evaluation.recordings import Recording
from gamegen_x.evaluation.suite import Suite
from gamegen_x.games.snowglobe import Snowglobe
from gamegen_x.models.weights import load_network
from gamegen_x.schema.weights_folder import read_config

SUITES = sorted(path.stem for path in (CONFIGS / "suite").glob("*.yaml"))


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_composes_and_builds(name):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("evaluate", [f"suite={name}"])
        recording = compose("record", [*cfg.recording.overrides, "split=val", "output=somewhere"])
    check(cfg)
    check(recording)
    assert isinstance(build(cfg.suite), Suite)


def telling_of(weights, *overrides):
    folder = str(Path(__file__).parents[2] / "weights" / weights)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("evaluate", [f"checkpoint={folder}", *overrides])
    return load_telling(cfg, read_config(folder), load_network(folder, "vae"))


@pytest.mark.parametrize("suite", [name for name in SUITES if name not in ("mario", "vizdoom")])
def test_every_suite_of_snowglobe_takes_shipped_weights_as_it_is(suite):
    assert telling_of("snowglobe-tiny", f"suite={suite}") is None
    assert telling_of("snowglobe-duo", f"suite={suite}") is None


def test_dynamics_that_are_asked_for_tell_weights_that_may_be_told(capsys):
    assert telling_of("snowglobe-duo") is None
    assert "with dynamics=none it is told nothing" in capsys.readouterr().out
    assert isinstance(telling_of("snowglobe-duo", "dynamics=rules"), Telling)
    assert telling_of("snowglobe-tiny", "dynamics=rules") is None  # they were never told anything
    with pytest.raises(InstantiationException, match=r"needs weights with a transition network, .* has none"):
        telling_of("snowglobe-duo", "dynamics=learned")


def test_a_game_of_other_keys_is_refused_before_it_is_played():
    weights = read_config(Path(__file__).parents[2] / "weights" / "snowglobe-duo")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("evaluate", ["suite=vizdoom"])
        with pytest.raises(ValueError, match=r"weights know the keys \['w', .*'q'\], the recordings have .*'right'"):
            check_game(cfg, weights)
        check_game(compose("evaluate", ["suite=control"]), weights)


@pytest.fixture(scope="module")
def control():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("evaluate", ["suite=control"])
        game = build(compose("record", [*cfg.recording.overrides, "split=val", "output=somewhere"]).game)
    return build(cfg.suite), game


def test_the_control_suite_commands_keys_that_snowglobe_has(control):
    suite, game = control
    assert isinstance(game, Snowglobe)
    assert Commands(suite.command_names, game.keys).chance == 0.2
    assert set(suite.questions["direction"].directions) < set(suite.command_names)


def test_every_sentence_of_the_control_suite_changes_snowglobe_as_the_suite_says(control):
    suite, game = control
    game.reset(seed=0)
    for fact, values in suite.questions["environment"].sentences.items():
        for value, sentences in values.items():
            for sentence in sentences:
                game.instruct(sentence)
                assert game.facts[fact][int(game.facts_now()[fact])] == value


WEIGHTS = {"action_space": {"keys": list(KEYS.keys)}, "height": 8, "width": 6}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"action_space": {"keys": ["x"]}}, r"know the keys \['x'\], the recordings have"),
        ({"height": 64}, "make 64x6 video, the recordings are 8x6"),
    ],
)
def test_weights_of_another_game_are_refused(change, said):
    video = torch.zeros(1, 4, 3, 8, 6, dtype=torch.uint8)
    recording = Recording("r", "", video, torch.zeros(1, 4, 4, dtype=torch.uint8), {}, {}, (), KEYS, 24.0)
    check_fit(WEIGHTS, recording)
    with pytest.raises(ValueError, match=said):
        check_fit({**WEIGHTS, **change}, recording)


def evaluate(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gamegen_x.evaluation", *overrides],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("checkpoint=no/such/folder", "no weights folder no/such/folder"),
        ("suite=contrl", "did you mean 'control'?"),
        ("suite.num_blocks=many", "suite.num_blocks"),
    ],
)
def test_a_mistake_ends_with_one_message(override, said):
    ended = evaluate(override)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_recordings_the_suite_records_its_own(tmp_path):
    few = [
        "recording.num_train_episodes=1",
        "recording.num_val_episodes=1",
        f"recording.folder={tmp_path / 'recordings'}",
    ]
    short = [
        f"suite.judges.{judge}_schedule.{name}={value}"
        for judge in ("inverse_dynamics", "environment")
        for name, value in (("num_steps", 1), ("num_warm_up_steps", 1), ("batch_size", 2))
    ]
    folders = [f"suite.judges.folder={tmp_path / 'judges'}", f"recording.unless_found={tmp_path / 'nowhere'}"]
    ended = evaluate("suite=control", "judges_only=true", *few, *short, *folders)
    assert ended.returncode == 0, ended.stderr
    assert '"ceilings"' in ended.stdout
