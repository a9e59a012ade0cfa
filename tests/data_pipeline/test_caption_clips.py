import base64
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from made_up import FACTS, make_clip, make_source, panning

from data_pipeline.endpoint_captioner import EndpointCaptioner, grid
from data_pipeline.stages.caption_clips import CaptionClips
from data_pipeline.truth_captioner import TruthCaptioner
from gamegen_x.schema.caption import MAX_SUMMARY_WORDS, Caption
from gamegen_x.schema.trace import TextEvent

TRUTH = TruthCaptioner(player_colours={"snowglobe": ["red", "yellow"]})


def poses(num_frames: int, num_players: int, step: float) -> np.ndarray:
    """Players that walk along a great circle by so many radians a frame: "t p 3 3"."""
    angle = step * np.arange(num_frames)
    places = np.stack([np.sin(angle), np.zeros(num_frames), np.cos(angle)], -1)
    frames = np.tile(np.eye(3, dtype=np.float32), (num_frames, num_players, 1, 1))
    frames[..., 2] = places[:, None]
    return frames


def told(num_players=1, start=0, step=0.02, facts=FACTS, **classes):
    """A clip of 8 frames of a source of 16 in which the classes hold, or change at frame 12."""
    state = {"pose": poses(16, num_players, step)}
    for name, value in classes.items():
        before, after = value if isinstance(value, tuple) else (value, value)
        state[name] = np.array([facts[name].index(before)] * 12 + [facts[name].index(after)] * 4, np.uint8)
    source = make_source(
        16, num_players, label="snowglobe", state=state, facts={n: facts[n] for n in classes}, camera="overhead"
    )
    return make_clip(*[panning(8)] * num_players, source=source, start=start, camera="overhead: pan left")


@pytest.mark.parametrize(
    ("clip", "summary"),
    [
        (
            told(weather="fog", time_of_day="night", season="winter"),
            "A red player walks through a winter land on a foggy night.",
        ),
        (
            told(2, weather="snow", time_of_day="day", season="summer"),
            "Two players walk through a summer land on a snowy day.",
        ),
        (told(weather="clear", time_of_day="dusk", step=0.0), "A red player stands on a clear dusk."),
        (told(2), "Two players walk."),
    ],
)
def test_a_summary_is_regular_and_says_what_the_game_tells(clip, summary):
    assert TRUTH.caption(clip).summary == summary


def test_the_terrain_under_the_first_player_is_named_where_the_game_tells_it():
    facts = {**FACTS, "terrain": ("water", "meadow")}
    clip = told(2, facts=facts, season="winter", weather="snow", time_of_day="night", terrain="meadow")
    clip.source.state["terrain"] = np.tile(np.array([1, 0], np.uint8), (16, 1))
    caption = TRUTH.caption(clip)
    assert caption.summary == "Two players walk through a winter meadow on a snowy night."
    assert "on meadow" in caption.main_character
    assert "on water" in caption.frame_desc


def test_every_summary_is_short_enough():
    for num_players in range(1, 9):
        for weather in FACTS["weather"]:
            for season in FACTS["season"]:
                clip = told(num_players, weather=weather, time_of_day="night", season=season)
                assert len(TRUTH.caption(clip).summary.split()) <= MAX_SUMMARY_WORDS


def test_the_summary_of_a_video_with_a_long_name_is_cut():
    label = " ".join(f"part{number}" for number in range(30))
    summary = TRUTH.caption(make_clip(panning(4), source=make_source(4, label=label))).summary
    assert summary.startswith("A player plays part0 ")
    assert summary.endswith(" part16.")
    assert len(summary.split()) == MAX_SUMMARY_WORDS


@pytest.mark.parametrize("start", [8, 12])
def test_a_change_within_the_clip_is_told_as_a_change_and_not_given_away_in_the_summary(start):
    clip = told(start=start, weather=("clear", "snow"), time_of_day="day", season="summer")
    if start == 12:  # the change was asked for at the clip's own first frame
        assert clip.truth["weather"][0] == FACTS["weather"].index("snow")
    caption = TRUTH.caption(clip)
    assert "clear" in caption.summary
    assert "snow" not in caption.summary
    assert caption.environmental_changes == "Weather turns from clear to snow."
    assert TRUTH.caption(told(start=0, weather="clear")).environmental_changes == "Nothing changes."


def test_all_ten_fields_are_filled_from_the_truth():
    clip = told(2, weather="rain", time_of_day="dusk", season="summer").scored("motion", 0.5)
    assert all(
        text and text[0].isupper() and text.endswith(".")
        for name, text in TRUTH.caption(clip).to_dict().items()
        if name != "schema_version"
    )


def test_a_game_that_tells_nothing_still_gets_a_summary():
    assert TRUTH.caption(make_clip(panning(4), source=make_source(4, label="doom"))).summary == "A player plays doom."


class Endpoint(ThreadingHTTPServer):
    """Speaks /v1/chat/completions; answers from a script of (status, content or headers)."""

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.headers_seen = list(script), [], []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append((self.path, request))
        self.server.headers_seen.append(dict(self.headers))
        status, content = self.server.script.pop(0)
        if status == 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = (
            json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})
            if status == 200
            else content
        )
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    servers = []

    def start(*script):
        servers.append(Endpoint(script))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def captioner(url: str, **changes) -> EndpointCaptioner:
    settings = {
        "base_url": url,
        "model": "eyes",
        "api_key_variable": "MADE_UP_KEY",
        "prompt": "Say it as JSON.",
        "max_tokens": 100,
        "frame_width": 32,
        "timeout_s": 5.0,
        "max_attempts": 3,
        "backoff_s": 0.001,
        "max_backoff_s": 0.01,
    }
    return EndpointCaptioner(**{**settings, **changes})


ANSWER = json.dumps({"summary": "A knight rides.", "atmosphere": "Calm.", "unasked": "x", "misc": 3})


def test_an_endpoint_gets_a_grid_of_eight_frames_a_view_and_its_answer_becomes_the_caption(endpoint, monkeypatch):
    monkeypatch.setenv("MADE_UP_KEY", "secret")
    server = endpoint((200, ANSWER))
    caption = captioner(server.url).caption(make_clip(panning(16), panning(16, seed=1)))
    assert caption == Caption(summary="A knight rides.", atmosphere="Calm.")
    ((path, request),) = server.requests
    assert path == "/v1/chat/completions"
    assert server.headers_seen[0]["Authorization"] == "Bearer secret"
    assert (request["model"], request["response_format"]) == ("eyes", {"type": "json_object"})
    text, *pictures = request["messages"][0]["content"]
    assert text == {"type": "text", "text": "Say it as JSON."}
    assert len(pictures) == 2
    prefix, data = pictures[0]["image_url"]["url"].split(",")
    assert prefix == "data:image/jpeg;base64"
    assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR).shape == (64, 128, 3)


def test_the_grid_reads_like_a_page():
    frames = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert grid(frames, 8)[::2, ::2, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert grid(frames[:3], 8).shape == (4, 8, 3)


@pytest.mark.parametrize(
    "trouble", [(500, "boom"), (429, "slow down"), (503, ""), (0, "")], ids=["500", "429", "503", "hang up"]
)
def test_what_may_pass_is_tried_again(endpoint, trouble):
    server = endpoint(trouble, trouble, (200, ANSWER))
    assert captioner(server.url).caption(make_clip(panning(8))).summary == "A knight rides."
    assert len(server.requests) == 3


def test_an_answer_that_says_too_much_is_cut_and_not_asked_again(endpoint):
    server = endpoint((200, json.dumps({"summary": "word " * 21, "misc": "word " * 21})))
    caption = captioner(server.url).caption(make_clip(panning(8)))
    assert (len(caption.summary.split()), len(caption.misc.split())) == (MAX_SUMMARY_WORDS, 21)


@pytest.mark.parametrize("content", [None, "no JSON", "[1]", '{"atmosphere": "x"}', '{"summary": " "}'])
def test_an_unreadable_answer_is_asked_again_and_then_rejects_that_clip_only(endpoint, content):
    server = endpoint((200, content), (200, f"```json\n{ANSWER}\n```"), *[(200, content)] * 3)
    stage = CaptionClips(captioner(server.url))
    (good,) = stage.process(make_clip(panning(8)))
    (bad,) = stage.process(make_clip(panning(8)))
    assert good.caption.summary == "A knight rides."
    assert (bad.reason, bad.caption) == ("unreadable caption", None)


@pytest.mark.parametrize(
    "refusal", [(400, '{"error": {"code": "content_filter"}}'), (413, "too large"), (422, "context")], ids=str
)
def test_a_refusal_of_one_clip_rejects_that_clip_only(endpoint, refusal):
    server = endpoint(refusal, (200, ANSWER))
    stage = CaptionClips(captioner(server.url))
    (bad,) = stage.process(make_clip(panning(8)))
    (good,) = stage.process(make_clip(panning(8)))
    assert (bad.reason, bad.caption) == ("refused caption", None)
    assert good.caption.summary == "A knight rides."


def test_a_refusal_ends_the_run_with_what_to_check(endpoint):
    server = endpoint((401, "who are you"))
    with pytest.raises(ValueError, match=r"status 401.*who are you.*MADE_UP_KEY"):
        captioner(server.url).caption(make_clip(panning(8)))
    assert len(server.requests) == 1


def test_an_endpoint_that_is_not_there_ends_the_run_and_says_that_nothing_is_lost():
    with pytest.raises(ValueError, match=r"failed 3 times.*ConnectError.*run the same command again"):
        captioner("http://127.0.0.1:9/v1").caption(make_clip(panning(8)))


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="base_url is an address"):
        captioner("localhost:8000")


def test_text_events_do_not_disturb_a_source_without_facts():
    source = make_source(8, text_events=(TextEvent(2, 0, "Let it snow."),))
    assert TRUTH.caption(make_clip(panning(8), source=source)).environmental_changes == "Nothing changes."
