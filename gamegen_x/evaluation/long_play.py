"""Drift of a long play: are players still obeyed at its end as they were at its beginning?"""

from __future__ import annotations

from dataclasses import replace

from gamegen_x.evaluation.answer import Answer, Row, share
from gamegen_x.evaluation.players_obey import blocks_of, by_player
from gamegen_x.evaluation.subject import Subject


class LongPlay:
    """`drift_ratio` is the judge's accuracy in the last seconds of a play by that in its first seconds."""

    def __init__(self, *, meeting: str, seconds: float) -> None:
        self.meeting = meeting
        self.seconds = seconds  # of the beginning and of the end

    def ask(self, subject: Subject) -> Answer | None:
        if subject.live is None:
            return None
        met = subject.meeting(self.meeting)
        real = [replace(one, video=one.staged.video) for one in met]
        count = blocks_of(subject, self.seconds)
        accuracy = {}
        for name, worlds in (("drift", met), ("drift_real", real)):
            players = by_player(subject, worlds)
            accuracy[name] = [
                sum(share(each[:, part]) for each in players) / len(players)
                for part in (slice(None, count), slice(-count, None))
            ]
        (first, last), (real_first, real_last) = accuracy["drift"], accuracy["drift_real"]
        num_seconds = met[0].staged.video.shape[1] / subject.recordings.fps
        ratio = last / first if first else None
        figures = {
            "drift_ratio": ratio,
            "drift_ratio_ceiling": real_last / real_first if real_first else None,
            "drift_first": first,
            "drift_last": last,
            "drift_seconds": num_seconds,
        }
        rows = [
            Row(f"first {self.seconds:g} s", first, real_first, subject.commands.chance),
            Row(f"last {self.seconds:g} s", last, real_last, subject.commands.chance),
            Row("last by first", ratio, figures["drift_ratio_ceiling"], unit=""),
        ]
        explanation = f"Keys read back from {num_seconds:.0f} s of play, all players together."
        return Answer("Drift: is a long play obeyed to its end?", explanation, figures, rows)
