"""What lies in weights/ fits the networks of today."""

from pathlib import Path

import pytest

from gamegen_x.data.state import drawing_of
from gamegen_x.models.weights import load_network
from gamegen_x.schema.weights_folder import read_config

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "weights").glob("*/config.json"))


def test_weights_are_shipped():
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_network_of_the_shipped_weights_can_be_loaded(folder):
    for name in read_config(folder)["networks"]:
        assert sum(parameter.numel() for parameter in load_network(folder, name).parameters()) > 0


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_networks_of_the_shipped_weights_can_be_told_what_their_config_draws(folder):
    config = read_config(folder)
    drawing = drawing_of(config, load_network(folder, "vae").spatial_factor)
    told = {config["networks"][name]["state_channels"] for name in ("msdit", "instructnet")}
    assert told == {None if drawing is None else drawing.num_channels}
