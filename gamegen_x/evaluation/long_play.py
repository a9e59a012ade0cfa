"""Drift of a long play: are players still obeyed at its end as they were at its beginning?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row, share
from gamegen_x.evaluation.players_obey import blocks_of, by_player
from gamegen_x.evaluation.subject import Subject


class LongPlay:
    """`drift_ratio` is the judge's accuracy in the last seconds of a play by that in its first seconds.

    `drift_by_minute` tells it minute by minute; the last one may be shorter.
    """

    def __init__(self, *, meeting: str, seconds: float) -> None:
        self.meeting = meeting
        self.seconds = seconds  # of the beginning and of the end

    def ask(self, subject: Subject) -> Answer | None:
        if subject.live is None:
            return None
        met = subject.meeting(self.meeting)
        count = blocks_of(subject, self.seconds)
        made, real = by_player(subject, met), by_player(subject, [replace(one, video=one.staged.video) for one in met])
        first, last = (_obeyed(made, part) for part in (slice(None, count), slice(-count, None)))
        real_first, real_last = (_obeyed(real, part) for part in (slice(None, count), slice(-count, None)))
        minute = blocks_of(subject, 60.0)
        parts = [slice(at, at + minute) for at in range(0, made[0].shape[1], minute)]
        by_minute = [_obeyed(made, part) for part in parts]
        num_seconds = met[0].staged.video.shape[1] / subject.recordings.fps
        ratio = last / first if first else None
        ceiling = real_last / real_first if real_first else None
        figures = {
            "drift_ratio": ratio,
            "drift_ratio_ceiling": ceiling,
            "drift_first": first,
            "drift_last": last,
            "drift_seconds": num_seconds,
            "drift_by_minute": by_minute,
        }
        rows = [
            Row(f"first {self.seconds:g} s", first, real_first, subject.commands.chance),
            Row(f"last {self.seconds:g} s", last, real_last, subject.commands.chance),
            Row("last by first", ratio, ceiling, unit=""),
        ]
        if len(by_minute) > 1:
            rows += [
                Row(f"minute {number}", value, _obeyed(real, part), subject.commands.chance)
                for number, (part, value) in enumerate(zip(parts, by_minute, strict=True), start=1)
            ]
        explanation = f"Keys read back from {num_seconds:.0f} s of play, all players together."
        return Answer("Drift: is a long play obeyed to its end?", explanation, figures, rows)


def _obeyed(players: Sequence[Bool[Tensor, "b n"]], part: slice) -> float:
    """The share of blocks that were right, of all players together."""
    return sum(share(each[:, part]) for each in players) / len(players)
