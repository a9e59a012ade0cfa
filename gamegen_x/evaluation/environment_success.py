"""SR-E: does the world change when it is told to? Judged by a classifier of weather, time of day and the like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Film, Pane, Row, margin_95
from gamegen_x.evaluation.generation import Beginning, Play
from gamegen_x.evaluation.recordings import Recording
from gamegen_x.evaluation.subject import Subject
from gamegen_x.schema.caption import Instruction


@dataclass(frozen=True)
class Wish:
    """What the world shall become, and the sentence that says so."""

    fact: str
    value: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.fact}.{self.value}"


class EnvironmentSuccess:
    """SR-E is the share of clips whose environment the judge reads, a while after the sentence, as what was asked.

    What is asked is drawn uniformly from everything that the world is not. The ceiling is the judge's score on real
    video after the same kind of change. Both are means over the classes, each class counting the same.
    """

    def __init__(
        self,
        *,
        sentences: Mapping[str, Mapping[str, Sequence[str]]],  # fact -> value -> ways to ask for it
        num_repeats: int,  # how many wishes each beginning is given, one clip each
        blocks_before: int,  # generated before the sentence
        judged_seconds: Sequence[float],  # after the sentence, from and to
        judged_every_frames: int,
        num_films: int,
    ) -> None:
        self.sentences = sentences
        self.num_repeats = num_repeats
        self.blocks_before = blocks_before
        self.judged_from, self.judged_until = judged_seconds
        self.judged_every_frames = judged_every_frames
        self.num_films = num_films

    def ask(self, subject: Subject) -> Answer | None:
        facts = self._facts(subject)
        if not subject.is_player or not facts:
            return None
        size = subject.generation.block_frames
        said_at = subject.generation.context_frames + self.blocks_before * size
        judged = self._judged_frames(subject, said_at)
        num_blocks = -(-(judged[-1] + 1 - subject.generation.context_frames) // size)
        if num_blocks > subject.num_blocks:
            raise ValueError(
                f"SR-E looks {num_blocks} blocks ahead, but only num_blocks={subject.num_blocks} are played"
            )
        beginnings = subject.beginnings * self.num_repeats
        wishes = self._wishes(beginnings, facts, subject.generation.context_frames, subject.generation.seed)
        play = subject.generation.play(
            "changing the environment",
            subject.sampler,
            beginnings,
            subject.commands,
            subject.drawn[:, :, :num_blocks].repeat(self.num_repeats, 1, 1),
            [[Instruction(wish.text, said_at)] for wish in wishes],
            use_instructnet=True,
        )
        granted = self._granted(subject, play.video, wishes, judged)
        untold = subject.play.video.repeat(self.num_repeats, 1, 1, 1, 1, 1)
        unasked = self._granted(subject, untold, wishes, judged)
        by_class, unasked_by_class = _by_class(wishes, granted), _by_class(wishes, unasked)
        ceilings = self._ceilings(subject, facts)
        sr_e, ceiling = float(np.mean(list(by_class.values()))), _mean(list(ceilings.values()))
        chance = float(np.mean([1 / len(subject.recordings.val[0].classes[name.split(".")[0]]) for name in by_class]))
        figures: dict[str, Any] = {
            "sr_e": sr_e,
            "sr_e_margin_95": margin_95(granted.float()),
            "sr_e_of_ceiling": sr_e / ceiling if ceiling else None,
            "sr_e_by_class": by_class,
            "sr_e_ceiling": ceiling,
            "sr_e_ceiling_by_class": ceilings,
            "sr_e_without_instruction": float(np.mean(list(unasked_by_class.values()))),
            "sr_e_chance": chance,
            "environment_ceiling_accuracy": {fact: subject.judges.ceilings[fact] for fact in facts},
        }
        rows = [Row("SR-E", sr_e, ceiling, chance)]
        rows += [
            Row(name.replace(".", ": ").replace("_", " "), value, ceilings.get(name), unasked_by_class[name])
            for name, value in by_class.items()
        ]
        rows.append(Row("SR-E, nothing said", figures["sr_e_without_instruction"], ceiling, chance))
        explanation = (
            f"{len(play)} clips are told one sentence each, {self.blocks_before} blocks after the beginning; what is "
            "asked is drawn uniformly from everything that the world is not. A classifier trained on real frames looks "
            f"{self.judged_from:g} to {self.judged_until:g} s later. Ceiling: the classifier on real video after real "
            "changes. In the rows of one class, 'chance' is how often the same clip shows it although nobody asked."
        )
        films = [self._film(subject, play, wishes, number) for number in range(min(self.num_films, len(play)))]
        return Answer("Environment: does the world do what it is told?", explanation, figures, rows, films=films)

    def _facts(self, subject: Subject) -> dict[str, tuple[str, ...]]:
        """The facts, with the values that can be asked for, that both the judge and the sentences know."""
        environment = subject.judges.environment
        if environment is None:
            return {}
        known = environment.classes
        return {
            fact: tuple(value for value in known[fact] if value in values)
            for fact, values in self.sentences.items()
            if fact in known
        }

    def _judged_frames(self, subject: Subject, said_at: int) -> list[int]:
        first, last = (
            said_at + round(seconds * subject.recordings.fps) for seconds in (self.judged_from, self.judged_until)
        )
        return list(range(first, last + 1, self.judged_every_frames))

    def _wishes(
        self, beginnings: Sequence[Beginning], facts: Mapping[str, Sequence[str]], context_frames: int, seed: int
    ) -> list[Wish]:
        rng = np.random.default_rng(seed)
        wishes: list[Wish] = []
        for beginning in beginnings:
            recording, now = beginning.recording, beginning.start + context_frames - 1
            open_wishes = [
                (fact, value)
                for fact, values in facts.items()
                for value in values
                if value != recording.classes[fact][recording.facts[fact][now]]
            ]
            fact, value = open_wishes[rng.integers(len(open_wishes))]
            wishes.append(Wish(fact, value, str(rng.choice(list(self.sentences[fact][value])))))
        return wishes

    def _granted(
        self, subject: Subject, video: UInt8[Tensor, "b p t 3 h w"], wishes: Sequence[Wish], judged: Sequence[int]
    ) -> Bool[Tensor, " b"]:
        """Whether the judge sees what was asked for; several players must all see it."""
        granted = torch.zeros(len(wishes), dtype=torch.bool)
        for fact in {wish.fact for wish in wishes}:
            clips = [number for number, wish in enumerate(wishes) if wish.fact == fact]
            frames = video[clips][:, :, list(judged)]
            seen = subject.judges.environment_in(rearrange(frames, "b p f c h w -> (b p) f c h w"), fact)
            classes = subject.recordings.val[0].classes[fact]
            asked = torch.tensor([classes.index(wishes[number].value) for number in clips])
            granted[clips] = (rearrange(seen, "(b p) -> b p", b=len(clips)) == asked[:, None]).all(1)
        return granted

    def _ceilings(self, subject: Subject, facts: Mapping[str, Sequence[str]]) -> dict[str, float]:
        """By class, the judge's score on real video as long after a change as generated video is judged."""
        judged = self._judged_frames(subject, 0)
        frames: dict[str, list[Tensor]] = defaultdict(list)
        truth: dict[str, list[int]] = defaultdict(list)
        for recording in subject.recordings.val:
            for fact in facts:
                for frame in _changes(recording, fact, judged[-1] + 1):
                    frames[fact].append(recording.video[:, [frame + later for later in judged]])
                    truth[fact] += [int(recording.facts[fact][frame])] * len(recording.video)
        ceilings: dict[str, float] = {}
        for fact in frames:
            seen = subject.judges.environment_in(torch.cat(frames[fact]), fact)
            values = torch.tensor(truth[fact])
            for number, value in enumerate(subject.recordings.val[0].classes[fact]):
                if value in facts[fact] and (values == number).any():
                    ceilings[f"{fact}.{value}"] = float((seen[values == number] == number).float().mean())
        return ceilings

    def _film(self, subject: Subject, play: Play, wishes: Sequence[Wish], number: int) -> Film:
        said_at, num_frames = play.instructions[number][0].frame, play.video.shape[2]
        words = [""] * said_at + [wishes[number].text] * (num_frames - said_at)
        keys = rearrange(play.actions[number], "p t k -> t p k")
        untold = subject.play.video[number % len(subject.play), :, :num_frames]
        recording, frame = play.beginnings[number].recording, play.beginnings[number].start + play.context_frames - 1
        now = ", ".join(recording.classes[fact][recording.facts[fact][frame]] for fact in self.sentences)
        return Film(
            caption=f"from {now}: “{wishes[number].text}”",
            panes=[
                Pane("nothing said", subject.shown(untold), keys, context_frames=play.context_frames),
                Pane("told", subject.shown(play.video[number]), keys, words, play.context_frames),
            ],
        )


def _changes(recording: Recording, fact: str, num_frames: int) -> list[int]:
    """Frames from which a fact has a new value, and keeps it for `num_frames`."""
    values = recording.facts[fact]
    if len(values) <= num_frames:
        return []
    is_new = values[1:] != values[:-1]
    windows = values[1:].unfold(0, num_frames, 1)
    is_kept = (windows == windows[:, :1]).all(1)
    return (is_new[: len(is_kept)] & is_kept).nonzero().flatten().add(1).tolist()


def _by_class(wishes: Sequence[Wish], granted: Bool[Tensor, " b"]) -> dict[str, float]:
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for wish, is_granted in zip(wishes, granted.tolist(), strict=True):
        outcomes[wish.name].append(is_granted)
    return {name: float(np.mean(values)) for name, values in sorted(outcomes.items())}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
