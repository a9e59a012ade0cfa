"""Sessions: what was played is on the disk, and comes back bit for bit."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from servers import serve_config

from data_pipeline.stages.ingest_traces import IngestTraces
from data_pipeline.video_reader import PyAVReader
from gamegen_x.config import build, to_dict
from gamegen_x.games.record import VideoSettings
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.trace import Trace
from gamegen_x.serve.frame_codec import Jpeg
from gamegen_x.serve.offer import LEARNED
from gamegen_x.serve.played_world import TruthWorld
from gamegen_x.serve.protocol import PROTOCOL, Hello, Input, Text
from gamegen_x.serve.recorder import Played, Recorder, RecordingRules
from gamegen_x.serve.replay import SHOWN, TRUTH, check_beside, line_of, logs_of, replay, replay_all, replayed, world_of
from gamegen_x.serve.restore import DiffersError
from gamegen_x.serve.room import Room
from gamegen_x.serve.session_log import MAGIC, Header, TickRecord, packed, read_header, read_session

VIDEO = VideoSettings("libx264", "yuv420p", 12, "ultrafast", 24)


@pytest.fixture(scope="module")
def cfg():
    return serve_config("game.num_players=3")


def play(cfg, folder, num_ticks=40, minutes=60.0, pictures=False):
    """A session of two players in a world of three, and its recorder."""
    world = TruthWorld(build(cfg.game), seed=4)
    recorder = Recorder(
        RecordingRules(None if folder is None else str(folder), minutes, 8.0, 1.0, 600.0),
        Played("hill", to_dict(cfg.game), 4, world.fps, "truth"),
        b"key",
    )
    recorder.begin(world.start())
    room = Room("hill", world, build(cfg.room).room, on_final=recorder.final)
    seats = [room.join(Hello(PROTOCOL, "hill"), 0.0)[0] for _ in range(2)]
    for seat in seats:
        recorder.sit(0, seat.number, f"token {seat.number}", seat.resume)
    for tick in range(num_ticks):
        for seat in seats:
            keys = bytes([1 << ((tick // 8 + seat.number) % 4), 0])
            room.receive(seat, Input(tick, tick, seat.number, keys, -1, 0, 0, 0.0), float(tick))
        if tick == 20:
            room.receive(seats[1], Text(1, "Let it snow."), float(tick))
        room.advance(float(tick))
        if pictures:
            views = world.draw([room.state], np.zeros((1, 3, 7), np.uint8))[0]
            for seat in seats:
                recorder.picture(
                    tick,
                    seat.number,
                    Jpeg(name="best", quality=95, subsampling="444").encode_one(views[seat.number]),
                )
    return room, recorder


def test_a_replay_has_every_state_of_the_session(cfg, tmp_path):
    room, recorder = play(cfg, tmp_path)
    recorder.close()
    session = read_session(recorder.path)
    last = list(replayed(session, world_of(session)))[-1]
    assert last.tick == room.final == 39
    assert (last.state.players.frames == room.state.players.frames).all()
    assert last.state.conditions.target.tolist() == room.state.conditions.target.tolist()


def test_a_replay_is_a_trace_that_curation_takes(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path / "sessions", pictures=True)
    recorder.close()
    found = replay(recorder.path, tmp_path / "traces", SHOWN, VIDEO)
    assert (found["frames"], found["players"]) == (40, 2)
    trace = Trace.load(found["output"])
    assert trace.state["visible"].shape == (40, 2, 2)
    assert [(event.frame, event.seat, event.text) for event in trace.text_events] == [(20, 1, "Let it snow.")]
    assert all(len(player) == 16 and int(player, 16) >= 0 for player in trace.players)
    assert "token" not in (trace.folder / "trace.json").read_text()
    ingest = IngestTraces(PyAVReader(None, None, num_threads=1), 24.0, codecs=["h264"])
    sources = [ingest.open(name, path) for name, path in ingest.find(tmp_path / "traces").items()]
    assert [source.num_views for source in sources] == [2]
    with pytest.raises(FileExistsError, match="there already"):
        replay(recorder.path, tmp_path / "traces", TRUTH, VIDEO)


def test_the_same_person_has_the_same_hash_and_nobody_else_has(cfg, tmp_path):
    _, recorder = play(cfg, None, num_ticks=1)
    assert recorder.player_id("me") == recorder.player_id("me") != recorder.player_id("you")
    assert recorder.player_id("") != recorder.player_id("")


def test_a_torn_end_is_left_out(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path)
    recorder.close()
    whole = read_session(recorder.path)
    recorder.path.write_bytes(recorder.path.read_bytes()[:-5])
    torn = read_session(recorder.path)
    assert torn.ticks == whole.ticks[:-1]
    assert torn.torn_bytes > 0
    assert len(list(replayed(torn, world_of(torn)))) == len(torn.ticks)


def test_a_log_that_was_changed_is_found_out_at_the_tick(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path)
    recorder.close()
    session = read_session(recorder.path)
    other = tuple(replace_keys(record) if record.tick == 12 else record for record in session.ticks)
    with pytest.raises(ValueError, match="tick 12 has the hash"):
        list(replayed(replace(session, ticks=other), world_of(session)))


def replace_keys(record):
    return TickRecord(record.tick, (record.keys[0] ^ 3, *record.keys[1:]), record.texts, record.hash)


def test_what_is_no_session_is_refused(tmp_path):
    path = tmp_path / "x.ggxlog"
    with pytest.raises(FileNotFoundError, match="sessions"):
        read_session(path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no session log"):
        read_session(path)
    header = Header({}, 0, 24.0, 5, b"", "truth")
    path.write_bytes(b"GGXLOG1\n" + packed(header) + packed(TickRecord(7, (0,), (), 1)))
    with pytest.raises(ValueError, match="leaves out ticks"):
        read_session(path)


def test_a_long_session_goes_on_in_another_file_that_replays_alone(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path, num_ticks=60, minutes=24 / 60 / 24)
    recorder.close()
    files = sorted(tmp_path.glob("*.ggxlog"))
    sessions = [read_session(path) for path in files]
    assert [len(session.ticks) for session in sessions] == [24, 24, 12]
    for session in sessions:
        assert len(list(replayed(session, world_of(session)))) == len(session.ticks)


def test_a_folder_of_sessions_is_replayed_where_an_earlier_run_stopped(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path / "logs", num_ticks=60, minutes=24 / 60 / 24)
    recorder.close()
    (tmp_path / "logs" / "torn.ggxlog").write_bytes(b"")
    logs = logs_of(tmp_path / "logs", TRUTH)
    assert len(logs) == 3
    replay_one = partial(replay, pictures=TRUTH, video=VIDEO)
    replay_one(logs[1], tmp_path / "traces")
    told = list(replay_all(logs, tmp_path / "traces", TRUTH, replay_one))
    assert [each["is"] for each in told] == ["replayed", "found", "replayed"]
    assert [each["session"] for each in told] == [path.name for path in logs]
    again = list(replay_all(logs[:1], tmp_path / "traces", SHOWN, partial(replay, pictures=SHOWN, video=VIDEO)))
    assert [each["is"] for each in again] == ["left_out"]  # other pictures stand there
    assert "pictures of 'truth'" in again[0]["said"]
    (tmp_path / "traces" / logs[0].stem / "trace.json").write_text(
        "{}"
    )  # damage to one keeps no other from being replayed
    (tmp_path / "traces" / logs[1].stem / "state.npz").unlink()
    told = list(replay_all(logs, tmp_path / "traces", TRUTH, replay_one))
    assert [each["is"] for each in told] == ["left_out", "left_out", "found"]
    assert "state.npz is missing" in line_of(told[1])


def test_a_session_that_nobody_saw_does_not_end_a_replay_of_its_folder(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path / "logs", num_ticks=4)
    recorder.close()
    (told,) = replay_all([recorder.path], tmp_path / "traces", SHOWN, partial(replay, pictures=SHOWN, video=VIDEO))
    assert line_of(told).startswith(f"{recorder.path.name} left out: {recorder.path} holds nothing")
    assert told["is"] == "left_out"
    assert "nothing that anybody saw" in told["said"]


def test_a_session_that_is_another_one_by_now_is_told_and_fails_the_run(cfg, tmp_path):
    def is_another(path, output):
        raise DiffersError("tick 3 has the hash 1, the log says 2")

    _, recorder = play(cfg, tmp_path / "logs", num_ticks=4)
    recorder.close()
    (told,) = replay_all([recorder.path], tmp_path / "traces", TRUTH, is_another)
    assert (told["is"], told["said"]) == ("differs", "tick 3 has the hash 1, the log says 2")


def test_traces_of_another_game_are_not_joined(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path / "logs", num_ticks=4)
    recorder.close()
    replay(recorder.path, tmp_path / "traces", TRUTH, VIDEO)
    doom = SimpleNamespace(keys=ActionSpace("doom", ("w", "left")))
    with pytest.raises(ValueError, match="these have w left; name another output"):
        check_beside(tmp_path / "traces", doom)


def test_sessions_of_several_games_are_not_put_into_one_folder(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path, num_ticks=4)
    recorder.close()
    header = read_header(recorder.path)
    learned = msgspec.structs.replace(header, game={"_target_": LEARNED}, weights="Doom-duel")
    (tmp_path / "z.ggxlog").write_bytes(MAGIC + packed(learned))
    with pytest.raises(ValueError, match="1 of snowglobe, 1 of doom_duel; choose with only=snowglobe"):
        logs_of(tmp_path, TRUTH)
    assert logs_of(tmp_path, TRUTH, "snowglobe") == logs_of(tmp_path, TRUTH, "Snowglobe") == [recorder.path]
    with pytest.raises(ValueError, match="pictures=shown"):
        logs_of(tmp_path, TRUTH, "doom-duel")
    with pytest.raises(FileNotFoundError, match=r"of chess in .*; those there are of snowglobe, doom_duel"):
        logs_of(tmp_path, SHOWN, "chess")


def test_a_disk_that_takes_nothing_ends_the_recording_and_not_the_game(cfg, tmp_path):
    (tmp_path / "sessions").write_text("a file where a folder should be")
    room, recorder = play(cfg, tmp_path / "sessions", num_ticks=10)
    recorder.flush()
    assert room.tick == 9
    assert "recording ended" in recorder.failure
    assert recorder.num_dropped > 0
    recorder.final(None)  # nothing is looked at any more


def test_a_disk_that_is_too_slow_ends_the_recording(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path, num_ticks=2)
    recorder.picture(1, 0, bytes(9_000_000))
    assert "too slow" in recorder.failure


def test_settings_of_a_replay_are_said_as_json(cfg, tmp_path):
    _, recorder = play(cfg, tmp_path)
    recorder.close()
    found = replay(recorder.path, tmp_path / "traces", TRUTH, VIDEO)
    assert json.loads(json.dumps(found))["states_equal"] is True
