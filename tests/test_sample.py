import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, build, check
from gamegen_x.games.dynamics import RulesDynamics
from gamegen_x.models.transition import Transition
from gamegen_x.models.weights import save_networks
from gamegen_x.sampling.video_file import write_video
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.trace import Trace
from gamegen_x.world.facts import stepped
from sample import check_players, check_request, choose_dynamics, read_frames, true_facts

SIZE = (64, 96)  # height and width


@pytest.fixture
def videos(tmp_path):
    """Two grey videos: paths by name."""
    paths = {"dark": tmp_path / "dark.mp4", "light": tmp_path / "light.mp4"}
    for path, grey in zip(paths.values(), (40, 200), strict=True):
        write_video(path, np.full((12, 32, 48, 3), grey, np.uint8), 24.0, 0)
    return {name: str(path) for name, path in paths.items()}


def greys(frames):
    """The mean of each player's frames, as bytes."""
    return ((frames.mean((0, 2, 3, 4, 5)) + 1) * 127.5).tolist()


def test_each_player_begins_with_a_video_of_its_own(videos):
    frames = read_frames(f"{videos['light']}|{videos['dark']}", SIZE, 8, 2)
    assert frames.shape == (1, 2, 8, 3, *SIZE)
    assert greys(frames) == pytest.approx([200, 40], abs=3)


def test_one_video_is_for_all_players(videos):
    assert greys(read_frames(videos["dark"], SIZE, 8, 3)) == pytest.approx([40] * 3, abs=3)


def test_more_players_than_a_world_holds_are_refused_at_once():
    with pytest.raises(ValueError, match="at most 8 players, got num_players=9"):
        check_players(sample_config("num_players=9"), described("x", "vae"))
    learned = described("x") | {"networks": {"transition": {"num_players": 2}}}
    with pytest.raises(ValueError, match="steps 2 players, and num_players=3; set num_players=2, or dynamics=none"):
        check_players(sample_config("num_players=3"), learned)
    check_players(sample_config("num_players=3", "dynamics=none"), learned)


@pytest.mark.parametrize("seed", [-3, 2**31])
def test_a_seed_that_no_generator_takes_is_refused_at_once(seed):
    with pytest.raises(ValueError, match=f"0 to 2147483647, got seed={seed}"):
        check_request(sample_config(f"seed={seed}"), ActionSpace("x", ("w",)))


def test_a_wrong_number_of_videos_or_of_frames_is_told(videos):
    with pytest.raises(ValueError, match=r"2 videos are given .* num_players is 3"):
        read_frames(f"{videos['light']}|{videos['dark']}", SIZE, 8, 3)
    with pytest.raises(ValueError, match=r"dark.mp4 has 12 frames, 13 are needed"):
        read_frames(videos["dark"], SIZE, 13, 1)


def sample_config(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("sample", ["num_players=2", *overrides])
    check(cfg)
    return cfg


def test_the_truth_of_a_recorded_session_goes_on_where_its_frames_end(tmp_path, capsys):
    cfg = sample_config(f"continue_video={tmp_path}/seat-0.mp4|{tmp_path}/seat-1.mp4", "num_context_frames=8")
    game = build(cfg.game)
    keys = game.keys
    held = np.stack([keys.parse("w*12"), keys.parse("d*12")], axis=1)
    rules = RulesDynamics(game)
    facts = stepped(rules.fresh(3, "val"), held)[1]
    assert true_facts(cfg, rules, held, None, SIZE, 24.0) is None
    assert "are not the 2 seats of one" in capsys.readouterr().out
    Trace(tmp_path, "snowglobe", 3, 24.0, keys, ("one", "two"), held, facts).save()
    for seat in range(2):
        write_video(tmp_path / f"seat-{seat}.mp4", np.zeros((12, 32, 48, 3), np.uint8), 24.0, 0)
    asked = check_request(
        sample_config(f"continue_video={cfg.continue_video}", "num_context_frames=8", "keys=a*3"), keys
    )
    np.testing.assert_array_equal(asked[:, :8], held[:8].transpose(1, 0, 2))
    np.testing.assert_array_equal(asked[:, 8:], [keys.parse("a*3")] * 2)
    alone = sample_config(f"continue_video={tmp_path}/seat-0.mp4", "num_players=1", "num_context_frames=8", "keys=a*3")
    np.testing.assert_array_equal(check_request(alone, keys), asked[:1])
    assert true_facts(alone, rules, held[:, :1], None, SIZE, 24.0) is None  # of two players one does not make a world
    with pytest.raises(ValueError, match=r"has 24 frames a second, .* at 12; record at that rate"):
        true_facts(cfg, rules, held, None, SIZE, 12.0)
    told = true_facts(cfg, rules, held, None, SIZE, 24.0)
    np.testing.assert_array_equal(told["pose"][:8], facts["pose"][:8])
    np.testing.assert_allclose(told["pose"][8:], facts["pose"][8:], atol=1e-5)
    seen = facts["visible"][:8]  # in a video of half the size
    assert seen.any()
    np.testing.assert_allclose(told["screen_xy"][:8][seen], facts["screen_xy"][:8][seen] * 2 + 0.5, atol=1e-4)


def described(keys, *networks):
    return {"action_space": {"name": "any", "keys": list(keys)}, "networks": {name: {} for name in networks}}


def test_a_new_world_begins_with_its_seed(capsys):
    cfg = sample_config("num_players=3", "seed=7")
    rules = choose_dynamics(cfg, described(cfg.game["keys"]["keys"], "transition"))
    assert isinstance(rules, RulesDynamics)
    told = true_facts(cfg, rules, np.zeros((4, 3, 7), np.uint8), None, SIZE, 24.0)
    assert told["pose"].shape == (4, 3, 3, 3)
    assert "seed=7 begins with " in capsys.readouterr().out


def test_another_games_weights_are_told_what_they_foresee_themselves_or_nothing(tmp_path, capsys):
    assert choose_dynamics(sample_config(), described("x", "vae")) is None
    assert "knows other keys than ['x'], and they hold no transition network" in capsys.readouterr().out
    shape = {"num_players": 2, "num_places": 2, "num_keys": 1, "hidden": 8, "num_frequencies": 1, "fastest": 0.1}
    shape |= {"num_beginnings": 1, "egocentric": False, "ground_side": 0}
    network = Transition(**shape)
    network.keep(torch.full((1, 2, 2, 2), 0.5), torch.ones(1, 2, 2))
    description = {"_target_": "gamegen_x.models.transition.Transition", **shape}
    config = described("x") | {"kind": "base", "height": 8, "width": 8, "networks": {"transition": description}}
    config["places"] = {"_target_": "gamegen_x.world.places.OnMap", "middle": [0.0, 0.0], "half": 10.0}
    save_networks(tmp_path, {"transition": network}, config, torch.float32)
    learned = choose_dynamics(sample_config(f"weights={tmp_path}"), config)
    cfg = sample_config(f"weights={tmp_path}", "dynamics=learned", "seed=3")
    told = true_facts(cfg, learned, np.zeros((4, 2, 1), np.uint8), None, SIZE, 24.0)
    np.testing.assert_allclose(told["position"][..., :2], np.full((4, 2, 2), 5.0))
    np.testing.assert_allclose(told["angle"], np.full((4, 2), 45.0), atol=1e-4)
    assert "seed=3 begins as one of the recordings did" in capsys.readouterr().out
    for dynamics in ("rules", "learned"):
        with pytest.raises(
            ValueError, match=r"steps 2 players, and num_players=3; set num_players=2, or dynamics=none"
        ):
            choose_dynamics(sample_config(f"weights={tmp_path}", f"dynamics={dynamics}", "num_players=3"), config)


def test_keys_begin_where_the_given_video_ends(videos):
    keys = ActionSpace("game", ("w", "d"))
    cfg = sample_config(f"continue_video={videos['dark']}", "num_context_frames=4", "keys=w*3")
    held = check_request(cfg, keys)
    np.testing.assert_array_equal(held, [[[0, 0]] * 4 + [[1, 0]] * 3] * 2)
    np.testing.assert_array_equal(check_request(sample_config("keys=w*3"), keys), [[[1, 0]] * 3] * 2)


def test_a_clip_that_ends_before_anything_is_made_is_refused(videos):
    cfg = sample_config(f"continue_video={videos['dark']}", "num_context_frames=8", "num_frames=8")
    with pytest.raises(ValueError, match=r"num_frames=8 has no frame after .* num_context_frames=8"):
        check_request(cfg, ActionSpace("game", ("w", "d")))


def test_a_video_is_not_overwritten_by_what_goes_on_from_it(videos):
    cfg = sample_config(f"continue_video={videos['dark']}", f"output={videos['dark']}")
    with pytest.raises(ValueError, match=r"dark.mp4 is the continue_video, which would be lost"):
        check_request(cfg, ActionSpace("game", ("w", "d")))


def test_a_video_that_is_squeezed_is_warned_of(videos, capsys):
    read_frames(videos["dark"], SIZE, 8, 1)
    assert capsys.readouterr().err == ""
    read_frames(videos["dark"], (64, 32), 8, 1)
    assert "48x32 and is squeezed to 32x64" in capsys.readouterr().err
