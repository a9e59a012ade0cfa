"""Return consistency: does a place look like itself when a player comes back to it?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row
from gamegen_x.evaluation.meetings import Met, Staged
from gamegen_x.evaluation.subject import Subject
from gamegen_x.world.sphere import angle_between


class ReturnConsistency:
    """The share of a view's cells whose terrain class is the true one, in pictures of a place that was left before.

    A player has left when the place is farther away than `far_angle`, and is back when it is closer than `back_angle`.
    The ceiling is the same on the game's pictures, chance on those of another world.
    """

    def __init__(self, *, meeting: str, far_angle: float, back_angle: float, every_frames: int) -> None:
        self.meeting = meeting
        self.far_angle = far_angle
        self.back_angle = back_angle
        self.every_frames = every_frames

    def ask(self, subject: Subject) -> Answer | None:
        if subject.live is None:
            return None
        met = subject.meeting(self.meeting)
        made = self._agreement(subject, met, [one.video for one in met])
        real = self._agreement(subject, met, [one.staged.video for one in met])
        others = [other.staged.video for other in (*met[1:], met[0])]
        chance = self._agreement(subject, met, others) if len(met) > 1 else None
        figures = {
            "return_consistency": made,
            "return_consistency_ceiling": real,
            "return_consistency_chance": chance,
            "return_consistency_of_ceiling": made / real if made is not None and real else None,
        }
        explanation = (
            "The terrain classes of a view, read cell by cell from its colours, compared with the world's own map, "
            f"when a player is back within {self.back_angle:g} radians of where they began after being farther away "
            f"than {self.far_angle:g}."
        )
        rows = [Row("terrain after coming back", made, real, chance)]
        return Answer("Return: is a place still itself?", explanation, figures, rows)

    def _agreement(
        self, subject: Subject, met: Sequence[Met], videos: Sequence[UInt8[Tensor, "p t 3 h w"]]
    ) -> float | None:
        """None where nobody came back."""
        assert subject.meetings is not None
        signs = subject.meetings.signs
        shares: list[float] = []
        for one, video in zip(met, videos, strict=True):
            for seat, view in enumerate(video):
                frames = self._back(one.staged, seat)
                frames = frames[frames < len(view)]
                if len(frames) == 0:
                    continue
                pictures = rearrange(view[frames.tolist()], "t c h w -> t h w c").numpy()
                shown = signs.terrain_in(pictures, one.staged.begun)
                true = signs.true_terrain(one.staged.begun, one.staged.facts["pose"][frames, seat])
                shares.append(float((shown == true).mean()))
        return float(np.mean(shares)) if shares else None

    def _back(self, staged: Staged, seat: int) -> npt.NDArray[np.int64]:
        """The frames at which a player is back where they were at the end of the beginning."""
        places = staged.facts["pose"][:, seat, :, 2].astype(np.float64)
        away = angle_between(places, places[staged.context_frames - 1])
        away[: staged.context_frames] = 0
        has_left = np.maximum.accumulate(away) > self.far_angle
        frames = np.flatnonzero(has_left & (away < self.back_angle))
        return frames[:: self.every_frames]
