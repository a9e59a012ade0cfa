"""Draws per-frame times; decides which frames are context (time 1).

A draw is a function of (shape, generator) so that a training step can be repeated bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class FrameTimes:
    """The time of every latent frame, and which of them are to be generated. Context frames stand at 1."""

    time: Float[Tensor, "b t"]
    is_generated: Bool[Tensor, "b t"]


class DrawTimes(Protocol):
    def __call__(
        self, batch: int, num_frames: int, height: int, width: int, generator: torch.Generator
    ) -> FrameTimes: ...


def logit_normal(
    shape: tuple[int, ...], mean: float, deviation: float, generator: torch.Generator
) -> Float[Tensor, "..."]:
    """sigmoid of a normal draw: middle times are drawn most (Esser et al. 2024, equation 19). In (0, 1)."""
    return torch.sigmoid(mean + deviation * torch.randn(shape, generator=generator))


def shift_times(time: Float[Tensor, "*any"], shift: float) -> Float[Tensor, "*any"]:
    """Moves times towards noise for larger videos (Esser et al. 2024, equation 23).

    With noise level s = 1 - time: s' = shift s / (1 + (shift - 1) s). Shift 1 changes nothing; 0 and 1 stay.
    """
    return time / (time + shift * (1 - time))


def resolution_shift(height: int, width: int, num_frames: int, base_tokens: int) -> float:
    """sqrt(tokens / base_tokens) over space and time: more pixels hide the same noise better (Esser et al., 5.3.2)."""
    return math.sqrt(height * width * num_frames / base_tokens)


@dataclass(frozen=True)
class DiffusionForcing:
    """Every frame has a time of its own; often the first few are clean context (Chen et al. 2024, algorithm 1).

    `context_share` of the clips have 1 to `max_context` clean frames.
    """

    mean: float
    deviation: float
    shift: float
    context_share: float
    max_context: int

    def __post_init__(self) -> None:
        _check_share("context_share", self.context_share)

    def __call__(
        self,
        batch: int,
        num_frames: int,
        height: int,  # noqa: ARG002 (these worlds have one size)
        width: int,  # noqa: ARG002
        generator: torch.Generator,
    ) -> FrameTimes:
        time = shift_times(logit_normal((batch, num_frames), self.mean, self.deviation, generator), self.shift)
        most = min(self.max_context, num_frames - 1)
        num_context = torch.randint(1, most + 1, (batch, 1), generator=generator) if most else torch.zeros(batch, 1)
        has_context = torch.rand(batch, 1, generator=generator) < self.context_share
        is_context = (torch.arange(num_frames)[None] < num_context) & has_context
        return FrameTimes(torch.where(is_context, 1.0, time), ~is_context)


@dataclass(frozen=True)
class ContextThenNoise:
    """All generated frames of a clip share one time; a share of the clips has clean context frames.

    The paper's masked training: `extension_share` 0.25 in stage one (the rest is text-to-video), 1.0 in stage two.
    The number of context frames is drawn from `num_context`. With `base_tokens` times shift with the clip's size.
    """

    mean: float
    deviation: float
    extension_share: float
    num_context: Sequence[int]
    base_tokens: int | None

    def __post_init__(self) -> None:
        _check_share("extension_share", self.extension_share)

    def __call__(self, batch: int, num_frames: int, height: int, width: int, generator: torch.Generator) -> FrameTimes:
        time = logit_normal((batch, 1), self.mean, self.deviation, generator).expand(batch, num_frames)
        if self.base_tokens is not None:
            time = shift_times(time, resolution_shift(height, width, num_frames, self.base_tokens))
        choices = torch.tensor([min(n, num_frames - 1) for n in self.num_context])
        num_context = choices[torch.randint(len(choices), (batch, 1), generator=generator)]
        is_extension = torch.rand(batch, 1, generator=generator) < self.extension_share
        is_context = (torch.arange(num_frames)[None] < num_context) & is_extension
        return FrameTimes(torch.where(is_context, 1.0, time), ~is_context)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a share between 0 and 1, got {value}")
