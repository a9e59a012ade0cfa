"""Trace: a recorded session: header, key and text events, state per frame, one video a seat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.unreadable import UNREADABLE

SCHEMA_VERSION = 1
MAX_PLAYERS = 8  # of one world: its slots, and the seats of a room


@dataclass(frozen=True)
class TextEvent:
    """What somebody asked of the world at a frame, e.g. `TextEvent(frame=48, seat=0, text="Let it snow.")`."""

    frame: int
    seat: int
    text: str


@dataclass(frozen=True)
class Trace:
    """One recorded session, as a folder.

    `trace.json` (header), `events.jsonl` (keys that went down or up, text events), `actions.npy` (`[t p k]` uint8,
    the keys held at each frame: frame t shows the world after the keys of row t acted), `state.npz` (arrays whose
    first axis is t), and `seat-0.mp4` ... `seat-<p-1>.mp4` (H.264). Identities are keyed hashes.

    `facts` names the values of state arrays that hold class numbers, e.g. `{"weather": ["clear", "rain"]}`.
    """

    folder: Path
    game: str
    seed: int
    fps: float
    action_space: ActionSpace
    players: tuple[str, ...]  # one keyed hash a seat
    actions: npt.NDArray[np.uint8]  # t p k
    state: Mapping[str, npt.NDArray[Any]]
    text_events: tuple[TextEvent, ...] = ()
    camera: str = ""
    licence: str = ""
    attribution: str = ""
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.actions.ndim != 3 or self.actions.shape[1:] != (len(self.players), self.action_space.num_keys):
            expected = ("t", len(self.players), self.action_space.num_keys)
            raise ValueError(f"actions have shape [t p k] = {expected}, got {self.actions.shape}")
        for name, values in self.state.items():
            if len(values) != self.num_frames:
                raise ValueError(
                    f"state {name!r} has {len(values)} rows, expected one for each of {self.num_frames} frames"
                )

    @property
    def num_frames(self) -> int:
        return int(self.actions.shape[0])

    @property
    def num_players(self) -> int:
        return len(self.players)

    def video_path(self, seat: int) -> Path:
        return self.folder / f"seat-{seat}.mp4"

    def save(self) -> None:
        """Writes everything but the videos. `trace.json` comes last: a folder without it is an unfinished recording."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / "actions.npy") as path, path.open("wb") as file:
            np.save(file, self.actions)
        with atomic_file(self.folder / "state.npz") as path, path.open("wb") as file:
            np.savez_compressed(file, **dict[str, Any](self.state))
        with atomic_file(self.folder / "events.jsonl") as path:
            path.write_text("".join(json.dumps(event) + "\n" for event in self._events()))
        with atomic_file(self.folder / "trace.json") as path:
            path.write_text(json.dumps(self._header(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Trace:
        """Raises ValueError that names the file at fault and what was expected."""
        folder = Path(folder)
        _check_finished(folder)
        try:
            header = _read_header(folder)
            events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
            with np.load(folder / "state.npz", allow_pickle=False) as arrays:
                state = {name: arrays[name] for name in arrays.files}
            return cls(
                folder=folder,
                game=header["game"],
                seed=header["seed"],
                fps=header["fps"],
                action_space=ActionSpace.from_dict(header["action_space"]),
                players=tuple(header["players"]),
                actions=np.load(folder / "actions.npy", allow_pickle=False),
                state=state,
                text_events=tuple(
                    TextEvent(int(event["frame"]), int(event["seat"]), str(event["text"]))
                    for event in events
                    if event["type"] == "text"
                ),
                camera=header["camera"],
                licence=header["licence"],
                attribution=header["attribution"],
                facts={name: tuple(values) for name, values in header["facts"].items()},
                outcome=header["outcome"],
            )
        except UNREADABLE as mistake:
            raise ValueError(f"{folder} is not a readable trace: {mistake}") from mistake

    @classmethod
    def load_header(cls, folder: str | Path) -> dict[str, Any]:
        """What `trace.json` says, without the arrays. Raises ValueError where a file is missing or it is broken."""
        _check_finished(Path(folder))
        try:
            header = _read_header(Path(folder))
            ActionSpace.from_dict(header["action_space"])
            return {**header, "outcome": dict(header["outcome"])}
        except UNREADABLE as mistake:
            raise ValueError(f"{folder} is not a readable trace: {mistake}") from mistake

    def _header(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "game": self.game,
            "seed": self.seed,
            "fps": self.fps,
            "num_frames": self.num_frames,
            "action_space": self.action_space.to_dict(),
            "players": list(self.players),
            "camera": self.camera,
            "licence": self.licence,
            "attribution": self.attribution,
            "facts": {name: list(values) for name, values in self.facts.items()},
            "outcome": dict(self.outcome),
        }

    def _events(self) -> list[dict[str, Any]]:
        """Keys that went down or up at each frame, and the text events, in the order of time."""
        before = np.concatenate([np.zeros_like(self.actions[:1]), self.actions[:-1]])
        events: list[dict[str, Any]] = [
            {
                "type": "key",
                "frame": int(frame),
                "seat": int(seat),
                "key": self.action_space.keys[key],
                "is_down": bool(self.actions[frame, seat, key]),
            }
            for frame, seat, key in np.argwhere(before != self.actions)
        ]
        events += [{"type": "text", "frame": e.frame, "seat": e.seat, "text": e.text} for e in self.text_events]
        return sorted(events, key=lambda event: event["frame"])


def _check_finished(folder: Path) -> None:
    for name in ("trace.json", "events.jsonl", "actions.npy", "state.npz"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a finished trace: {name} is missing")


def _read_header(folder: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((folder / "trace.json").read_text())
    if header["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {header['schema_version']}, this code reads {SCHEMA_VERSION}")
    return header
