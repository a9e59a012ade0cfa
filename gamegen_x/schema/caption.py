"""Caption and Instruction: what is said about a clip, in the structured fields of OGameData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

SCHEMA_VERSION = 1
MAX_SUMMARY_WORDS = 20
MAX_INSTRUCTION_WORDS = 15


@dataclass(frozen=True)
class Caption:
    """The ten fields of OGameData: five for generation (GEN), five for instruction tuning (INS).

    Example: `Caption(summary="A red player walks through a snowy meadow at night.")`. A field that nobody
    filled is an empty string. `summary` has at most 20 words (GameGen-X, appendix B).
    """

    summary: str
    game_meta: str = ""
    character: str = ""
    frame_desc: str = ""
    atmosphere: str = ""
    environmental_basics: str = ""
    main_character: str = ""
    environmental_changes: str = ""
    sky_lighting: str = ""
    misc: str = ""

    def __post_init__(self) -> None:
        num_words = len(self.summary.split())
        if not 1 <= num_words <= MAX_SUMMARY_WORDS:
            raise ValueError(f"a summary has 1 to {MAX_SUMMARY_WORDS} words, got {num_words}: {self.summary!r}")

    @staticmethod
    def cut(summary: str) -> str:
        """As many of its words as a summary has."""
        return " ".join(summary.split()[:MAX_SUMMARY_WORDS])

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Caption:
        known = {field.name for field in fields(cls)}
        return cls(**{name: str(text) for name, text in value.items() if name in known})


@dataclass(frozen=True)
class Instruction:
    """An imperative sentence and the video frame of its clip from which it holds.

    Example: `Instruction(text="Let it snow.", frame=24)`. At most 15 words (GameGen-X, appendix B).
    """

    text: str
    frame: int

    def __post_init__(self) -> None:
        num_words = len(self.text.split())
        if not 1 <= num_words <= MAX_INSTRUCTION_WORDS:
            raise ValueError(f"an instruction has 1 to {MAX_INSTRUCTION_WORDS} words, got {num_words}: {self.text!r}")
        if self.frame < 0:
            raise ValueError(f"an instruction starts at frame 0 or later, got {self.frame}")

    @classmethod
    def said(cls, text: str, frame: int | None, num_frames: int, num_given: int = 0) -> Instruction | None:
        """One for a clip of `num_frames`, of which `num_given` are there already; None where nothing is said.

        Without a frame it holds from the middle of what is to come. Raises ValueError where nobody would hear it.
        """
        if not text:
            return None
        at = num_given + (num_frames - num_given) // 2 if frame is None else frame
        if at >= num_frames:
            raise ValueError(
                f"instruction_frame={at} is beyond the clip, whose {num_frames} frames are 0 to {num_frames - 1}: "
                "nobody would hear the instruction; give an earlier frame, null for the middle, or longer keys or "
                "num_frames"
            )
        return cls(text, at)

    def to_dict(self) -> dict[str, Any]:
        return {"text": self.text, "frame": self.frame}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Instruction:
        return cls(text=str(value["text"]), frame=int(value["frame"]))
