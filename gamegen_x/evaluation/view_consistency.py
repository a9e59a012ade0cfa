"""View consistency, first cut: do the players of one world see the same sky?"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row, share
from gamegen_x.evaluation.subject import Subject


class ViewConsistency:
    """The share of moments at which the judge reads the same weather, time of day and so on in every player's view.

    It needs two players or more. Whether they see each other where they should is not asked here yet.
    """

    def __init__(self, *, every_frames: int) -> None:
        self.every_frames = every_frames

    def ask(self, subject: Subject) -> Answer | None:
        environment = subject.judges.environment
        if not subject.is_player or environment is None or subject.play.video.shape[1] < 2:
            return None
        generated = list(subject.play.video[:, :, subject.play.context_frames :])
        real = [recording.video for recording in subject.recordings.val]
        agreement = {fact: share(self._agree(subject, generated, fact)) for fact in environment.classes}
        ceiling = {fact: share(self._agree(subject, real, fact)) for fact in environment.classes}
        rows = [Row(f"same {fact.replace('_', ' ')}", agreement[fact], ceiling[fact]) for fact in agreement]
        figures = {"view_agreement": agreement, "view_agreement_ceiling": ceiling}
        explanation = "How often all views of a clip show the same sky at the same moment; ceiling: on real video."
        return Answer("Views: do players see one world?", explanation, figures, rows)

    def _agree(self, subject: Subject, clips: list[UInt8[Tensor, "p t 3 h w"]], fact: str) -> Bool[Tensor, " n"]:
        moments = torch.cat([rearrange(clip[:, :: self.every_frames], "p t c h w -> t p c h w") for clip in clips])
        num_players = moments.shape[1]
        seen = subject.judges.environment_in(rearrange(moments, "n p c h w -> (n p) 1 c h w"), fact)
        by_moment = rearrange(seen, "(n p) -> n p", p=num_players)
        return (by_moment == by_moment[:, :1]).all(1)
