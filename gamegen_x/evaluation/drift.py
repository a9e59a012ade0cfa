"""Drift: what a long play loses that its beginning had: sharpness, and the sky that nobody asked to change."""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row, share
from gamegen_x.evaluation.recordings import as_pixels
from gamegen_x.evaluation.subject import Subject

THIRDS = ("first", "second", "last")


class Drift:
    """Looks at `num_frames` frames, evenly spread, of each third of the generated part of every clip.

    Sharpness is the mean absolute difference of neighbouring pixels, divided by that of the clip's own real beginning.
    The environment is kept where the judge reads, at the end of a third, what the recording's truth was at its start.
    """

    def __init__(self, *, num_frames: int) -> None:
        self.num_frames = num_frames

    def ask(self, subject: Subject) -> Answer | None:
        if not subject.is_player:
            return None
        play = subject.play
        beginning = sharpness(play.video[:, :, : play.context_frames])
        thirds = play.video[:, :, play.context_frames :].chunk(len(THIRDS), dim=2)
        kept_sharpness = [float((sharpness(self._spread(third)) / beginning).mean()) for third in thirds]
        figures: dict[str, object] = {"drift_sharpness_by_third": kept_sharpness}
        rows = [
            Row(f"sharpness, {name} third", value, ceiling=1.0, unit="of the beginning")
            for name, value in zip(THIRDS, kept_sharpness, strict=False)
        ]
        for fact in subject.judges.environment.classes if subject.judges.environment else ():
            kept = [self._kept(subject, third, fact) for third in thirds]
            figures[f"drift_{fact}_kept_by_third"] = kept
            ceiling = subject.judges.ceilings[fact]
            rows += [
                Row(f"{fact.replace('_', ' ')} kept, {name} third", value, ceiling)
                for name, value in zip(THIRDS, kept, strict=False)
            ]
        explanation = (
            "The same play, third by third. Sharpness is compared with the real beginning of each clip; the sky with "
            "the recording's truth when the model took over, as nobody asks for a change."
        )
        return Answer("Drift: does a long play stay what it was?", explanation, figures, rows)

    def _spread(self, third: UInt8[Tensor, "b p t c h w"]) -> UInt8[Tensor, "b p f c h w"]:
        return third[:, :, torch.linspace(0, third.shape[2] - 1, self.num_frames).round().long()]

    def _kept(self, subject: Subject, third: UInt8[Tensor, "b p t c h w"], fact: str) -> float:
        views = rearrange(third[:, :, -self.num_frames :], "b p f c h w -> (b p) f c h w")
        seen = rearrange(subject.judges.environment_in(views, fact), "(b p) -> b p", b=len(third))
        now = subject.play.context_frames - 1
        truth = [each.recording.facts[fact][each.start + now] for each in subject.play.beginnings]
        return share(seen == torch.stack(truth)[:, None])


def sharpness(video: UInt8[Tensor, "b p t 3 h w"]) -> Float[Tensor, "b p"]:
    """The mean absolute difference of neighbouring pixels, right and down, in [-1, 1]."""
    pixels = as_pixels(video)
    right = reduce(pixels.diff(dim=-1).abs(), "b p ... -> b p", "mean")
    down = reduce(pixels.diff(dim=-2).abs(), "b p ... -> b p", "mean")
    return (right + down) / 2
