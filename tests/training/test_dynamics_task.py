"""task=dynamics: the keys of recordings move what the network foresees, and its weights stand beside the others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gamegen_x.models.weights import load_network, save_networks
from gamegen_x.sampling.learned_world import LearnedDynamics
from gamegen_x.schema.weights_folder import read_config
from gamegen_x.training.checks import check_run
from gamegen_x.training.metrics_file import read_metrics
from gamegen_x.training.run import run
from tests.training.small_run import configure

SHIPPED = Path(__file__).parents[2] / "weights" / "snowglobe-tiny"


def dynamics(tmp_path: Path, *overrides: str):
    """A run on the discs of data=synthetic, which obey their keys."""
    task = ["task=dynamics", "optimizer=adamw", "data=synthetic", "data.dataset.num_players=2"]
    network = ["transition.num_players=2", "transition.hidden=64", "transition.num_frequencies=1", "optimizer.lr=1e-2"]
    wide = ["data.dataset.height=64", "data.dataset.width=64", "data.dataset.num_clips={train: 32, val: 8}"]
    windows = ["data.num_frames=16", "task.warm_up_frames=4", "task.soon_frames=8", "data.batch_size=8"]
    return configure(tmp_path, *task, *network, *wide, *windows, "callbacks.ema=null", *overrides)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamics")
    vae = run(configure(folder / "vae", "steps=1", "task=vae"), "test")
    cfg = dynamics(folder, f"weights={vae}", "steps=100", "trainer.val_check_interval=100")
    return cfg, run(cfg, "test")


def test_places_are_foreseen_better_than_if_all_stood(trained):
    cfg, _ = trained
    judged = read_metrics(Path(cfg.output) / "metrics.csv")[-1]
    assert float(judged["val/soon_l1"]) < 0.5 * float(judged["val/soon_l1_if_all_stood"])


def test_its_weights_folder_is_that_which_it_was_given_and_one_network_more(trained):
    cfg, weights = trained
    before, after = read_config(cfg.weights), read_config(weights)
    assert after["networks"].keys() == {"vae", "transition"}
    assert after["places"] == {"_target_": "gamegen_x.world.places.InViews"}
    assert {**after, **{name: before[name] for name in ("networks", "made_by", "places")}} == before
    assert after["made_by"]["transition"]["step"] == 100
    assert (weights / "vae.safetensors").read_bytes() == (Path(cfg.weights) / "vae.safetensors").read_bytes()


def test_worlds_begin_as_its_recordings_did(trained, tmp_path):
    _, weights = trained
    networks = {name: load_network(weights, name) for name in ("vae", "transition")}
    save_networks(tmp_path, networks, {k: v for k, v in read_config(weights).items() if k != "format"}, torch.bfloat16)
    begun = [LearnedDynamics(str(folder)).fresh(0, "val").facts() for folder in (weights, tmp_path)]
    assert begun[0]["visible"].all()
    assert ((begun[0]["screen_xy"] > 0) & (begun[0]["screen_xy"] < 64)).all()
    assert np.ptp(begun[0]["screen_xy"]) > 1
    np.testing.assert_allclose(begun[0]["screen_xy"], begun[1]["screen_xy"], atol=0.3)


def test_other_numbers_of_players_are_refused_with_what_to_set(tmp_path, trained):
    cfg, _ = trained
    with pytest.raises(ValueError, match=r"2 players of 2 places each, .* set transition.num_players"):
        run(dynamics(tmp_path, f"weights={cfg.weights}", "steps=1", "transition.num_players=1"), "test")


def test_a_transition_network_that_does_not_say_what_it_steps_is_refused_at_the_door(tmp_path, trained):
    _, weights = trained
    old = tmp_path / "old"
    shutil.copytree(weights, old)
    config = read_config(weights)
    (old / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key != "places"}))
    with pytest.raises(ValueError, match=r"earlier version, .* train it again \(task=dynamics\)"):
        check_run(configure(tmp_path, "task=pretrain", f"weights={old}"))


def test_stages_after_it_keep_the_network(trained, tmp_path):
    _, weights = trained
    pretrained = run(configure(tmp_path, "task=pretrain", f"weights={weights}", "steps=1"), "test")
    assert read_config(pretrained)["networks"].keys() == {"vae", "text_encoder", "msdit", "transition"}
    assert read_config(pretrained)["places"] == read_config(weights)["places"]
    kept, made = (folder / "transition.safetensors" for folder in (pretrained, weights))
    assert kept.read_bytes() == made.read_bytes()


def test_it_adds_to_a_weights_folder_and_reads_what_all_players_do(tmp_path):
    with pytest.raises(ValueError, match="task=dynamics adds a network to a folder of weights, but weights is null"):
        check_run(dynamics(tmp_path))
    with pytest.raises(ValueError, match=r"needs what all players do: set data\.views=all"):
        check_run(dynamics(tmp_path, f"weights={SHIPPED}", "data.views=one"))


def test_other_keys_than_those_of_the_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"knows the keys \['w', .*, and its network would stand beside the others"):
        check_run(dynamics(tmp_path, f"weights={SHIPPED}", "action_space=vizdoom_duel"))


def test_windows_that_end_before_anything_was_foreseen_are_refused(trained, tmp_path):
    cfg, _ = trained
    with pytest.raises(ValueError, match=r"windows have 16 frames, .* need 24; set data\.num_frames"):
        run(dynamics(tmp_path, f"weights={cfg.weights}", "steps=1", "task.warm_up_frames=16"), "test")
