"""Worlds that outlive their server: the newest session of each room, and the state in which it ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamegen_x.serve.delta import StateCodec
from gamegen_x.serve.played_world import ServedWorld, State
from gamegen_x.serve.session_log import SUFFIX, SessionEnd, TickRecord, read_end, read_header
from gamegen_x.world.snapshot import read_keyframe

log = logging.getLogger(__name__)


class DiffersError(ValueError):
    """A session that was played again is another one."""


@dataclass(frozen=True)
class PlayedTick:
    """One tick of a replay: the state after it, and the keys `[p k]` that led to it."""

    tick: int
    state: State
    keys: npt.NDArray[np.uint8]


def played_again(world: ServedWorld, state: State, ticks: Sequence[TickRecord]) -> Iterator[PlayedTick]:
    """Some ticks again, from the state before them. Raises DiffersError at the first state that is another one."""
    codec = StateCodec.of_state(world.start())
    for record in ticks:
        for _, text in record.texts:
            state = world.told(state, text)
        bits = np.array(record.keys, np.uint16)[:, None] >> np.arange(world.keys.num_keys, dtype=np.uint16)
        keys = (bits & 1).astype(np.uint8)
        state = world.advanced(state, keys)
        found = codec.pack(record.tick, state).hash
        if found != record.hash:
            raise DiffersError(
                f"tick {record.tick} has the hash {found:08x}, the log says {record.hash:08x}: it was played by "
                "another version of the game, or, where a network keeps its truth, by another network or processor"
            )
        yield PlayedTick(record.tick, state, keys)


def state_at_end(world: ServedWorld, end: SessionEnd) -> State:
    """The state in which a session ended. Raises ValueError where this game is not the one that was played."""
    state: State = read_keyframe(end.state, world.start())
    for played in played_again(world, state, end.later):
        state = played.state
    return state


def open_sessions(folder: Path, since: float) -> list[SessionEnd]:
    """Where each room's newest session stopped, the newest first: of those written to since a moment, and not over.

    A file that a crash left without a header gives way to the one before it.
    """
    written = [(path.stat().st_mtime, path) for path in folder.glob(f"*{SUFFIX}")]
    found: dict[str, SessionEnd] = {}
    for _, path in sorted((each for each in written if each[0] >= since), reverse=True):
        try:
            name = read_header(path).name
            if name and name not in found:
                found[name] = read_end(path)
        except (OSError, ValueError) as mistake:
            log.warning("not taken up: %s", mistake)
    return [end for end in found.values() if not end.is_over]
