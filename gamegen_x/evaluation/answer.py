"""Answer: what one question found out, for the JSON line and for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """A figure beside the best that could be measured (`ceiling`) and what comes without any skill (`chance`)."""

    name: str
    value: float | None
    ceiling: float | None = None
    chance: float | None = None
    unit: str = "share"  # "share" is shown in percent


@dataclass(frozen=True)
class Pane:
    """One view of a film: frames, the keys held at each of them (or None), and the words spoken to the world."""

    title: str
    frames: UInt8[Tensor, "t 3 h w"]
    actions: Float[Tensor, "t p k"] | None = None
    words: Sequence[str] = ()  # one for each frame, "" is silence
    context_frames: int = 0  # how many of the first frames are real


@dataclass(frozen=True)
class Film:
    """Panes that are shown side by side, in step."""

    caption: str
    panes: Sequence[Pane]
    name: str = ""  # a film with a name is also written as a GIF


@dataclass(frozen=True)
class Answer:
    """`figures` go into the JSON line under their own names; the rest is for eyes."""

    title: str
    explanation: str
    figures: Mapping[str, Any]
    rows: Sequence[Row] = ()
    plots: Sequence[str] = ()  # SVG
    films: Sequence[Film] = field(default_factory=tuple)


def margin_95(shares: Float[Tensor, " n"]) -> float:
    """Half the width of the 95 % interval of a mean, from independent values. nan below two values."""
    return float(1.96 * shares.std() / len(shares) ** 0.5) if len(shares) > 1 else float("nan")


def share(values: Tensor) -> float:
    """The mean of truth values."""
    return float(values.to(torch.float32).mean())
