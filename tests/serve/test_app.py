"""The server over real sockets and requests."""

import asyncio
import base64
import time
from collections import deque
from contextlib import closing
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import simplejpeg
from servers import PlayerThread, serve_config, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from gamegen_x.config import build
from gamegen_x.games.snowglobe_conditions import FACTS
from gamegen_x.schema.control_signal import ControlSignal
from gamegen_x.serve.frame_codec import split_pictures
from gamegen_x.serve.host import LAG_EVERY_S, Host
from gamegen_x.serve.protocol import PROTOCOL, Hello, Role, Welcome, decode_server, encode

W = '{"type":"control","timestamp":1,"keyboard":{"keys":["w"],"state":true}}'


@pytest.fixture(scope="module")
def web(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.post("/rooms", json={"name": "home"}).raise_for_status()
        yield client


def test_a_server_says_how_it_is(web):
    assert web.get("/healthz").json() == {"ok": True}
    assert web.get("/readyz").json() == {"ready": True, "stage": "ready", "percent": 100}
    status = web.get("/status").json()
    assert status["worlds"] == ["truth"]
    assert set(status["lag_ms"]) == {"p50", "p99"}
    assert "home" in [room["name"] for room in status["rooms"]]
    assert web.get("/openapi.json").json()["info"]["title"] == "GameGen-X"
    assert web.get("/docs").status_code == 200


def test_a_loop_that_is_held_up_is_felt():
    async def held_up():
        host = SimpleNamespace(lags=deque())
        feeling = asyncio.create_task(Host._feel_lag(host))
        await asyncio.sleep(0)
        time.sleep(LAG_EVERY_S + 0.1)  # something that does not let others in
        await asyncio.sleep(0.01)
        feeling.cancel()
        return list(host.lags)

    assert asyncio.run(held_up())[0] >= 100


def test_the_page_is_served_whole_and_may_load_nothing_from_elsewhere(web):
    page = web.get("/")
    assert "GameGen" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert web.get("/main.js").headers["content-type"].startswith(("text/javascript", "application/javascript"))
    assert web.get("/../serve.py").status_code == 404
    facts = web.get("/page.json").json()
    assert facts["tiers"][0] == {"name": "crisp", "codec": "jpeg"}
    assert "Let it snow." in facts["sentences"]


def test_a_player_sees_their_own_view_and_what_their_keys_do(server):
    with PlayerThread(server, held=1) as player:
        wait_until(lambda: player.frames[-1].input_tick >= player.frames[-1].tick - 8 > 8, "keys are never reflected")
        picture = split_pictures(player.frames[-1].payload)[0]
        assert simplejpeg.decode_jpeg(picture).shape == (64, 64, 3)
        assert player.client.num_desyncs == 0
        assert player.client.newest is not None
    room = server.rooms["home"].room
    wait_until(lambda: not room.seats[player.client.welcome.seat].is_here, "the seat was not given back")


def test_the_first_room_begins_on_a_clear_day_with_both_players_in_each_others_sight():
    cfg = serve_config()
    with closing(build(cfg.game)) as game:
        game.reset(seed=cfg.seed)
        facts = game.facts_now()
    assert facts["visible"].all()
    apart = np.linalg.norm(facts["screen_xy"][0, 0] - facts["screen_xy"][0, 1])
    assert apart > 9  # pixels: two discs, not one
    assert {name: FACTS[name][int(facts[name])] for name in FACTS} == {
        "weather": "clear", "time_of_day": "day", "season": "summer",
    }  # fmt: skip


def test_a_spectator_sees_what_a_player_sees(server):
    with PlayerThread(server), connect(server.ws, subprotocols=[PROTOCOL]) as socket:
        assert socket.subprotocol == PROTOCOL
        socket.send(encode(Hello(PROTOCOL, "home", Role.SPECTATOR)))
        kinds = {type(decode_server(socket.recv(timeout=30))).__name__ for _ in range(8)}
    assert {"Welcome", "Keyframe", "Frame"} <= kinds


def test_rooms_are_opened_once_with_what_was_asked(web):
    wish = {"name": "hill", "num_players": 3, "camera": "third_person", "seed": 5}
    assert web.post("/rooms", json=wish).json()["seats"] == 3
    assert web.post("/rooms", json={"name": "hill", "num_players": 8}).json()["seats"] == 3
    assert len(web.post("/rooms", json={}).json()["name"]) == 8


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"name": "Not A Name"}, "small letters"),
        ({"camera": "sideways"}, "cameras are"),
        ({"world": "model"}, "world=model"),
        ({"num_players": 99}, "less than or equal to 8"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_a_wish_that_cannot_be_met_says_why(web, wish, said):
    answer = web.post("/rooms", json=wish)
    assert answer.status_code == 422
    assert said in answer.text


def test_one_control_signal_gives_one_picture_and_keeps_the_seat(web):
    signal = {"type": "control", "timestamp": 1, "keyboard": {"keys": ["w"], "state": True}}
    first = web.post("/control", json={"room": "home", "signal": signal}).json()
    again = web.post("/control", json={"room": "home", "resume": first["resume"], "signal": signal}).json()
    assert again["seat"] == first["seat"]
    assert again["tick"] > first["tick"]
    assert simplejpeg.decode_jpeg(base64.b64decode(again["frame"])).shape == (64, 64, 3)
    unknown = {"type": "control", "timestamp": 1, "keyboard": {"keys": ["fly"], "state": True}}
    refused = web.post("/control", json={"room": "home", "resume": again["resume"], "signal": unknown})
    assert refused.status_code == 422
    assert "fly" in refused.text
    assert web.post("/control", json={"room": "nowhere", "signal": signal}).status_code == 404
    last = web.post("/control", json={"room": "home", "resume": again["resume"], "signal": signal}).json()
    assert last["seat"] == first["seat"]  # the mistake cost nothing


def test_a_call_that_failed_leaves_no_seat_and_no_key_behind(web, server):
    room = {"name": "once", "num_players": 1}
    web.post("/rooms", json=room)
    seats = server.rooms["once"].room.seats
    signal = {"type": "control", "timestamp": 1, "keyboard": {"keys": ["w"], "state": True}}
    wrong = {**signal, "keyboard": {"keys": ["fly"]}}
    assert web.post("/control", json={"room": "once", "signal": wrong}).status_code == 422
    assert not seats[0].resume  # as nobody had sat there
    answer = web.post("/control", json={"room": "once", "signal": signal}).json()
    assert server.rooms["once"].room.seats[0].inputs.at(answer["tick"] + 9) == 0


@pytest.mark.parametrize("path", ["/rooms", "/control", "/generate"])
def test_half_a_character_is_refused_like_any_other_mistake(web, path):
    for body in ('{"name": "\\ud800"}', '{"prompt": "\\ud800"}', '{"keys": "\\ud800", "room": "\\ud800"}'):
        assert web.post(path, content=body, headers={"Content-Type": "application/json"}).status_code in (404, 422)


def test_a_plain_client_gets_bare_pictures_and_sends_plain_signals(server):
    with connect(f"ws://{server.address}/stream?room=home") as socket:
        socket.send(W)
        pictures = [socket.recv(timeout=30) for _ in range(4)]
        socket.send(ControlSignal(2.0, ("w",), False, "Let it snow.").to_json())
    assert all(simplejpeg.decode_jpeg(picture).shape == (64, 64, 3) for picture in pictures)
    weather = server.rooms["home"].room
    wait_until(lambda: weather.state.conditions.target[0] == 2, "it does not snow")


def test_the_truth_can_be_looked_at(web):
    with web.stream("GET", "/rooms/home/truth/0.mjpeg") as answer:
        assert answer.headers["content-type"].startswith("multipart/x-mixed-replace")
        assert b"\xff\xd8" in next(answer.iter_bytes())
    assert web.get("/rooms/home/truth/99.mjpeg").status_code == 404


def test_a_page_of_somebody_else_may_not_connect(server, web):
    with pytest.raises(InvalidStatus) as refused, connect(server.ws, origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    assert web.post("/rooms", json={}, headers={"origin": "https://evil.example"}).status_code == 403
    with connect(server.ws, origin=server.url) as socket:
        socket.send(encode(Hello(PROTOCOL, "home")))
        assert isinstance(decode_server(socket.recv(timeout=30)), Welcome)


def test_names_that_strangers_choose_make_no_new_series(server, web):
    for number in range(8):
        web.post("/rooms", json={"name": f"attack-{number}"})
        with connect(server.ws) as socket:
            socket.send(encode(Hello(PROTOCOL, f"guess-{number}")))
    text = web.get("/metrics").text
    assert "attack" not in text
    assert "guess" not in text
    assert len(server.rooms) <= 4
    assert sum(not line.startswith("#") for line in text.splitlines()) < 200


def test_a_request_that_is_too_large_is_not_read(web):
    assert web.post("/rooms", content=b"x" * 20_000).status_code == 413
    assert web.post("/generate", json={"prompt": "x" * 3000}).status_code == 422


def test_clips_are_refused_at_the_door_where_they_cannot_be_made(web):
    assert "FLY" in web.post("/generate", json={"keys": "FLY*8"}).text
    assert web.post("/generate", json={"num_frames": 10_000}).status_code == 422
    assert web.get("/generate/none").status_code == 404


def test_what_is_played_is_recorded(server):
    with PlayerThread(server):
        recorder = server.rooms["home"].recorder
        wait_until(
            lambda: recorder.path is not None and recorder.path.is_file() and recorder.path.stat().st_size > 2000
        )
    assert time.time() - recorder.path.stat().st_mtime < 60
