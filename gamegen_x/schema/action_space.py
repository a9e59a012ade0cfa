"""ActionSpace: held keys <-> multi-hot vector, in one order for everybody."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SCHEMA_VERSION = 1
NO_KEY = "_"
MAX_FRAMES = 1_000_000  # of a key string: half a day
_STEP = re.compile(r"(?P<keys>[^*\s]+)(?:\*(?P<count>\d+))?")
_WITHOUT_STAR = re.compile(r"(\D+)(\d+)")  # D24, where D*24 is meant


@dataclass(frozen=True)
class ActionSpace:
    """The keys of one game, by name, in the order of the vector.

    Example: `ActionSpace("snowglobe", ("w", "a", "s", "d")).parse("W*8 W+D*4 _*2")` is a `[14, 4]` array.
    """

    name: str
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(str(key).lower() for key in self.keys))
        if not self.keys or len(set(self.keys)) != len(self.keys):
            raise ValueError(f"an action space needs distinct keys, got {list(self.keys)}")
        for key in self.keys:
            if key == NO_KEY or any(mark in key for mark in "+* \t\n"):
                raise ValueError(f"a key's name cannot be '{NO_KEY}' or contain '+', '*' or space, got {key!r}")

    @property
    def num_keys(self) -> int:
        return len(self.keys)

    def encode(self, held: Iterable[str]) -> npt.NDArray[np.uint8]:
        """Held keys, in any order and case, as a multi-hot vector `[k]`. Raises ValueError on an unknown key."""
        vector = np.zeros(self.num_keys, np.uint8)
        for key in held:
            vector[self._index(key)] = 1
        return vector

    def decode(self, vector: npt.ArrayLike) -> tuple[str, ...]:
        """The keys held in a multi-hot vector `[k]`, in this space's order."""
        held = np.asarray(vector)
        if held.shape != (self.num_keys,):
            raise ValueError(f"expected a vector of {self.num_keys} keys for {self.name!r}, got shape {held.shape}")
        return tuple(key for key, value in zip(self.keys, held, strict=True) if value)

    def parse(self, text: str, max_frames: int = MAX_FRAMES) -> npt.NDArray[np.uint8]:
        """A key string such as `W*8 W+D*4 _*2` as `[t, k]`: `*n` holds for n frames, `+` joins keys, `_` is none.

        Raises ValueError where it cannot be read, holds an unknown key or goes on for more than `max_frames`.
        """
        rows: list[npt.NDArray[np.uint8]] = []
        num_frames = 0
        for step in text.split():
            match = _STEP.fullmatch(step)
            if match is None:
                raise ValueError(f"cannot read {step!r} in a key string; write it like 'W*8 W+D*4 {NO_KEY}*2'")
            names = match["keys"].split("+")
            vector = self.encode(name for name in names if name != NO_KEY)
            count = int(match["count"] or 1)
            num_frames += count
            if num_frames > max_frames:
                raise ValueError(f"the key string goes on for more than {max_frames} frames, at {step[:40]!r}")
            rows.append(np.broadcast_to(vector, (count, self.num_keys)))
        if not num_frames:
            raise ValueError("the key string is empty; write it like 'W*8 D*8' (frames of each key)")
        return np.concatenate(rows)

    def format(self, actions: npt.ArrayLike) -> str:
        """The key string of `[t, k]`, the inverse of `parse`."""
        steps: list[tuple[str, int]] = []
        for row in np.asarray(actions):
            name = "+".join(self.decode(row)) or NO_KEY
            if steps and steps[-1][0] == name:
                steps[-1] = (name, steps[-1][1] + 1)
            else:
                steps.append((name, 1))
        return " ".join(f"{name}*{count}" for name, count in steps)

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "name": self.name, "keys": list(self.keys)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ActionSpace:
        return cls(name=str(value["name"]), keys=tuple(value["keys"]))

    def _index(self, key: str) -> int:
        name = key.lower()
        if name in self.keys:
            return self.keys.index(name)
        frames = _WITHOUT_STAR.fullmatch(name)
        if frames and frames[1] in (*self.keys, NO_KEY):
            raise ValueError(f"unknown key {key!r}; frames are counted after a star: {frames[1].upper()}*{frames[2]}")
        near = difflib.get_close_matches(name, self.keys, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown key {key!r}; {self.name!r} knows {list(self.keys)}{hint}")
