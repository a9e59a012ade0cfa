"""SR-E in all views: when one world is told to change, does every player see it?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row, share
from gamegen_x.evaluation.judges import Judges
from gamegen_x.evaluation.meetings import Met
from gamegen_x.evaluation.subject import Subject
from gamegen_x.games.snowglobe_conditions import instruction_effect


class WordsInAllViews:
    """SR-E is the share of worlds in which the judge reads, in every view, what was asked for, a while afterwards."""

    def __init__(self, *, meeting: str, judged_seconds: Sequence[float], judged_every_frames: int) -> None:
        self.meeting = meeting
        self.judged_from, self.judged_until = judged_seconds  # after the sentence
        self.judged_every_frames = judged_every_frames

    def ask(self, subject: Subject) -> Answer | None:
        environment = subject.judges.environment
        if subject.live is None or environment is None:
            return None
        met = [
            one
            for one in subject.meeting(self.meeting)
            if instruction_effect(one.staged.script.says)[0] in environment.classes
        ]
        if not met:
            return None
        made = self._granted(subject, met, [one.video for one in met])
        real = self._granted(subject, met, [one.staged.video for one in met])
        facts = [instruction_effect(one.staged.script.says)[0] for one in met]
        chance = sum(1 / len(environment.classes[fact]) for fact in facts) / len(facts)
        sr_e, ceiling = share(made.all(1)), share(real.all(1))
        figures = {
            "sr_e": sr_e,
            "sr_e_ceiling": ceiling,
            "sr_e_chance": chance,
            "sr_e_of_each_view": [share(view) for view in made.T],
        }
        explanation = (
            f"{len(met)} worlds are told one sentence each; a classifier trained on real frames looks "
            f"{self.judged_from:g} to {self.judged_until:g} s later at every view. Ceiling: the game's pictures."
        )
        rows = [Row("SR-E, all views", sr_e, ceiling, chance)]
        return Answer("Words: does every player see the change?", explanation, figures, rows)

    def _granted(
        self, subject: Subject, met: Sequence[Met], videos: Sequence[UInt8[Tensor, "p t 3 h w"]]
    ) -> Bool[Tensor, "b p"]:
        granted = []
        for one, video in zip(met, videos, strict=True):
            said_at = one.staged.script.says_at * subject.generation.block_frames
            granted.append(
                self.is_granted(subject.judges, one.staged.script.says, said_at, video, subject.recordings.fps)
            )
        return torch.stack(granted)

    def is_granted(
        self, judges: Judges, sentence: str, said_at: int, video: UInt8[Tensor, "p t 3 h w"], fps: float
    ) -> Bool[Tensor, " p"]:
        """Whether each view shows what a sentence asks for, a while after the frame at which it was said."""
        assert judges.environment is not None
        first, last = (said_at + round(seconds * fps) for seconds in (self.judged_from, self.judged_until))
        frames = list(range(first, min(last + 1, video.shape[1]), self.judged_every_frames))
        if not frames:
            raise ValueError(
                f"a video ends before {sentence!r} is judged; let it go on for {self.judged_until:g} s after it is said"
            )
        fact, value = instruction_effect(sentence)
        classes = judges.environment.classes[fact]
        return judges.environment_in(video[:, frames], fact) == classes.index(value)
