"""dynamics=learned: a world that a network steps, from facts of recorded frames."""

import json

import numpy as np
import pytest
import torch

from gamegen_x.models.transition import Transition
from gamegen_x.models.weights import save_networks
from gamegen_x.sampling.learned_world import LearnedDynamics
from gamegen_x.world.drawing import from_halves, to_halves
from gamegen_x.world.facts import Dynamics, World, continued, stepped

DESCRIPTION = {
    "num_players": 2,
    "num_places": 2,
    "num_keys": 3,
    "hidden": 8,
    "num_frequencies": 2,
    "fastest": 0.1,
    "num_beginnings": 4,
    "egocentric": False,
    "ground_side": 0,
}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    network = Transition(**DESCRIPTION)
    torch.nn.init.normal_(network.out[-1].weight, std=0.2)
    described = {"transition": {"_target_": "gamegen_x.models.transition.Transition", **DESCRIPTION}}
    places = {"_target_": "gamegen_x.world.places.InViews"}
    config = {"kind": "base", "height": 48, "width": 64, "networks": described, "places": places}
    save_networks(tmp_path, {"transition": network}, config, torch.float32)
    return tmp_path


def session(num_frames):
    draw = np.random.default_rng(3)
    facts = {
        "screen_xy": (draw.random((num_frames, 2, 2, 2)) * 40).astype(np.float32),
        "visible": draw.random((num_frames, 2, 2)) < 0.7,
        "score": np.arange(num_frames),
    }
    return facts, (draw.random((num_frames, 2, 3)) < 0.5).astype(np.uint8)


def test_it_goes_on_as_the_network_does_by_itself(weights):
    facts, held = session(9)
    dynamics = LearnedDynamics(str(weights))
    world = dynamics.follow({name: values[:4] for name, values in facts.items()}, held[:4])
    assert isinstance(dynamics, Dynamics)
    assert isinstance(world, World)
    assert world.num_players == 2
    _, coming = stepped(world, held[4:])
    is_given = torch.zeros(9, 1, dtype=torch.bool)
    is_given[:4] = True
    places, logits = dynamics.network.rollout(
        torch.from_numpy(to_halves(facts["screen_xy"], (48, 64)))[None],
        torch.from_numpy(facts["visible"])[None].float(),
        torch.from_numpy(held)[None].float(),
        is_given,
    )
    np.testing.assert_allclose(coming["screen_xy"], from_halves(places[0, 3:].detach().numpy(), (48, 64)), atol=1e-4)
    np.testing.assert_array_equal(coming["visible"], logits[0, 3:].numpy(force=True) > 0)


def test_a_world_is_a_value_and_knows_no_sentences(weights):
    facts, held = session(5)
    world = LearnedDynamics(str(weights)).follow(facts, held)
    first, again = world.after(held[0]).facts(), world.told("Let it snow.").after(held[0]).facts()
    assert all(np.array_equal(first[name], again[name]) for name in ("screen_xy", "visible"))
    np.testing.assert_allclose(world.facts()["screen_xy"], facts["screen_xy"][-1], atol=1e-4)


def test_a_fresh_world_begins_as_a_recording_did(weights):
    dynamics = LearnedDynamics(str(weights))
    facts, held = session(1)
    places, seen = (torch.from_numpy(part) for part in dynamics.places.read(facts, dynamics.picture))
    dynamics.network.keep(places, seen.float())
    world = dynamics.fresh(7, "val")
    assert isinstance(world, World)
    np.testing.assert_allclose(world.facts()["screen_xy"], facts["screen_xy"][0], atol=1e-4)
    assert not np.allclose(world.after(held[0]).facts()["screen_xy"], facts["screen_xy"][0])


def test_who_is_nowhere_spoils_nothing(weights):
    facts, held = session(5)
    facts["screen_xy"][:, 0, 1] = np.nan
    facts["visible"][:, 0, 1] = False
    world = LearnedDynamics(str(weights)).follow(facts, held).after(held[0])
    assert np.isfinite(world.facts()["screen_xy"]).all()


def test_facts_that_do_not_say_who_is_where_are_refused(weights):
    facts, held = session(5)
    with pytest.raises(ValueError, match="steps screen_xy and visible, and the recording has no visible"):
        LearnedDynamics(str(weights)).follow({"screen_xy": facts["screen_xy"]}, held)


def test_places_on_a_map_are_stepped_as_positions_and_angles(weights):
    config = json.loads((weights / "config.json").read_text())
    config["places"] = {"_target_": "gamegen_x.world.places.OnMap", "middle": [0.0, 0.0], "half": 100.0}
    (weights / "config.json").write_text(json.dumps(config))
    facts = {"position": np.array([[[10.0, 20, 0], [30, 40, 0]]] * 2), "angle": np.array([[350.0, 10]] * 2)}
    world = LearnedDynamics(str(weights)).follow(facts, np.zeros((2, 2, 3), np.uint8))
    np.testing.assert_allclose(world.facts()["position"], facts["position"][0] * [1, 1, 0], atol=1e-4)
    np.testing.assert_allclose(world.facts()["angle"], facts["angle"][0], atol=1e-3)
    assert not np.allclose(world.after(np.ones((2, 3), np.uint8)).facts()["position"], world.facts()["position"])


def test_a_recording_goes_on_where_its_places_end(weights):
    config = json.loads((weights / "config.json").read_text())
    config["places"] = {"_target_": "gamegen_x.world.places.OnMap", "middle": [0.0, 0.0], "half": 100.0}
    (weights / "config.json").write_text(json.dumps(config))
    draw = np.random.default_rng(4)
    facts = {"position": draw.random((5, 2, 3)) * 50, "angle": draw.random((5, 2)) * 360}
    told = continued(LearnedDynamics(str(weights)), facts, np.zeros((9, 2, 3), np.uint8))
    assert told["position"].shape == (9, 2, 3)
    np.testing.assert_array_equal(told["position"][:5], facts["position"])
    assert np.isfinite(told["angle"]).all()


@pytest.mark.parametrize("places", [None, {"_target_": "gamegen_x.world.places.OnMap", "size": 3}])
def test_weights_that_do_not_say_what_they_step_are_refused(weights, places):
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps(config | {"places": places}))
    with pytest.raises(ValueError, match=r"may step one of|does not fit"):
        LearnedDynamics(str(weights))


def test_weights_may_step_only_what_is_ours(weights):
    config = json.loads((weights / "config.json").read_text())
    config["places"] = {"_target_": "gamegen_x.games.dynamics.RulesDynamics"}
    (weights / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"may step one of .*InViews.*, their config names .*RulesDynamics"):
        LearnedDynamics(str(weights))


def test_weights_without_the_network_say_how_to_train_one(tmp_path):
    save_networks(tmp_path, {}, {"kind": "base", "networks": {}}, torch.float32)
    with pytest.raises(
        ValueError, match=r"has none\. For Snowglobe leave dynamics=rules.* python train.py task=dynamics weights="
    ):
        LearnedDynamics(str(tmp_path))
