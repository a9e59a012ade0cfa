"""Rooms of a world whose rules nobody has: Doom, as its weights know it."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import simplejpeg
import torch
from safetensors.torch import load_file, save_file
from servers import PlayerThread, running, serve_config, wait_until

from gamegen_x.config import build
from gamegen_x.games.record import VideoSettings
from gamegen_x.models.weights import build_network
from gamegen_x.schema.trace import Trace
from gamegen_x.serve.delta import StateCodec
from gamegen_x.serve.frame_codec import split_pictures
from gamegen_x.serve.learned_truth import FARTHEST, LearnedTruth
from gamegen_x.serve.protocol import PROTOCOL, Hello, Role
from gamegen_x.serve.replay import SHOWN, TRUTH, replay, world_of
from gamegen_x.serve.restore import open_sessions, state_at_end
from gamegen_x.serve.room import Room
from gamegen_x.world.snapshot import keyframe, read_keyframe, state_hash

WEIGHTS = str(Path(__file__).parents[2] / "weights" / "vizdoom-duel")
VIDEO = VideoSettings("libx264", "yuv420p", 12, "ultrafast", 24)
ARENA = 1024  # map units; walls keep players 16 away


@pytest.fixture(scope="module")
def world():
    return LearnedTruth(WEIGHTS, 2, "first_person", seed=3)


def played(world, state, key_string, num_ticks):
    held = np.stack([world.keys.parse(each)[0] for each in key_string.split("|")])
    for _ in range(num_ticks):
        state = world.advanced(state, held)
    return state


def test_a_state_that_was_sent_goes_on_as_the_original(world):
    state = played(world, world.start(), "w+left*1|d*1", 7)
    read = read_keyframe(keyframe(state), world.start())
    assert state_hash(played(world, read, "w*1|s*1", 5)) == state_hash(played(world, state, "w*1|s*1", 5))
    codec = StateCodec.of_state(state)
    sent = codec.arrays(codec.pack(state.tick, state))
    np.testing.assert_array_equal(sent["places"], state.places)
    np.testing.assert_array_equal(sent["hidden"], state.hidden)


def test_each_players_keys_move_that_player_and_walls_hold(world):
    begin = world.facts_of(world.start())
    turned = world.facts_of(played(world, world.start(), "left*1|_*1", 24))
    by = (turned["angle"] - begin["angle"] + 180) % 360 - 180
    assert 80 < by[0] < 130  # 105 degrees a second
    assert abs(by[1]) < 5
    walked = world.facts_of(played(world, world.start(), "w*1|s*1", 24 * 20))["position"][:, :2]
    assert (walked > 8).all()
    assert (walked < ARENA - 8).all()


@pytest.mark.parametrize("keys", ["w", "a", "s", "d"])
def test_nobody_leaves_the_arena_from_wherever_a_world_begins(world, keys):
    network = world.dynamics.network
    numbers = range(len(network.beginnings))
    memory = network.begin_anew(0, 2)
    begun = [network.begin_anew(number, 2).places for number in numbers]
    assert network._is_ground(torch.cat(begun)[:, :, :1]).all()
    held = torch.from_numpy(world.keys.encode([keys])).float().expand(len(begun), 2, -1)
    memory = network.begin(torch.cat(begun), torch.ones(len(begun), 2, 2))
    with torch.no_grad():
        for _ in range(24 * 5):
            memory, _ = network(memory, held)
    assert network._is_ground(memory.places[:, :, :1]).all()


def test_what_a_network_takes_ever_farther_stays_within_what_travels(tmp_path):
    """A network without a ground, which drifts by half a picture a frame."""
    config = json.loads((Path(WEIGHTS) / "config.json").read_text())
    config["networks"]["transition"]["ground_side"] = 0
    network = build_network(config["networks"]["transition"])
    network.load_state_dict({**load_file(f"{WEIGHTS}/transition.safetensors"), "ground": torch.zeros(0, 0)})
    torch.nn.init.constant_(network.out[-1].bias, 0.5)
    save_file(network.state_dict(), tmp_path / "transition.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    drifting = LearnedTruth(str(tmp_path), 2, "", seed=0)
    state = played(drifting, drifting.start(), "_*1|_*1", 48)
    assert np.abs(state.places[:, 0]).max() == pytest.approx(FARTHEST)
    assert np.isfinite(state.places).all()


def test_a_network_that_steps_what_the_others_are_not_told_is_refused(tmp_path):
    config = json.loads((Path(WEIGHTS) / "config.json").read_text())
    config["places"] = {"_target_": "gamegen_x.world.places.InViews"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "transition.safetensors").symlink_to(f"{WEIGHTS}/transition.safetensors")
    with pytest.raises(ValueError, match="are told angle and position, and their transition network steps screen_xy"):
        LearnedTruth(str(tmp_path), 2, "", seed=0)


def test_a_process_keeps_its_threads(world):
    torch.set_num_threads(2)
    world.advanced(world.start(), np.zeros((2, 7), np.uint8))
    assert torch.get_num_threads() == 2


def test_a_spectator_watches_a_room_in_which_nothing_happens_but_moves(world):
    room = Room("r", world, build(serve_config().room).room)
    room.join(Hello(PROTOCOL, "r"), 0.0)
    watcher, _ = room.join(Hello(PROTOCOL, "r", Role.SPECTATOR), 0.0)
    for tick in range(1, 30):
        room.advance(float(tick))
    assert watcher.is_here


def test_another_seed_is_another_beginning_and_the_same_seed_the_same(world):
    again, other = (LearnedTruth(WEIGHTS, 2, "first_person", seed) for seed in (3, 4))
    assert state_hash(again.start()) == state_hash(world.start())
    assert state_hash(other.start()) != state_hash(world.start())


def test_it_says_that_it_hears_no_words(world):
    with pytest.raises(ValueError, match="does not listen to words"):
        world.told(world.start(), "Let it snow.")


def test_two_people_play_it_and_what_they_saw_can_be_replayed_and_taken_up(tmp_path):
    """A real server, the shipped weights in their process, players on sockets; the session's states to the bit."""
    settings = ("world=model", f"weights={WEIGHTS}", "model.threads=1", f"recording.folder={tmp_path / 'sessions'}")
    with running(*settings) as server:
        with PlayerThread(server, held=1 << 4) as one, PlayerThread(server, held=1) as other:
            wait_until(lambda: min(len(each.frames) for each in (one, other)) > 6, "pictures stopped")
            shown = [split_pictures(each.frames[-1].payload)[-1] for each in (one, other)]
            assert_only_what_there_is_is_offered(server)
        with PlayerThread(server, held=1) as again:  # on a seat whose pictures somebody has seen before
            wait_until(lambda: len(again.frames) > 2, "pictures stopped for who came later")
        assert one.client.num_desyncs == other.client.num_desyncs == again.client.num_desyncs == 0
        pictures = [simplejpeg.decode_jpeg(each) for each in shown]
        assert all(each.shape == (64, 64, 3) and each.std() > 5 for each in pictures)
        assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 3
    (log,) = (tmp_path / "sessions").glob("*.ggxlog")
    with pytest.raises(ValueError, match="pictures=shown"):
        replay(log, tmp_path / "truth", TRUTH, VIDEO)
    told = replay(log, tmp_path / "traces", SHOWN, VIDEO)
    assert told["states_equal"]
    assert told["players"] == 2
    trace = Trace.load(Path(told["output"]))
    assert trace.game == "vizdoom_duel"
    assert trace.state["position"].shape == (trace.num_frames, 2, 3)
    assert trace.actions[:, 0, 4].any()
    assert trace.actions[:, 1, 0].any()
    (end,) = open_sessions(tmp_path / "sessions", 0)
    again = state_at_end(world_of(end), end)
    assert again.tick == end.last_tick


def assert_only_what_there_is_is_offered(server):
    with httpx.Client(base_url=server.url, timeout=60) as web:
        facts = web.get("/page.json").json()
        assert (facts["worlds"], facts["sentences"], facts["max_players"]) == (["model"], [], 2)
        assert facts["does"]["left"] == "turn left"
        assert web.get("/rooms/home/truth/0.mjpeg").status_code == 404
        assert not web.get("/status").json()["rooms"][0]["has_ghost"]
        for wish, said in (({"num_players": 3}, "1 to 2 players"), ({"world": "truth"}, "has the worlds model")):
            refused = web.post("/rooms", json=wish)
            assert refused.status_code == 422
            assert said in refused.json()["detail"]
