"""Co-visibility: are players seen where they should be, and nowhere else? Asked of the world's truth, not by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Film, Pane, Row
from gamegen_x.evaluation.meetings import Met, Staged
from gamegen_x.evaluation.subject import Subject
from gamegen_x.games.dynamics import RulesWorld
from gamegen_x.games.snowglobe_signs import SnowglobeSigns
from gamegen_x.world.facts import Facts

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tally:
    """Sightings of others: rightly there, wrongly there, and missing."""

    hits: int = 0
    false_ones: int = 0
    missed: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.hits + other.hits, self.false_ones + other.false_ones, self.missed + other.missed)

    @property
    def f1(self) -> float | None:
        """None where nobody should be seen and nobody is."""
        total = 2 * self.hits + self.false_ones + self.missed
        return 2 * self.hits / total if total else None


class CoVisibility:
    """F1 over all pictures and pairs: is the other's colour where the truth says that they are seen?

    Left out is what pictures cannot tell: others at the very edge, or under the player's own disc. The ceiling is the
    same on the game's pictures; chance the same on pictures of another world.
    """

    def __init__(
        self,
        *,
        meeting: str,
        meeting_apart: str,
        apart_seconds: float,  # players who have not seen each other for so long have been apart
        every_frames: int,
        max_pixels: float,  # between where somebody is seen and where they are
        edge_pixels: float,
        middle_pixels: float,
        num_films: int,
    ) -> None:
        self.meeting, self.meeting_apart = meeting, meeting_apart
        self.apart_seconds = apart_seconds
        self.every_frames = every_frames
        self.max_pixels = max_pixels
        self.edge_pixels = edge_pixels
        self.middle_pixels = middle_pixels
        self.num_films = num_films

    def ask(self, subject: Subject) -> Answer | None:
        if subject.live is None:
            return None
        together = subject.meeting(self.meeting)
        apart = subject.meeting(self.meeting_apart)
        apart_frames = round(self.apart_seconds * subject.recordings.fps)
        always = [np.arange(one.staged.context_frames, one.video.shape[1]) for one in together]
        later = [after_apart(one.staged, apart_frames) for one in apart]
        figures: dict[str, object] = {}
        rows = []
        for name, title, met, frames in (
            ("covisibility_f1", "F1 of seeing each other", together, always),
            ("covisibility_f1_after_apart", f"F1, {self.apart_seconds:g} s apart before", apart, later),
        ):
            made = self._tally(subject, met, [one.video for one in met], frames)
            real = self._tally(subject, met, [one.staged.video for one in met], frames)
            of_others = [other.staged.video for other in (*met[1:], met[0])]
            chance = self._tally(subject, met, of_others, frames) if len(met) > 1 else Tally()
            figures |= {
                name: made.f1,
                f"{name}_ceiling": real.f1,
                f"{name}_chance": chance.f1,
                f"{name}_sightings": made.hits + made.missed,
            }
            rows.append(Row(title, made.f1, real.f1, chance.f1))
        explanation = (
            f"Every {self.every_frames} frames, in the view of each player, the other players' colours are looked for. "
            f"A sighting counts within {self.max_pixels:g} pixels of the truth. The second row counts pictures after "
            f"nobody saw anybody for {self.apart_seconds:g} s."
        )
        films = [self._film(subject, one, f"meeting-{number}") for number, one in enumerate(apart[: self.num_films])]
        return Answer("Co-visibility: are players where they should be?", explanation, figures, rows, films=films)

    def _tally(
        self,
        subject: Subject,
        met: Sequence[Met],
        videos: Sequence[UInt8[Tensor, "p t 3 h w"]],
        frames: Sequence[npt.NDArray[np.int64]],
    ) -> Tally:
        assert subject.meetings is not None
        signs, total = subject.meetings.signs, Tally()
        for one, video, chosen in zip(met, videos, frames, strict=True):
            total += self.tally_of(signs, one.staged.begun, one.staged.facts, video, chosen)
        return total

    def tally_of(
        self,
        signs: SnowglobeSigns,
        world: RulesWorld,  # at a frame whose light is that of all
        facts: Facts,  # t ...
        video: UInt8[Tensor, "p t 3 h w"],
        frames: npt.NDArray[np.int64],  # of which every so many are looked at
    ) -> Tally:
        """Sightings of everybody in the views of everybody."""
        chosen = frames[frames % self.every_frames == self.every_frames - 1]
        chosen = chosen[chosen < video.shape[1]]
        total = Tally()
        for seat in range(len(video)):
            if len(chosen):
                total += self._of_view(signs, world, facts, video[seat], seat, chosen)
        return total

    def _of_view(
        self,
        signs: SnowglobeSigns,
        world: RulesWorld,
        facts: Facts,
        view: UInt8[Tensor, "t 3 h w"],
        seat: int,
        frames: npt.NDArray[np.int64],
    ) -> Tally:
        pictures = rearrange(view[frames.tolist()], "t c h w -> t h w c").numpy()
        found = signs.players_in(pictures, world)
        others = [number for number in range(world.num_players) if number != seat]
        is_seen = facts["visible"][frames, seat][:, others]
        true_places = facts["screen_xy"][frames, seat][:, others]
        is_told = ~(is_seen & self._is_hard_to_tell(true_places, pictures.shape[1:3]))
        is_near = np.linalg.norm(found.places[:, others] - true_places, axis=-1) <= self.max_pixels
        is_found = found.is_there[:, others]
        is_hit = is_found & is_seen & is_near
        return Tally(
            hits=int((is_hit & is_told).sum()),
            false_ones=int((is_found & ~is_hit & is_told).sum()),
            missed=int((is_seen & ~is_hit & is_told).sum()),
        )

    def _is_hard_to_tell(self, places: npt.NDArray[np.floating], size: tuple[int, ...]) -> Flags:
        """At the edge of the picture, or so close to its middle that the viewer covers them."""
        far = np.array([size[1], size[0]]) - 1 - places
        is_at_edge = (np.minimum(places, far) < self.edge_pixels).any(axis=-1)
        is_in_middle = (np.abs(places - far) / 2 < self.middle_pixels).all(axis=-1)
        return np.asarray(is_at_edge | is_in_middle)

    def _film(self, subject: Subject, met: Met, name: str) -> Film:
        staged = met.staged
        keys = rearrange(staged.actions, "p t k -> t p k")
        return Film(
            caption=f"seed {staged.script.seed}: both views, model and truth",
            panes=[
                Pane("model", subject.shown(met.video), keys, context_frames=staged.context_frames),
                Pane("truth", subject.shown(staged.video)),
            ],
            name=name,
        )


def after_apart(staged: Staged, num_frames: int) -> npt.NDArray[np.int64]:
    """The frames from the moment on at which somebody sees somebody again after nobody did for `num_frames` frames."""
    is_seen = sees_somebody(staged)
    for start, stop in unseen_spans(is_seen[staged.context_frames :]):
        if stop - start >= num_frames:
            return np.arange(staged.context_frames + stop, len(is_seen))
    return np.arange(0)


def sees_somebody(staged: Staged) -> Flags:
    """Whether any player sees another one: `[t]`."""
    visible = staged.visible()
    return np.asarray((visible & ~np.eye(visible.shape[-1], dtype=bool)).any(axis=(1, 2)))


def unseen_spans(is_seen: Flags) -> list[tuple[int, int]]:
    """First frame and end of each span in which nobody sees anybody."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], is_seen, [True]]).astype(int)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
