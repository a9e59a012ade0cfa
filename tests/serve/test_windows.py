import numpy as np
import pytest

from gamegen_x.serve.windows import find_chromium, plan


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
