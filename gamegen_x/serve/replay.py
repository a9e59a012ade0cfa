"""Plays sessions again: `python -m gamegen_x.serve.replay log=outputs/sessions output=data/mine/traces/train`.

Every state is compared with the hash that was logged; what comes out is a Trace, videos included, as
`data_pipeline pipeline=multiplayer_traces` takes it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from omegaconf import DictConfig

from gamegen_x.config import entry_point, to_dict
from gamegen_x.games.door import Frame as Picture
from gamegen_x.games.record import SeatVideo, VideoSettings
from gamegen_x.schema.files import sync_folder
from gamegen_x.schema.trace import TextEvent, Trace
from gamegen_x.serve.offer import build_world, is_learned
from gamegen_x.serve.played_world import ServedWorld, State
from gamegen_x.serve.restore import DiffersError, PlayedTick, played_again
from gamegen_x.serve.session_log import SUFFIX, Header, Session, SessionEnd, read_header, read_session
from gamegen_x.world.facts import Facts, stacked
from gamegen_x.world.snapshot import read_keyframe

log = logging.getLogger(__name__)
TRUTH, SHOWN = "truth", "shown"
REPLAYED, FOUND, LEFT_OUT, DIFFERS = "replayed", "found", "left_out", "differs"  # what becomes of a log
_OF_PLAYERS = ("pose", "airborne", "carrying", "terrain", "position", "angle")  # facts with a row a player
_OF_PAIRS = ("visible", "screen_xy", "near")


def world_of(session: Session | SessionEnd, weights: str | None = None) -> ServedWorld:
    """The world of a log, as the server built it. `weights`: where those are now that keep its truth, if elsewhere."""
    return build_world(session.header.game, session.header.seed, weights)


def replayed(session: Session, world: ServedWorld) -> Iterator[PlayedTick]:
    """The session again, from its keys and sentences. Raises ValueError at the first state that is another one."""
    state: State = read_keyframe(session.header.start, world.start())
    return played_again(world, state, session.ticks)


def replay(path: Path, output: Path, pictures: str, video: VideoSettings, weights: str | None = None) -> dict[str, Any]:
    """Replays one log into `output/<its name>`, which appears only when it is whole; tells what it found.

    `weights`: see `world_of`.
    """
    started = time.monotonic()
    session = read_session(path)
    check_drawn(path, session.header, pictures)
    world = world_of(session, weights)
    seats = sorted({record.seat for record in session.seats if record.player})
    ticks = _span(session, seats, pictures)
    if not seats or not ticks:
        raise ValueError(f"{path} holds nothing that anybody saw; pictures=truth draws what was true")
    check_beside(output, world)
    folder = output / path.stem
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; name another output, or remove it")
    unfinished = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        trace = _written(session, world, unfinished, seats, ticks, pictures, video)
        os.replace(unfinished, folder)
        sync_folder(output)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return {
        "session": path.name,
        "output": str(folder),
        "ticks": len(session.ticks),
        "first_tick": ticks.start,
        "frames": trace.num_frames,
        "players": trace.num_players,
        "states_equal": True,
        "torn_bytes": session.torn_bytes,
        "seconds_total": round(time.monotonic() - started, 2),
    }


def check_beside(output: Path, world: ServedWorld) -> None:
    """Raises ValueError where a trace of another game stands in the folder."""
    for header in sorted(output.glob("*/trace.json"))[:1]:
        theirs, ours = tuple(Trace.load_header(header.parent)["action_space"]["keys"]), world.keys.keys
        if theirs != ours:
            raise ValueError(
                f"{output} holds traces with the keys {' '.join(theirs)}, these have {' '.join(ours)}; "
                "name another output"
            )


def check_drawn(path: Path, header: Header, pictures: str) -> None:
    """Raises ValueError where pictures are wanted that nobody can draw."""
    if pictures == TRUTH and is_learned(header.game):
        raise ValueError(
            f"nobody can draw what was true in {path}: its truth is a network's, of {header.weights}; "
            "pictures=shown takes what its players saw"
        )


def _written(
    session: Session,
    world: ServedWorld,
    folder: Path,
    seats: Sequence[int],
    ticks: range,
    pictures: str,
    video: VideoSettings,
) -> Trace:
    rows: list[npt.NDArray[np.uint8]] = []
    facts: list[Facts] = []
    with ExitStack() as stack:
        videos = []
        for place in range(len(seats)):
            videos.append(SeatVideo(folder / f"seat-{place}.mp4", world.height, world.width, world.fps, video))
            stack.callback(videos[-1].close)
        last: dict[int, Picture] = {}
        for played in replayed(session, world):
            if played.tick not in ticks:
                continue
            state = played.state
            facts.append({name: _of_seats(name, array, seats) for name, array in world.facts_of(state).items()})
            rows.append(played.keys[seats])
            views = world.draw([state], played.keys[None])[0] if pictures == TRUTH else None
            for place, seat in enumerate(seats):
                last[seat] = views[seat] if views is not None else _shown(session, played.tick, seat, last)
                videos[place].write(last[seat])
        for finished in videos:
            finished.finish()
    described = world.described(state)
    outcome = {**described["outcome"], "pictures": session.header.weights if pictures == SHOWN else TRUTH}
    trace = Trace(
        folder=folder,
        seed=session.header.seed,
        fps=session.header.fps,
        action_space=world.keys,
        players=tuple(_player(session, seat) for seat in seats),
        actions=np.stack(rows),
        state=stacked(facts),
        text_events=tuple(
            TextEvent(record.tick - ticks.start, seats.index(seat), text)
            for record in session.ticks
            for seat, text in record.texts
            if record.tick in ticks and seat in seats
        ),
        **{**described, "outcome": outcome},
    )
    trace.save()
    return trace


def _span(session: Session, seats: Sequence[int], pictures: str) -> range:
    """The ticks of the trace: all, or those of which everybody has seen a picture."""
    first = session.header.first_tick
    everything = range(first, first + len(session.ticks))
    if pictures == TRUTH:
        return everything
    seen = [[tick for tick, each in session.pictures if each == seat] for seat in seats]
    if not seen or not all(seen):
        return range(0)
    return range(max(min(ticks) for ticks in seen), min(max(max(ticks) for ticks in seen) + 1, everything.stop))


def _shown(session: Session, tick: int, seat: int, last: dict[int, Picture]) -> Picture:
    """What a player saw at a tick: where nothing new was drawn, what they saw before."""
    jpeg = session.pictures.get((tick, seat))
    return last[seat] if jpeg is None else simplejpeg.decode_jpeg(jpeg, colorspace="RGB")


def _player(session: Session, seat: int) -> str:
    """Who played a seat for longest."""
    end = session.header.first_tick + len(session.ticks)
    records = [record for record in session.seats if record.seat == seat]  # where nobody sits, the player is empty
    stops = [record.tick for record in records[1:]] + [end]
    stays: dict[str, int] = {}
    for record, stop in zip(records, stops, strict=True):
        if record.player:
            stays[record.player] = stays.get(record.player, 0) + stop - record.tick
    return max(stays, key=lambda player: stays[player])


def _of_seats(name: str, array: npt.NDArray[Any], seats: Sequence[int]) -> npt.NDArray[Any]:
    if name in _OF_PAIRS and array.shape[0] == array.shape[1]:
        return array[np.ix_(seats, seats)]
    return array[list(seats)] if name in (*_OF_PLAYERS, *_OF_PAIRS) else array  # pairs with what is no seat keep it


@entry_point("replay")
def main(cfg: DictConfig) -> None:
    if cfg.pictures not in (TRUTH, SHOWN):
        raise ValueError(f"pictures is {TRUTH!r} or {SHOWN!r}, got {cfg.pictures!r}")
    output, video = Path(cfg.output), VideoSettings(**to_dict(cfg.video))
    logs = logs_of(Path(cfg.log), cfg.pictures, cfg.only)
    if not Path(cfg.log).is_dir():
        print(json.dumps(replay(logs[0], output, cfg.pictures, video, cfg.weights)))
        return
    told = []
    replay_one = partial(replay, pictures=cfg.pictures, video=video, weights=cfg.weights)
    for each in replay_all(logs, output, cfg.pictures, replay_one):
        told.append(each)
        print(f"{len(told)} of {len(logs)}: {line_of(each)}", file=sys.stderr, flush=True)
    kinds = Counter(each["is"] for each in told)
    print(json.dumps({**{kind: kinds[kind] for kind in (REPLAYED, FOUND, LEFT_OUT, DIFFERS)}, "sessions": told}))
    if kinds[DIFFERS] or kinds[LEFT_OUT] == len(told):
        raise SystemExit(1)


def line_of(told: Mapping[str, Any]) -> str:
    """What became of a log, for people."""
    said = {
        REPLAYED: "replayed: {frames} frames of {players} players in {seconds_total:.1f} s",
        FOUND: "found, not made again",
        LEFT_OUT: "left out: {said}",
        DIFFERS: "differs: {said}",
    }
    return f"{told['session']} {said[told['is']].format(**told)}"


def replay_all(
    logs: Sequence[Path], output: Path, pictures: str, replay_one: Callable[[Path, Path], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What becomes of each log of a folder: it is replayed; an earlier run has done so, and its trace is found; or it
    cannot be replayed, or is another session now, and `said` is why."""
    for path in logs:
        told = {"session": path.name, "output": str(output / path.stem)}
        try:
            if (output / path.stem).exists():
                check_found(output / path.stem, pictures)
                yield {"is": FOUND, **told}
            else:
                yield {"is": REPLAYED, **replay_one(path, output)}
        except DiffersError as mistake:
            yield {"is": DIFFERS, **told, "said": str(mistake)}
        except ValueError as mistake:  # nobody saw anything, for example: others can be replayed
            yield {"is": LEFT_OUT, **told, "said": str(mistake)}


def check_found(folder: Path, pictures: str) -> None:
    """Raises ValueError where a trace that is there shows the truth and what players saw is wanted, or the reverse."""
    found = Trace.load_header(folder)["outcome"].get("pictures")
    if (found == TRUTH) != (pictures == TRUTH):
        raise ValueError(
            f"the trace that is there has pictures of {found!r}, not pictures={pictures}: name another output"
        )


def logs_of(where: Path, pictures: str, only: str | None = None) -> list[Path]:
    """The sessions of a file or a folder, if all of them can be replayed into one folder of traces.

    `only`: those of this game, as `game_of` names it. Raises FileNotFoundError where there are none, ValueError where
    one cannot be drawn or they are of several games.
    """
    paths = sorted(where.glob(f"*{SUFFIX}")) if where.is_dir() else [where]
    headers = {}
    for path in paths:
        try:
            headers[path] = read_header(path)
        except ValueError as mistake:
            if not where.is_dir():
                raise
            log.warning("left out: %s", mistake)  # a crash can leave a file without its first record
    games = Counter(game_of(header) for header in headers.values())
    logs = [path for path in headers if only is None or _plain(only) == game_of(headers[path])]
    if not logs:
        said = f"those there are of {', '.join(games)}" if games else "the server writes them to its `recording.folder`"
        which = "" if only is None else f" of {only}"
        raise FileNotFoundError(f"no {SUFFIX} files{which} in {where}; {said}")
    if only is None and len(games) > 1:
        said = ", ".join(f"{count} of {name}" for name, count in games.items())
        raise ValueError(
            f"one folder of traces is of one game, and {where} holds {said}; choose with only={next(iter(games))}"
        )
    for path in logs:
        check_drawn(path, headers[path], pictures)
    return logs


def game_of(header: Header) -> str:
    """As its keys are called; of a world without a game, as the weights are that keep its truth: e.g. vizdoom_duel."""
    return _plain(header.weights if is_learned(header.game) else str(header.game["keys"]["name"]))


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


if __name__ == "__main__":
    main()
