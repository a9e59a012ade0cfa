"""Two windows, measured: the arithmetic of it, and once the whole of it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gamegen_x.config import CONFIGS
from gamegen_x.serve.live_figures import (
    Picture,
    Press,
    Seen,
    gaps_between,
    key_to_frame,
    of_window,
    pictures_by_second,
    quantile,
    stall_share,
)
from gamegen_x.serve.windows import find_chromium, plan


def picture(at, tick, reflects):
    return Picture(at, tick, reflects, age=10.0)


def test_pictures_are_counted_in_whole_seconds():
    assert pictures_by_second([0, 10, 999, 1000, 2500], start=0, stop=2600) == [3, 1]
    assert pictures_by_second([], start=500, stop=2500) == [0, 0]


def test_time_without_a_picture_is_counted_at_both_ends_too():
    gaps = gaps_between([1000, 1400, 2000], start=0, stop=3000)
    assert gaps == [1000, 400, 600, 1000]
    assert stall_share(gaps, longest=500) == pytest.approx(2600 / 3000)
    assert stall_share(gaps, longest=1000) == 0
    assert stall_share(gaps_between([], 0, 1000), longest=500) == 1


def test_a_press_is_shown_by_the_first_picture_of_its_tick_that_knew_it():
    block = [picture(100 + 40 * place, 8 + place, reflects=10) for place in range(4)]
    too_late = Press(at=60, tick=11)  # after its block began: the next one, which is of later ticks, shows it
    following = [picture(300 + 40 * place, 12 + place, reflects=14) for place in range(4)]
    delays = key_to_frame([Press(50, 10), too_late, Press(50, 16), Press(50, None)], following + block)
    assert delays == [130, 240, None, None]


def test_no_picture_from_before_a_press_shows_it():
    assert key_to_frame([Press(at=500, tick=3)], [picture(400, 5, 5), picture(600, 9, 9)]) == [100]


def test_a_quantile_of_nothing_is_nothing():
    assert quantile([], 0.5) is None
    assert quantile([1, 2, 3], 0.5) == 2


def sample(now, moments=(), presses=()):
    return {
        "now": now,
        "pictures": [{"at": at, "tick": at // 50, "reflects": at // 50, "ageMs": 20.0} for at in moments],
        "presses": [{"at": at, "tick": tick} for at, tick in presses],
        "roundTripMs": 4.0,
        "bytesIn": now * 2,
        "desyncs": 0,
        "delayTicks": 0,
        "step": "full",
    }


def test_figures_begin_with_the_first_sample_and_end_with_the_seconds_that_are_measured():
    samples = [
        sample(1000, moments=[900]),
        sample(2000, moments=range(1000, 2000, 50), presses=[(950, 19), (1100, 24)]),
        sample(4000, moments=range(2000, 4000, 50), presses=[(2990, 61), (3500, 70)]),
    ]
    found = of_window(Seen.of_samples(samples), measured_s=2, stall_s=0.5)
    assert found["frames_per_second_mean"] == found["frames_per_second_p5"] == 20
    assert found["stall_share"] == 0
    assert (found["presses"], found["presses_not_shown"]) == (2, 0)
    assert (found["key_to_frame_ms_p50"], found["key_to_frame_ms_p99"]) == (80, 99.6)
    assert found["kilobytes_per_second"] == 2


def test_the_same_seed_presses_the_same_keys_for_whole_blocks():
    one, other = (plan(["_", "w"], [8, 12], 24.0, 20.0, np.random.default_rng(3)) for _ in range(2))
    assert one == other
    assert one[-1][0] < 20
    held = np.diff([at for at, _ in one]) * 24
    assert set(held.round(6)) == {8.0, 12.0}


def test_a_missing_browser_is_said_with_what_to_run(monkeypatch):
    pytest.importorskip("playwright", reason="playwright is not installed")
    with pytest.raises(ValueError, match=r"no browser nowhere; run: sudo apt-get install chromium"):
        find_chromium("nowhere")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"none of chromium, .* on PATH"):
        find_chromium(None)


@pytest.mark.slow
def test_two_windows_are_measured_and_filmed(tmp_path):
    try:
        find_chromium(None)
    except ValueError as missing:
        pytest.skip(str(missing))
    settings = ["world=truth", "seconds=3", "warm_up_s=0.5", "settle_s=2", "film_s=0.5", f"output={tmp_path}"]
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
    assert len(list((tmp_path / "sessions").glob("two-windows-*.ggxlog"))) == 1
    assert "keys are not read from pixels" in ran.stdout
