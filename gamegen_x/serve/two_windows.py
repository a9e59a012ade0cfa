"""Two browser windows in one room, measured: `python -m gamegen_x.serve.two_windows`. The last line is JSON.

A server process and a browser are started, keys are pressed in both windows, and every second each page tells what it
showed. In the end the recorded session is judged from its pictures, where `judges` and `recordings` are given.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from gamegen_x.config import build, check, entry_point, to_dict
from gamegen_x.evaluation.checks import check_recordings
from gamegen_x.schema.action_space import NO_KEY
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.trace import Trace
from gamegen_x.serve.__main__ import check_packages, check_weights
from gamegen_x.serve.live_figures import Seen, of_window
from gamegen_x.serve.lobby import MODEL
from gamegen_x.serve.offer import offer_of
from gamegen_x.serve.replay import SHOWN, TRUTH, replay
from gamegen_x.serve.server_process import server_process
from gamegen_x.serve.session_log import SUFFIX
from gamegen_x.serve.windows import Window, act, find_chromium, plan, windows

if TYPE_CHECKING:
    from gamegen_x.evaluation.suite import Suite

ROOM = "two-windows"
NUM_WINDOWS = 2
SAMPLE_S = 1.0
ADDRESS = re.compile(r"http://\S+")
GAP = 8  # pixels between two views of the GIF


@dataclass(frozen=True)
class Server:
    """A server process that is ready."""

    url: str
    ready_s: float

    def room(self) -> dict[str, Any]:
        """How the room does, with the model's step beside it."""
        status = httpx.get(f"{self.url}/status").json()
        found: dict[str, Any] = next(room for room in status["rooms"] if room["name"] == ROOM)
        return found | {"model": status["model"], "lag_ms": status["lag_ms"]}


@contextmanager
def serving(cfg: DictConfig, output: Path) -> Iterator[Server]:
    """A server on a free port. Raises ValueError with its last words."""
    settings = [f"world={cfg.world}", f"weights={cfg.weights}", "port=0", f"recording.folder={output / 'sessions'}"]
    settings += ["recording.restore_s=0", f"generate.folder={output / 'generated'}", *cfg.server]
    log_path = output / "server.log"
    command = [sys.executable, "-m", "gamegen_x.serve", *settings]
    with server_process(command, log_path, lambda: _ready_at(log_path) is not None, cfg.patience_s) as seconds:
        url = _ready_at(log_path)
        assert url is not None
        yield Server(url, round(seconds, 2))


def _ready_at(log_path: Path) -> str | None:
    """The address of a server that is ready; None as long as it is not."""
    said = ADDRESS.search(log_path.read_text())
    try:
        return said[0] if said and httpx.get(f"{said[0]}/readyz").json()["ready"] else None
    except httpx.HTTPError:
        return None


def played(cfg: DictConfig, output: Path, chromium: str) -> dict[str, Any]:
    """Plays and measures; writes pictures and the GIF."""
    with serving(cfg, output) as server, windows(NUM_WINDOWS, chromium, cfg.patience_s) as both:
        print(f"the server is ready after {server.ready_s} s at {server.url}", flush=True)
        wish = {"name": ROOM, "num_players": NUM_WINDOWS, "world": cfg.world, "seed": cfg.seed}
        opened = httpx.post(f"{server.url}/rooms", json=wish, timeout=cfg.patience_s)
        fps = float(opened.raise_for_status().json()["fps"])
        place = f"{server.url}/?room={ROOM}&quality={quote(cfg.quality or '')}"
        first_picture_s = [round(window.enter(place), 2) for window in both]
        shown = {window.quality() for window in both}
        if cfg.quality is not None and shown != {cfg.quality}:
            raise ValueError(
                f"quality={cfg.quality} is none of this server's, or this browser cannot read it: it shows {shown}"
            )
        rng = np.random.default_rng(cfg.seed)
        act(_presses(cfg, both, fps, cfg.warm_up_s, rng))
        before = server.room()
        seen = measured(cfg, both, fps, rng)
        after = server.room()
        film(cfg, both, fps, rng, output)
        speak(cfg, both, fps, rng)
        for number, window in enumerate(both):
            window.page.screenshot(path=output / f"window-{number}.png")
        mistakes = [window.mistakes for window in both]
    ticks = after["tick"] - before["tick"]
    return {
        "server_ready_s": server.ready_s,
        "first_picture_s": first_picture_s,
        "quality": sorted(shown),
        "windows": [of_window(each, cfg.seconds, cfg.stall_s) for each in seen],
        "world_ticks_per_second": round(ticks / ((seen[0].stop - seen[0].start) / 1000), 2),
        "server": _of_server(before, after),
        "mistakes_of_pages": mistakes,
    }


def measured(cfg: DictConfig, both: Sequence[Window], fps: float, rng: np.random.Generator) -> list[Seen]:
    """Presses keys in all windows, and asks each page every second what it saw."""
    samples: list[list[dict[str, Any]]] = [[window.sample()] for window in both]

    def ask() -> None:
        for window, found in zip(both, samples, strict=True):
            found.append(window.sample())

    num_samples = int((cfg.seconds + cfg.settle_s) / SAMPLE_S)
    moments = _presses(cfg, both, fps, cfg.seconds, rng)
    moments += [(number * SAMPLE_S, ask) for number in range(1, num_samples + 1)]
    moments += [(cfg.seconds, partial(window.hold, NO_KEY)) for window in both]
    act(moments)
    return [Seen.of_samples(found) for found in samples]


def film(cfg: DictConfig, both: Sequence[Window], fps: float, rng: np.random.Generator, output: Path) -> None:
    """Plays on while pictures of both canvases are taken: a phase of its own, since taking them costs time."""
    from gamegen_x.sampling.video_file import write_gif

    frames: list[npt.NDArray[np.uint8]] = []
    gap = np.full((cfg.film_side, GAP, 3), 255, np.uint8)

    def take() -> None:
        one, other = (window.picture(cfg.film_side) for window in both)
        frames.append(np.concatenate([one, gap, other], axis=1))

    num_frames = round(cfg.film_s * cfg.film_fps)
    act([*_presses(cfg, both, fps, cfg.film_s, rng), *((i / cfg.film_fps, take) for i in range(num_frames))])
    write_gif(output / "two-windows.gif", np.stack(frames), cfg.film_fps)
    for window in both:
        window.hold(NO_KEY)


def speak(cfg: DictConfig, both: Sequence[Window], fps: float, rng: np.random.Generator) -> None:
    """One window after another tells the world to change, while keys are pressed in all of them."""
    moments = _presses(cfg, both, fps, len(cfg.sentences) * cfg.sentence_s, rng)
    for number, sentence in enumerate(cfg.sentences):
        moments.append((number * cfg.sentence_s, partial(both[number % len(both)].say, sentence)))
    act(moments)
    for window in both:
        window.hold(NO_KEY)


def _presses(
    cfg: DictConfig, both: Sequence[Window], fps: float, seconds: float, rng: np.random.Generator
) -> list[tuple[float, Callable[[], None]]]:
    """When each window is to hold which command."""
    return [
        (at, partial(window.hold, command))
        for window in both
        for at, command in plan(list(cfg.commands), list(cfg.hold_frames), fps, seconds, rng)
    ]


def _of_server(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The server's side of the same: from a key's arrival to the state with it, and the round trip; blocks; steps."""
    return {
        "key_to_state_ms_p50": round(after["sync"]["action_latency_ms_p50"], 2),
        "key_to_state_ms_p95": round(after["sync"]["action_latency_ms_p95"], 2),
        "draw_ms": after["draw_ms"],
        "block_ms": after["block_ms"],
        "late_ms": after["late_ms"],
        "lag_ms": after["lag_ms"],
        "model_step_ms": after["model"] and after["model"]["step_ms"],
        "skipped_ticks": after["skipped_ticks"] - before["skipped_ticks"],
        "quality": after["quality"],
    }


def examiner(cfg: DictConfig) -> tuple[Suite, dict[str, Any]]:
    """The suite whose judges read the session, and how it reads recordings."""
    from hydra import compose

    composed = compose(
        "evaluate", [*cfg.judged_as, f"recordings={cfg.recordings}", f"suite.judges.folder={cfg.judges}"]
    )
    check(composed, root="evaluate")
    return build(composed.suite), to_dict(composed.reading)


def judged(cfg: DictConfig, suite: Suite, reading: dict[str, Any], log: Path) -> dict[str, Any]:
    """What the pictures of a session show: SR-C, SR-E, and whether players see each other.

    A suite without meetings is of worlds behind which there is no game: SR-C alone.
    """
    import torch

    from gamegen_x.evaluation.commands import Commands
    from gamegen_x.evaluation.live_session import LiveSession, control, covisibility, words
    from gamegen_x.evaluation.recordings import read_recordings

    traces = Path(cfg.output) / "traces"
    recordings = read_recordings(cfg.recordings, **reading)
    commands = Commands(suite.command_names, recordings.action_space)
    judges = suite.judges.judges(recordings, commands, torch.device("cpu"))
    if suite.meetings is None:
        return control(LiveSession.of_trace(replayed(log, traces, SHOWN)[0]), judges, commands)
    true, first_tick = replayed(log, traces, TRUTH)
    shown, first_shown = replayed(log, traces, SHOWN) if cfg.world == MODEL else (true, first_tick)
    session = LiveSession.of_traces(shown, true, first_shown - first_tick, suite.meetings.dynamics)
    seeing, hearing = (cast(Any, suite.questions[name]) for name in ("covisibility", "words_in_all_views"))
    quiet = session.before_words()
    return {
        **control(quiet, judges, commands),
        **covisibility(quiet, seeing, suite.meetings.signs),
        **words(session, judges, hearing),
    }


def replayed(log: Path, traces: Path, pictures: str) -> tuple[Trace, int]:
    """A session as a trace, and the tick with which it begins."""
    from hydra import compose

    from gamegen_x.games.record import VideoSettings

    folder = traces / pictures
    composed = compose("replay", [f"output={folder}"])
    check(composed, root="replay")
    told = replay(log, folder, pictures, VideoSettings(**to_dict(composed.video)))
    return Trace.load(told["output"]), int(told["first_tick"])


@entry_point("two_windows")
def main(cfg: DictConfig) -> None:
    times = (cfg.warm_up_s, cfg.settle_s, cfg.sentence_s)
    if cfg.seconds < 1 or min(cfg.film_s * cfg.film_fps, cfg.film_side) < 1 or min(times) < 0:
        raise ValueError("seconds is at least 1, the film at least one picture of one pixel, no time below 0")
    if (cfg.judges is None) != (cfg.recordings is None):
        raise ValueError("judges and recordings belong together: give both, or neither")
    if cfg.recordings is not None:
        check_recordings(cfg.recordings)
    check_packages()
    if cfg.world == MODEL:
        check_weights(cfg.weights)
    check_sentences(cfg)
    chromium = find_chromium(cfg.chromium)
    output = Path(cfg.output)
    output.mkdir(parents=True, exist_ok=True)
    suite, reading = (None, {}) if cfg.judges is None else examiner(cfg)
    if suite is None:
        print("keys are not read from pixels: that needs judges=<folder> and recordings=<folder>", flush=True)
    sessions = output / "sessions"
    earlier = set(sessions.glob(f"*{SUFFIX}"))
    figures = {"world": cfg.world, "weights": str(cfg.weights) if cfg.world == MODEL else None, "seconds": cfg.seconds}
    figures |= played(cfg, output, chromium)
    write(figures, output)  # whatever becomes of the judging
    log = new_session(sessions, earlier)
    if suite is not None:
        figures |= judged(cfg, suite, reading, log)
    write(figures, output)
    print(json.dumps(figures), flush=True)


def check_sentences(cfg: DictConfig) -> None:
    """Raises ValueError where the server's worlds do not listen to what the windows are to say."""
    from hydra import compose

    served = compose("serve", [f"world={cfg.world}", f"weights={cfg.weights}", *cfg.server])
    if cfg.sentences and not offer_of(served).sentences:
        raise ValueError(f"the worlds of {cfg.weights} do not listen to words; set sentences=[]")


def new_session(folder: Path, earlier: Collection[Path]) -> Path:
    """The log that was not there earlier."""
    found = sorted(set(folder.glob(f"{ROOM}-*{SUFFIX}")).difference(earlier))
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} new sessions of {ROOM} in {folder}, expected one: "
            f"{', '.join(path.name for path in found) or 'the server.log beside it may say why'}"
        )
    return found[0]


def write(figures: dict[str, Any], output: Path) -> None:
    with atomic_file(output / "figures.json") as path:
        path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
