"""Two windows, measured: what is checked beforehand and afterward, and once the whole of it."""

import json
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from gamegen_x.config import CONFIGS
from gamegen_x.serve.two_windows import examiner, new_session
from gamegen_x.serve.windows import find_chromium


def test_a_mistake_in_how_the_session_is_judged_is_said_before_anything_is_built(tmp_path):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("two_windows", [f"recordings={tmp_path}", f"judges={tmp_path}"])
        cfg.judged_as.append("+suite.meeting=null")
        with pytest.raises(ValueError, match=r"suite\.meeting"):
            examiner(cfg)


def test_the_session_is_the_one_that_was_not_there_before(tmp_path):
    old, new, other = (tmp_path / f"two-windows-{number}.ggxlog" for number in range(3))
    for path in (old, new, tmp_path / "somebody-else.ggxlog"):
        path.touch()
    assert new_session(tmp_path, {old}) == new
    with pytest.raises(ValueError, match=f"0 new sessions of two-windows in {tmp_path}, expected one"):
        new_session(tmp_path, {old, new})
    other.touch()
    with pytest.raises(ValueError, match=f"2 new sessions .*: {new.name}, {other.name}"):
        new_session(tmp_path, {old})


@pytest.mark.slow
def test_two_windows_are_measured_and_filmed(tmp_path):
    try:
        find_chromium(None)
    except ValueError as missing:
        pytest.skip(str(missing))
    settings = [
        "world=truth",
        "seconds=3",
        "warm_up_s=0.5",
        "settle_s=2",
        "film_s=0.5",
        "sentence_s=1",
        f"output={tmp_path}",
    ]
    command = [sys.executable, "-m", "gamegen_x.serve.two_windows", *settings]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CONFIGS.parent)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = json.loads(ran.stdout.splitlines()[-1])
    assert figures == json.loads((tmp_path / "figures.json").read_text())
    assert figures["mistakes_of_pages"] == [[], []]
    for window in figures["windows"]:
        assert window["frames_per_second_mean"] > 0
        assert window["presses"] > window["presses_not_shown"]
        assert window["key_to_frame_ms_p99"] >= window["key_to_frame_ms_p50"] > 0
        assert window["desyncs"] == 0
    with Image.open(tmp_path / "two-windows.gif") as gif:
        assert gif.size == (2 * 256 + 8, 256)
    assert all((tmp_path / f"window-{number}.png").is_file() for number in range(2))
    (log,) = (tmp_path / "sessions").glob("two-windows-*.ggxlog")
    assert b"Let it snow." in log.read_bytes()
    assert b"Clear the sky." in log.read_bytes()
    assert "keys are not read from pixels" in ran.stdout
