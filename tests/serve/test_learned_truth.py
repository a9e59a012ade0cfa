"""Rooms of a world whose rules nobody has: Doom, as its weights know it."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from servers import PlayerThread, running, wait_until

from gamegen_x.games.record import VideoSettings
from gamegen_x.schema.trace import Trace
from gamegen_x.serve.delta import StateCodec
from gamegen_x.serve.frame_codec import split_pictures
from gamegen_x.serve.learned_truth import LearnedTruth
from gamegen_x.serve.offer import world_of
from gamegen_x.serve.replay import SHOWN, TRUTH, replay
from gamegen_x.serve.restore import open_sessions, state_at_end
from gamegen_x.world.snapshot import keyframe, read_keyframe, state_hash

WEIGHTS = str(Path(__file__).parents[2] / "weights" / "vizdoom-duel")
VIDEO = VideoSettings("libx264", "yuv420p", 12, "ultrafast", 24)
ARENA = 1024  # map units; walls keep players 16 away


@pytest.fixture(scope="module")
def world():
    return LearnedTruth(WEIGHTS, 2, "vizdoom_duel", seed=3)


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


def test_another_seed_is_another_beginning_and_the_same_seed_the_same(world):
    again, other = (LearnedTruth(WEIGHTS, 2, "vizdoom_duel", seed) for seed in (3, 4))
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
        assert one.client.num_desyncs == other.client.num_desyncs == 0
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
    again = state_at_end(world_of(end.header.game, end.header.seed), end)
    assert again.tick == end.last_tick
