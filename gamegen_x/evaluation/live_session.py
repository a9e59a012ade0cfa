"""A session that was played live, judged from its pixels: keys, words, and whether players saw each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import share
from gamegen_x.evaluation.commands import UNLISTED, Commands
from gamegen_x.evaluation.covisibility import CoVisibility
from gamegen_x.evaluation.judges import Judges
from gamegen_x.evaluation.words_in_all_views import WordsInAllViews
from gamegen_x.games.dynamics import RulesDynamics, RulesWorld
from gamegen_x.games.snowglobe_conditions import instruction_effect
from gamegen_x.games.snowglobe_signs import SnowglobeSigns
from gamegen_x.sampling.video_file import read_video
from gamegen_x.schema.trace import TextEvent, Trace
from gamegen_x.world.facts import Facts


@dataclass(frozen=True)
class LiveSession:
    """What players pressed and saw, and what was true. Frame 0 is the first of a block."""

    actions: UInt8[Tensor, "p t k"]
    video: UInt8[Tensor, "p t 3 h w"]
    facts: Facts  # t ...
    fps: float
    truth: UInt8[Tensor, "p t 3 h w"] | None = None  # the game's own pictures of the same frames, where there is a game
    world: RulesWorld | None = None  # of the first frame, where there is a game
    sentences: tuple[TextEvent, ...] = ()  # what players said to the world

    @classmethod
    def of_trace(cls, shown: Trace) -> LiveSession:
        """The replay of what players saw, in a world behind which there is no game."""
        actions = rearrange(torch.from_numpy(shown.actions), "t p k -> p t k")
        return cls(actions, _views(shown), shown.state, float(shown.fps), sentences=shown.text_events)

    @classmethod
    def of_traces(cls, shown: Trace, true: Trace, later: int, dynamics: RulesDynamics) -> LiveSession:
        """Two replays of one session: what players saw, and the game's own pictures.

        `later`: frames by which the second begins before the first.
        """
        return replace(
            cls.of_trace(shown),
            truth=_views(true)[:, later : later + shown.num_frames],
            world=dynamics.start({name: values[0] for name, values in shown.state.items()}),
        )

    def before_words(self) -> LiveSession:
        """The session up to the first sentence."""
        if not self.sentences:
            return self
        stop = self.sentences[0].frame
        return replace(
            self,
            actions=self.actions[:, :stop],
            video=self.video[:, :stop],
            truth=None if self.truth is None else self.truth[:, :stop],
            facts={name: values[:stop] for name, values in self.facts.items()},
            sentences=(),
        )


def control(session: LiveSession, judges: Judges, commands: Commands) -> dict[str, Any]:
    """SR-C of each player, over the blocks in which one command was held from the first frame to the last.

    The ceiling is the judge's score on the game's own pictures of the same blocks; None where there is no game.
    """
    held = held_commands(session.actions, commands, judges.inverse_dynamics.block_frames)[:, 1:]
    is_judged = held != UNLISTED
    is_right = judges.commands_in(session.video[None], commands, first_block=1)[0] == held
    ceiling = None
    if session.truth is not None:
        is_right_in_truth = judges.commands_in(session.truth[None], commands, first_block=1)[0] == held
        ceiling = _shares(is_right_in_truth, is_judged)
    return {
        "sr_c": _shares(is_right, is_judged),
        "sr_c_mean": _share(is_right[is_judged]),
        "sr_c_ceiling": ceiling,
        "sr_c_chance": commands.chance,
        "sr_c_by_command": {name: _share(is_right[held == number]) for number, name in enumerate(commands.names)},
        "sr_c_blocks": is_judged.sum(1).tolist(),
        "judge_accuracy_on_recordings": judges.ceilings["commands"],
    }


def held_commands(actions: UInt8[Tensor, "p t k"], commands: Commands, block_frames: int) -> Int[Tensor, "p n"]:
    """The command that was held for the whole of each block, or UNLISTED."""
    numbers = commands.numbers_of(actions).unfold(1, block_frames, block_frames)
    return torch.where((numbers == numbers[..., :1]).all(-1), numbers[..., 0], UNLISTED)


def covisibility(session: LiveSession, question: CoVisibility, signs: SnowglobeSigns) -> dict[str, Any]:
    """F1 of seeing each other where the game has them; chance: the pictures of half the session later.

    Colours are looked for in the light of the first frame: in a session in which nobody speaks it stays as it is.
    """
    assert session.world is not None
    assert session.truth is not None
    later = session.video.roll(session.video.shape[1] // 2, dims=1)
    made, real, chance = (
        question.tally_of(signs, session.world, session.facts, video, np.arange(video.shape[1]))
        for video in (session.video, session.truth, later)
    )
    return {
        "covisibility_f1": made.f1,
        "covisibility_f1_ceiling": real.f1,
        "covisibility_f1_chance": chance.f1,
        "covisibility_sightings": made.hits + made.missed,
    }


def words(session: LiveSession, judges: Judges, question: WordsInAllViews) -> dict[str, Any]:
    """SR-E: the share of the sentences after which every view shows what was asked for; ceiling: the game's own views.

    A sentence counts that the judge knows something of, and after which, for as long as it is judged, the session goes
    on and nobody says anything else of the same.
    """
    assert session.truth is not None
    known = () if judges.environment is None else judges.environment.classes
    facts = [instruction_effect(said.text)[0] for said in session.sentences]
    judged = []
    for number, (said, fact) in enumerate(zip(session.sentences, facts, strict=True)):
        later = zip(session.sentences[number + 1 :], facts[number + 1 :], strict=True)
        stop = min((other.frame for other, of in later if of == fact), default=session.video.shape[1])
        if fact in known and said.frame + round(question.judged_until * session.fps) < stop:
            judged.append(said)
    if not judged:
        return {"sr_e": None, "sr_e_ceiling": None, "sr_e_sentences": 0}
    made, real = (
        torch.stack([question.is_granted(judges, said.text, said.frame, video, session.fps).all() for said in judged])
        for video in (session.video, session.truth)
    )
    return {"sr_e": _share(made), "sr_e_ceiling": _share(real), "sr_e_sentences": len(judged)}


def _views(trace: Trace) -> UInt8[Tensor, "p t 3 h w"]:
    views = np.stack([read_video(trace.video_path(seat))[0] for seat in range(trace.num_players)])
    return rearrange(torch.from_numpy(views), "p t h w c -> p t c h w")


def _shares(is_right: Bool[Tensor, "p n"], is_judged: Bool[Tensor, "p n"]) -> list[float | None]:
    """Of each player, rounded as `_share` does."""
    return [_share(right[judged]) for right, judged in zip(is_right, is_judged, strict=True)]


def _share(is_right: Bool[Tensor, " n"]) -> float | None:
    """Rounded to five places; None where there is nothing to judge."""
    return round(share(is_right), 5) if len(is_right) else None
