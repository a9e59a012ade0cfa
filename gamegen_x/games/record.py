"""Plays a game with bots and writes what happened as traces: `python -m gamegen_x.games.record game=snowglobe ...`."""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gamegen_x.config import build, entry_point, to_dict
from gamegen_x.games.bots import Mix
from gamegen_x.games.door import Frame, Game
from gamegen_x.schema.files import atomic_file, sync_folder
from gamegen_x.schema.trace import TextEvent, Trace
from gamegen_x.world.facts import Facts, stacked

SETTINGS_FILE = "recording.json"
SETTINGS = ("game", "bots", "num_frames", "split", "seed", "text_events", "video")  # what decides what a trace holds


@dataclass(frozen=True)
class Episode:
    """One trace to be made: everything a worker needs, as plain values."""

    folder: Path
    seed: int
    player_key: bytes
    settings: Mapping[str, Any]  # those of SETTINGS, plain


@dataclass(frozen=True)
class VideoSettings:
    codec: str
    pixel_format: str
    crf: int
    preset: str
    keyframe_every: int


class SeatVideo:
    """Writes one player's frames to an H.264 file as they come."""

    def __init__(self, path: Path, height: int, width: int, fps: float, settings: VideoSettings) -> None:
        self.path = path
        self.container = av.open(str(path), "w", format="mp4")
        self.stream = self.container.add_stream(
            settings.codec,
            rate=Fraction(fps).limit_denominator(1001),
            options={
                "crf": str(settings.crf),
                "preset": settings.preset,
                # without these its bytes differ from run to run: threads, and its look-ahead over B-frames
                "x264-params": f"keyint={settings.keyframe_every}:threads=1:bframes=0:mbtree=0",
            },
        )
        self.stream.height, self.stream.width = height, width
        self.stream.pix_fmt = settings.pixel_format

    def write(self, frame: Frame) -> None:
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def finish(self) -> None:
        """Flushes the file to the disk; before that it is not a video."""
        self.container.mux(self.stream.encode())
        self.container.close()
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        self.container.close()


def record_episode(game: Game, bots: Mix, episode: Episode) -> Trace:
    """Plays one episode and writes it to `episode.folder`, which appears only when it is whole."""
    settings = episode.settings
    num_frames, video = int(settings["num_frames"]), VideoSettings(**settings["video"])
    partial = episode.folder.with_name(f".{episode.folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        rngs = [np.random.default_rng([episode.seed, seat]) for seat in range(game.num_players + 1)]
        players = bots.players(game.keys, rngs[:-1])
        names = [name for name, _ in players]
        actions = np.zeros((num_frames, game.num_players, game.num_keys), np.uint8)
        states: list[Facts] = []
        said: list[TextEvent] = []
        moments = set(_text_moments(rngs[-1], game.fps, num_frames, settings["text_events"]))
        game.reset(seed=episode.seed, options={"split": settings["split"]})
        with ExitStack() as stack:
            videos = []
            for seat in range(game.num_players):
                path = partial / f"seat-{seat}.mp4"
                videos.append(SeatVideo(path, game.height, game.width, game.fps, video))
                stack.callback(videos[-1].close)
            facts = game.facts_now()
            for frame in range(num_frames):
                if frame in moments and (sentences := game.useful_instructions()):
                    seat, text = int(rngs[-1].integers(game.num_players)), str(rngs[-1].choice(sentences))
                    game.instruct(text)
                    said.append(TextEvent(frame, seat, text))
                actions[frame] = [bot.press(facts) for _, bot in players]
                views = game.step(dict(zip(game.possible_agents, actions[frame], strict=True)))[0]
                facts = game.facts_now()
                states.append(facts)
                for seat, agent in enumerate(game.possible_agents):
                    videos[seat].write(views[agent])
            for finished in videos:
                finished.finish()
        trace = Trace(
            folder=partial,
            game=str(game.metadata["name"]),
            seed=episode.seed,
            fps=game.fps,
            action_space=game.keys,
            players=tuple(_player_id(episode.player_key, name, seat) for seat, name in enumerate(names)),
            actions=actions,
            state=stacked(states),
            text_events=tuple(said),
            camera=game.camera,
            licence=game.licence,
            attribution=game.attribution,
            facts=game.facts,
            outcome={**game.outcome(), "habits": names},
        )
        trace.save()
        os.replace(partial, episode.folder)
        sync_folder(episode.folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return replace(trace, folder=episode.folder)


def _text_moments(rng: np.random.Generator, fps: float, num_frames: int, pace: Mapping[str, float]) -> Iterator[int]:
    """The frames at which somebody says something: one wait after the other, each rounded to the pace's grid."""
    seconds, grid = 0.0, int(pace["align_frames"])
    while True:
        seconds += rng.uniform(pace["min_seconds"], pace["max_seconds"])
        frame = round(seconds * fps / grid) * grid
        if frame >= num_frames:
            return
        yield frame


def _player_id(key: bytes, name: str, seat: int) -> str:
    return hmac.new(key, f"bot/{name}/{seat}".encode(), hashlib.sha256).hexdigest()[:16]


def make_episode(episode: Episode) -> int:
    """Builds the game, records one episode with it, and returns its frames. Runs in a process of its own."""
    game: Game = build(OmegaConf.create(dict(episode.settings["game"])))
    try:
        bots: Mix = build(OmegaConf.create(dict(episode.settings["bots"])))
        return record_episode(game, bots, episode).num_frames
    finally:
        game.close()


def record(cfg: DictConfig) -> dict[str, Any]:
    """Makes the episodes that are not there yet, and returns the figures of what this call made."""
    start = time.monotonic()
    output, plain = Path(cfg.output), to_dict(cfg)
    settings = {name: plain[name] for name in SETTINGS}
    game: Game = build(cfg.game)  # what is wrong with the settings shows here, before anything is written
    build(cfg.bots)
    name, num_players = str(game.metadata["name"]), game.num_players
    game.close()
    if game.height % 2 or game.width % 2:
        raise ValueError(f"H.264 takes even sizes, got height={game.height} and width={game.width}")
    _keep_settings(output, settings)
    player_key = cfg.player_key.encode() if cfg.player_key else secrets.token_bytes(32)
    episodes = []
    for number in range(cfg.num_episodes):
        folder = output / f"{name}-{number:06d}"
        if not folder.exists():
            episodes.append(Episode(folder, _episode_seed(cfg.seed, cfg.split, number), player_key, settings))
    num_frames = 0
    for frames in _with_progress(_made(episodes, cfg.workers), len(episodes), cfg.num_episodes - len(episodes)):
        num_frames += frames
    seconds = time.monotonic() - start
    return {
        "episodes": len(episodes),
        "episodes_found": cfg.num_episodes - len(episodes),
        "frames": num_frames,
        "views": num_frames * num_players,
        "frames_per_second": round(num_frames / seconds, 1),
        "views_per_second": round(num_frames * num_players / seconds, 1),
        "seconds_total": round(seconds, 2),
    }


def _episode_seed(seed: int, split: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{split}/{number}".encode()).digest()[:4], "big")


def _keep_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings beside the traces, or checks that the traces found there were made with the same."""
    path = output / SETTINGS_FILE
    if not path.is_file() or not any(output.glob("*/trace.json")):
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    different = [name for name in settings if found.get(name) != settings[name]]
    if different:
        raise ValueError(
            f"{output} holds traces made with other settings of {different} (see {path}); "
            "name another output, or remove that folder"
        )


def _made(episodes: list[Episode], workers: int) -> Iterator[int]:
    """The frames of each episode as it is finished, in any order."""
    if workers == 1:
        yield from map(make_episode, episodes)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes inherit it: they share the cores among themselves
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _become_worker) as pool:
        jobs = [pool.submit(make_episode, episode) for episode in episodes]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()


def _become_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it even where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _with_progress(frames_made: Iterator[int], total: int, num_found: int) -> Iterator[int]:
    """Passes on what is made, and shows on stderr how far it is and how long it will still take."""
    console = Console(stderr=True)
    if num_found:
        console.print(f"{num_found} traces are there already, {total} to record")
    if console.is_terminal:
        columns = (
            TextColumn("recording"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("recording", total=total)
            for frames in frames_made:
                progress.advance(task)
                yield frames
        return
    start = time.monotonic()
    for done, frames in enumerate(frames_made, 1):
        left = (time.monotonic() - start) / done * (total - done)
        print(f"recorded {done}/{total} traces, {left:.0f} s left", file=sys.stderr, flush=True)
        yield frames


@entry_point("record", {"output": str})
def main(cfg: DictConfig) -> None:
    if min(cfg.num_episodes, cfg.num_frames, cfg.workers) < 1:
        raise ValueError(
            "num_episodes, num_frames and workers are at least 1, "
            f"got {cfg.num_episodes}, {cfg.num_frames} and {cfg.workers}"
        )
    try:
        figures = record(cfg)
    except OSError as mistake:
        if mistake.errno != errno.ENOSPC:
            raise
        raise ValueError(f"no space left for {cfg.output}; finished traces are kept, run again to go on") from mistake
    with atomic_file(Path(cfg.output) / "figures.json") as path:
        path.write_text(json.dumps(figures) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
