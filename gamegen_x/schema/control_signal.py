"""ControlSignal: one control message of a player, as JSON on the wire."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ControlSignal:
    """Keys that went down or up, an instruction, or both, at a time in seconds.

    Example: `{"type": "control", "timestamp": 1.25, "keyboard": {"keys": ["w"], "state": true},
    "instruction": {"text": "let it snow", "parameters": {}}}`.
    """

    timestamp: float
    keys: tuple[str, ...] = ()
    is_down: bool = True
    instruction: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.timestamp):
            raise ValueError(f"a control signal's timestamp is a finite number of seconds, got {self.timestamp}")

    def to_json(self) -> str:
        return json.dumps(
            {
                "type": "control",
                "timestamp": self.timestamp,
                "keyboard": {"keys": list(self.keys), "state": self.is_down},
                "instruction": {"text": self.instruction, "parameters": dict(self.parameters)},
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> ControlSignal:
        """Raises ValueError that names the field at fault."""
        try:
            value = json.loads(text)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as mistake:
            raise ValueError(f"a control signal is one JSON object, got something unreadable: {mistake}") from None
        if not isinstance(value, dict) or value.get("type") != "control":
            raise ValueError('a control signal is a JSON object with "type": "control"')
        keyboard = _mapping(value, "keyboard")
        instruction = _mapping(value, "instruction")
        keys = keyboard.get("keys", [])
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError(f"keyboard.keys is a list of strings, got {keys!r}")
        timestamp = value.get("timestamp")
        if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
            raise ValueError(f"timestamp is a number of seconds, got {timestamp!r}")
        is_down = keyboard.get("state", True)
        if not isinstance(is_down, bool):
            raise ValueError(f"keyboard.state is true or false, got {is_down!r}")
        said = instruction.get("text", "")
        if not isinstance(said, str):
            raise ValueError(f"instruction.text is a string, got {said!r}")
        try:
            said.encode()
        except UnicodeEncodeError:  # JSON can spell half a character, nothing can write it
            raise ValueError(f"instruction.text is made of whole characters, got {said!r}") from None
        try:
            seconds = float(timestamp)
        except OverflowError:
            raise ValueError("timestamp is a finite number of seconds, got an integer beyond all floats") from None
        return cls(seconds, tuple(keys), is_down, said, _mapping(instruction, "parameters"))


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = value.get(name, {})
    if not isinstance(part, dict):
        raise ValueError(f"{name} is a JSON object, got {part!r}")
    return part
