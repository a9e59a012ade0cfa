"""Isolation: do a player's keys change only what that player sees, while nobody else sees them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from gamegen_x.evaluation.answer import Answer, Row
from gamegen_x.evaluation.covisibility import sees_somebody, unseen_spans
from gamegen_x.evaluation.meetings import Met, Script, Staged
from gamegen_x.evaluation.subject import Subject

OTHERS = {"w": "a", "a": "s", "s": "d", "d": "w", ".": "w"}  # another key in place of each


class Isolation:
    """Player 0's keys are changed while nobody sees anybody, and the frames of everybody else are compared.

    Compared are the frames until somebody would see somebody, in either play.
    """

    def __init__(self, *, meeting: str, unseen_seconds: float, changed_seconds: float, max_mean_change: float) -> None:
        self.meeting = meeting
        self.unseen_seconds = unseen_seconds  # before keys are changed, so that one key does not bring players back
        self.changed_seconds = changed_seconds
        self.max_mean_change = max_mean_change  # grey levels

    def ask(self, subject: Subject) -> Answer | None:
        if subject.live is None:
            return None
        met = subject.meeting(self.meeting)
        count = round(self.changed_seconds * subject.recordings.fps / subject.generation.block_frames)
        starts = [self._start(subject, one.staged, count) for one in met]
        used = [one for one, start in zip(met, starts, strict=True) if start is not None]
        scripts = [
            _changed(one.staged.script, start, count)
            for one, start in zip(met, starts, strict=True)
            if start is not None
        ]
        changed = subject.meet("other keys of player 0", scripts) if scripts else []
        first_frames = [start * subject.generation.block_frames for start in starts if start is not None]
        own, others = self._changes(used, changed, first_frames, is_real=False)
        real_own, real_others = self._changes(used, changed, first_frames, is_real=True)
        mean = float(np.mean(others)) if others else None
        figures = {
            "isolation_ok": None if mean is None else mean <= self.max_mean_change,
            "isolation_is_exact": None if mean is None else max(others) == 0.0,
            "isolation_mean_change": mean,
            "isolation_mean_change_real": float(np.mean(real_others)) if real_others else None,
            "isolation_own_change": float(np.mean(own)) if own else None,
            "isolation_own_change_real": float(np.mean(real_own)) if real_own else None,
            "isolation_num_worlds": len(own),
        }
        rows = [
            Row("change of others' views", mean, figures["isolation_mean_change_real"], unit="grey levels"),
            Row(
                "change of the own view",
                figures["isolation_own_change"],
                figures["isolation_own_change_real"],
                unit="grey levels",
            ),
        ]
        explanation = (
            f"Player 0 holds other keys for {self.changed_seconds:g} s while nobody sees anybody. Mean absolute change "
            f"of the others' pixels, at most {self.max_mean_change:g}; ceiling: the same in the game's pictures."
        )
        return Answer("Isolation: whose keys change which view?", explanation, figures, rows)

    def _start(self, subject: Subject, staged: Staged, count: int) -> int | None:
        """The first block, after some seconds unseen, from which on nobody sees anybody for `count` blocks more."""
        size = subject.generation.block_frames
        unseen = round(self.unseen_seconds * subject.recordings.fps)
        for start, stop in unseen_spans(sees_somebody(staged)):
            block = -(-(max(start, staged.context_frames) + unseen) // size)
            if (block + count) * size <= stop:
                return block
        return None

    def _changes(
        self, met: Sequence[Met], changed: Sequence[Met], first_frames: Sequence[int], *, is_real: bool
    ) -> tuple[list[float], list[float]]:
        """The mean change of player 0's view, and of everybody else's, in each world."""
        own, others = [], []
        for one, other, start in zip(met, changed, first_frames, strict=True):
            length = min(one.video.shape[1], other.video.shape[1])
            is_seen = sees_somebody(one.staged)[:length] | sees_somebody(other.staged)[:length]
            seen = np.flatnonzero(is_seen[start:])
            stop = start + int(seen[0]) if len(seen) else length
            if stop == start:
                continue
            pair = [
                (each.staged.video if is_real else each.video)[:, start:stop].to(torch.int16) for each in (one, other)
            ]
            change = (pair[0] - pair[1]).abs().float().mean(dim=(1, 2, 3, 4))
            own.append(float(change[0]))
            others.append(float(change[1:].max()))
        return own, others


def _changed(script: Script, start: int, count: int) -> Script:
    """Player 0 holds other keys from a block on, and the script ends after them."""
    mine = script.keys[0]
    keys = mine[:start] + "".join(OTHERS[letter] for letter in mine[start : start + count])
    return replace(script, keys=[keys, *(line[: start + count] for line in script.keys[1:])])
