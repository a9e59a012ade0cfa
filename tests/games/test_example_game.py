"""The example of docs/games.md is a whole game: it is cut out of the page, put into its place and recorded."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
from pettingzoo.test import parallel_api_test

import gamegen_x
from gamegen_x.config import CONFIGS
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.trace import Trace

PAGE = Path(__file__).parents[2] / "docs" / "games.md"
MOST_LINES = 40


def block(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


def test_the_example_takes_at_most_40_lines():
    lines = [line for language in ("python", "yaml") for line in block(language).splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


def test_the_example_is_a_parallel_environment():
    names = {}
    exec(compile(block("python"), str(PAGE), "exec"), names)
    game = names["Dots"](ActionSpace("dots", ("left", "right")), height=64, width=64, fps=24)
    parallel_api_test(game, num_cycles=20)


def test_the_example_is_recorded_with_its_keys_its_truth_and_a_moving_picture(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(gamegen_x.__file__).parent, tmp_path / "gamegen_x", ignore=ignored)
    shutil.copytree(CONFIGS, tmp_path / "configs", ignore=ignored)
    (tmp_path / "gamegen_x" / "games" / "dots.py").write_text(block("python"))
    (tmp_path / "configs" / "game" / "dots.yaml").write_text(block("yaml"))
    settings = ["game=dots", "output=traces", "num_episodes=1", "num_frames=24", "workers=1"]
    subprocess.run([sys.executable, "-m", "gamegen_x.games.record", *settings], cwd=tmp_path, check=True)
    trace = Trace.load(tmp_path / "traces" / "dots-000000")
    walked = trace.actions[1:, :, 1].astype(int) - trace.actions[1:, :, 0]
    assert ((np.diff(trace.state["place"], axis=0) + 32) % 64 - 32 == walked).all()
    with av.open(str(trace.video_path(0))) as video:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
    assert frames.shape == (24, 64, 64, 3)
    assert (np.abs(np.diff(frames.astype(int), axis=0)) > 60).any(axis=(1, 2, 3)).sum() > 12
