"""SR-C of each player in one world: is everybody obeyed, and by the right view?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row, share
from gamegen_x.evaluation.meetings import Met
from gamegen_x.evaluation.subject import Subject


class PlayersObey:
    """Every block of every player is judged alone. With the players' keys swapped each view must follow the new ones.

    The ceiling is the judge's score on the game's own pictures of the same worlds under the same keys.
    """

    def __init__(self, *, meeting: str, seconds: float, swapped_seconds: float) -> None:
        self.meeting = meeting
        self.seconds = seconds
        self.swapped_seconds = swapped_seconds

    def ask(self, subject: Subject) -> Answer | None:
        if subject.live is None:
            return None
        met = subject.meeting(self.meeting)
        right = by_player(subject, met, self.seconds)
        real = by_player(subject, [replace(one, video=one.staged.video) for one in met], self.seconds)
        swapped = self._swapped(subject, met)
        followed, ignored = by_player(subject, swapped), by_player(subject, swapped, keys_of=met)
        sr_c, ceilings = [share(each) for each in right], [share(each) for each in real]
        ceiling, chance = float(torch.tensor(ceilings).mean()), subject.commands.chance
        figures = {
            "sr_c": sr_c,
            "sr_c_mean": sum(sr_c) / len(sr_c),
            "sr_c_ceiling": ceilings,
            "sr_c_of_ceiling": [value / top for value, top in zip(sr_c, ceilings, strict=True)],
            "sr_c_chance": chance,
            "ceiling_accuracy": ceiling,
            "judge_accuracy_on_recordings": subject.judges.ceilings["commands"],
            "sr_c_swapped": [share(each) for each in followed],
            "sr_c_swapped_by_old_keys": [share(each) for each in ignored],
            "num_worlds": len(met),
            "num_blocks": right[0].numel() // len(met),
        }
        rows = [
            Row(f"SR-C of player {player}", value, top, chance)
            for player, (value, top) in enumerate(zip(sr_c, ceilings, strict=True))
        ]
        rows += [
            Row(f"player {player}, keys swapped", share(each), ceilings[player], share(ignored[player]))
            for player, each in enumerate(followed)
        ]
        explanation = (
            f"{len(met)} worlds of {len(sr_c)} players, {self.seconds:g} s each, keys drawn afresh for every block. "
            "Swapped: the same worlds, where everybody holds what another held; 'chance' is then how often a view "
            "still follows the keys that are not its own any more."
        )
        return Answer("Control: is every player obeyed?", explanation, figures, rows)

    def _swapped(self, subject: Subject, met: Sequence[Met]) -> list[Met]:
        """The same beginnings; after them every player has the keys of the next one."""
        assert subject.meetings is not None
        start = subject.meetings.context_blocks
        stop = start + blocks_of(subject, self.swapped_seconds)
        scripts = []
        for one in met:
            lines = one.staged.script.keys
            others = [*lines[1:], lines[0]]
            keys = [line[:start] + other[start:stop] for line, other in zip(lines, others, strict=True)]
            scripts.append(replace(one.staged.script, keys=keys))
        return subject.meet("players with swapped keys", scripts)


def blocks_of(subject: Subject, seconds: float) -> int:
    return round(seconds * subject.recordings.fps / subject.generation.block_frames)


def by_player(
    subject: Subject, met: Sequence[Met], seconds: float | None = None, keys_of: Sequence[Met] | None = None
) -> list[Bool[Tensor, "b n"]]:
    """Whether the judge reads each player's generated blocks as their keys, or as those of other worlds."""
    assert subject.meetings is not None
    first = subject.meetings.context_blocks
    size = subject.generation.block_frames
    num_blocks = min(one.staged.commands.shape[1] for one in met) - first
    if seconds is not None:
        num_blocks = min(num_blocks, blocks_of(subject, seconds))
    is_right = []
    for one, held in zip(met, met if keys_of is None else keys_of, strict=True):
        said = subject.judges.commands_in(one.video[None, :, : (first + num_blocks) * size], subject.commands, first)[0]
        is_right.append(said == held.staged.commands[:, first : first + num_blocks])
    return list(torch.stack(is_right, dim=1))
