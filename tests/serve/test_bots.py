import asyncio
from types import SimpleNamespace

import pytest
from servers import serve_config

from gamegen_x.config import build
from gamegen_x.serve import __main__ as command
from gamegen_x.serve.bots import BotReport, lost_events, play, room_sizes, status_at, summary


def played(server, **changes):
    cfg = serve_config()
    wish = {
        "url": server.url,
        "num": 2,
        "seats": [2],
        "seconds": 3,
        "quality": "light",
        "world": None,
        "rooms": "bots",
        "hold_s": 0.2,
        "told_within_s": 0.5,
        "stall_s": 0.5,
        "seed": 1,
    }
    return asyncio.run(play(type(cfg)({**wish, **changes}), build(cfg.room)))


def test_bots_play_and_tell_what_they_saw(server):
    found = played(server)
    assert found["bots"] == found["connections"] == 2
    assert found["frames_per_second_min"] > 0
    assert found["desyncs"] == 0
    assert found["errors"] == []
    assert found["lost_events"] == found["lost_seats"] == 0
    assert found["key_to_frame_ms_p99"] >= found["key_to_frame_ms_p50"] > 0


def test_events_are_not_lost_where_the_server_says_late_what_there_were(server, monkeypatch):
    async def late(browser, moment_ms):
        return await status_at(browser, moment_ms + 1500)

    monkeypatch.setattr("gamegen_x.serve.bots.status_at", late)
    found = played(server, seconds=1, rooms="late")
    assert found["lost_events"] == 0
    assert found["seconds"] >= 2.5  # 1 - .5 + 1.5 until the answer, and half a second to hear of it


def test_figures_of_bots_are_those_of_one_bot():
    fast, slow = BotReport(pictures=240, gaps=[40.0] * 9), BotReport(pictures=120, gaps=[40.0, 1000.0])
    found = summary([fast, slow], seconds=10.0, stall_s=0.5)
    assert (found["frames_per_second_mean"], found["frames_per_second_max_over_min"]) == (18.0, 2.0)
    assert found["stalled_percent"] == 5.0
    assert summary([fast, slow], seconds=10.0, stall_s=1.0)["stalled_percent"] == 0


def test_a_port_that_is_taken_is_named_with_the_next_one_and_the_rest_of_the_command(monkeypatch):
    monkeypatch.setattr("sys.argv", ["serve", "world=truth", "port=1"])
    with command.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        said = f"port {port} is taken; run: python -m gamegen_x.serve world=truth port={port + 1}"
        with pytest.raises(ValueError, match=said):
            command.listen("127.0.0.1", port)


def test_a_port_or_host_that_cannot_be_is_said():
    with pytest.raises(ValueError, match="0 to 65535"):
        command.listen("127.0.0.1", 99999)
    with pytest.raises(ValueError, match=r"host=127\.0\.0\.1"):
        command.listen("203.0.113.7", 0)


def test_missing_weights_and_packages_are_said_with_what_to_run(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="world=truth"):
        command.check_weights(str(tmp_path))
    command.check_packages()
    monkeypatch.setattr(command, "NEEDED", ("fastapi", "no_such_package"))
    with pytest.raises(ValueError, match=r"no_such_package not installed; run: .*pip install .*\[serve\]"):
        command.check_packages()


def test_bots_fill_one_room_after_another():
    assert room_sizes(8, [8]) == [8]
    assert room_sizes(9, [4]) == [4, 4, 4]
    assert room_sizes(8, [4, 1, 1, 1, 1]) == [4, 1, 1, 1, 1]
    assert room_sizes(6, [4, 1]) == [4, 1, 4]
    for num, seats in ((0, [8]), (1, [9]), (1, [0]), (1, [])):
        with pytest.raises(ValueError, match="seats of a room"):
            room_sizes(num, seats)


def test_an_event_that_a_seat_had_and_its_bot_never_heard_is_lost():
    def bot(room, seat, heard):
        return SimpleNamespace(client=SimpleNamespace(room=room, event=heard, welcome=SimpleNamespace(seat=seat)))

    rooms = [{"name": "hill", "last_events": [5, 9]}, {"name": "lake", "last_events": [2]}]
    assert lost_events([bot("hill", 0, 5), bot("hill", 1, 12), bot("lake", 0, 3)], rooms) == 0
    assert lost_events([bot("hill", 0, 3), bot("hill", 1, 8), bot("gone", 0, 0)], rooms) == 3
