"""Weights between weights."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from gamegen_x.average import averaged, check_shares, same_description
from gamegen_x.config import CONFIGS
from gamegen_x.models.weights import save_networks

NORM = {"_target_": "gamegen_x.models.layers.attention.HeadNorm", "head_dim": 4}


def a_folder(folder, value, **changes):
    from gamegen_x.models.weights import build_network

    network = build_network(NORM)
    for parameter in network.parameters():
        parameter.data.fill_(value)
    described = {"kind": "base", "fps": 24.0, "made_by": {"step": value}, "networks": {"vae": NORM}, **changes}
    save_networks(folder, {"vae": network}, described, torch.float32)
    return folder


def test_what_comes_out_is_the_mean_by_shares_and_says_of_what(tmp_path):
    folders = [a_folder(tmp_path / str(value), value) for value in (1.0, 3.0)]
    command = [sys.executable, "-m", "gamegen_x.average", f"weights=[{folders[0]},{folders[1]}]", "shares=[0.75,0.25]"]
    command.append(f"output={tmp_path / 'mean'}")
    told = subprocess.run(command, capture_output=True, text=True, cwd=CONFIGS.parent, check=True)
    assert json.loads(told.stdout.splitlines()[-1])["networks"] == ["vae"]
    (tensor,) = load_file(tmp_path / "mean" / "vae.safetensors").values()
    assert torch.equal(tensor, torch.full((4,), 1.5))
    described = json.loads((tmp_path / "mean" / "config.json").read_text())
    assert [each["step"] for each in described["made_by"]["averaged"]] == [1.0, 3.0]
    again = subprocess.run(command, capture_output=True, text=True, cwd=CONFIGS.parent, check=False)
    assert again.returncode != 0
    assert "holds weights already" in again.stderr


def test_weights_of_another_kind_are_refused(tmp_path):
    folders = [a_folder(tmp_path / "one", 1.0), a_folder(tmp_path / "other", 1.0, fps=12.0)]
    with pytest.raises(ValueError, match=r"they differ in \['fps'\]"):
        same_description(folders)


@pytest.mark.parametrize("shares", [[0.5], [0.5, 0.6], [0.2, 0.3, 0.5]])
def test_shares_are_one_for_each_and_one_together(tmp_path, shares):
    with pytest.raises(ValueError, match="shares that sum to 1"):
        check_shares([tmp_path / "a", tmp_path / "b"], shares)


def test_what_is_equal_stays_to_the_bit():
    state = {"weight": torch.randn(1000, generator=torch.Generator().manual_seed(0))}
    assert torch.equal(averaged([state, dict(state)], [0.7, 0.3])["weight"], state["weight"])


def test_what_has_no_mean_must_be_equal():
    states = [{"count": torch.tensor(number)} for number in (1, 2)]
    with pytest.raises(ValueError, match="count is not the same"):
        averaged(states, [0.5, 0.5])
    assert averaged([states[0], states[0]], [0.5, 0.5]) == states[0]
