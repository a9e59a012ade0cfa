"""SR-C: does the world do what its players' keys say? Judged block by block by inverse dynamics."""

from __future__ import annotations

from typing import Any

from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Film, Pane, Row, margin_95, share
from gamegen_x.evaluation.generation import Play
from gamegen_x.evaluation.plots import curves
from gamegen_x.evaluation.subject import Subject

NAMED_BLOCKS = 4  # the first blocks are named one by one


class ControlSuccess:
    """SR-C is the share of generated blocks whose command the judge reads as the one that was drawn.

    Commands are drawn uniformly for every block and player, so that an image of the recording scores chance. The
    ceiling is the judge's own score on real video of unseen worlds.
    """

    def __init__(self, *, num_films: int) -> None:
        self.num_films = num_films

    def ask(self, subject: Subject) -> Answer | None:
        if not subject.is_player:
            return None
        is_right = self._is_right(subject, subject.play)
        by_block = is_right.float().mean((0, 1))
        unsteered = self._is_right(subject, subject.play_without_instructnet)
        unsteered_by_block = unsteered.float().mean((0, 1))
        ceiling, chance = subject.judges.ceilings["commands"], subject.commands.chance
        sr_c = share(is_right)
        thirds = [share(third) for third in is_right.chunk(3, dim=-1)]
        block_4 = float(by_block[min(NAMED_BLOCKS, len(by_block)) - 1])
        by_command = {
            name: share(is_right[subject.play.commands == number]) for number, name in enumerate(subject.commands.names)
        }
        figures: dict[str, Any] = {
            "sr_c": sr_c,
            "sr_c_margin_95": margin_95(is_right.float().mean((1, 2))),
            "sr_c_of_ceiling": sr_c / ceiling,
            "sr_c_by_block": by_block.tolist(),
            "sr_c_block_4": block_4,
            "sr_c_block_4_of_ceiling": block_4 / ceiling,
            "sr_c_first_4_blocks": share(is_right[..., :NAMED_BLOCKS]),
            "sr_c_by_third": thirds,
            "sr_c_by_command": by_command,
            "sr_c_without_instructnet": share(unsteered),
            "sr_c_without_instructnet_by_block": unsteered_by_block.tolist(),
            "sr_c_chance": chance,
            "sr_c_without_instructnet_above_chance": share(unsteered) - chance,
            "ceiling_accuracy": ceiling,
            "ceiling_accuracy_by_command": {
                name: subject.judges.ceilings[f"commands.{name}"] for name in subject.commands.names
            },
            "num_clips": len(subject.play),
            "num_blocks": len(by_block),
        }
        rows = [Row("SR-C, all blocks", sr_c, ceiling, chance)]
        rows += [
            Row(f"SR-C, block {number + 1}", float(value), ceiling, chance)
            for number, value in enumerate(by_block[:NAMED_BLOCKS])
        ]
        rows += [
            Row(f"SR-C, {name} third", value, ceiling, chance)
            for name, value in zip(("first", "second", "last"), thirds, strict=False)
        ]
        rows += [
            Row(f"SR-C of {name!r}", value, subject.judges.ceilings[f"commands.{name}"], chance)
            for name, value in by_command.items()
        ]
        rows.append(Row("SR-C without InstructNet", share(unsteered), ceiling, chance))
        plot = curves(
            {"SR-C": by_block.tolist(), "without InstructNet": unsteered_by_block.tolist()},
            {"ceiling (real video)": ceiling, "chance": chance},
            x="generated block",
            y="share of blocks obeyed",
        )
        seconds = len(by_block) * subject.generation.block_frames / subject.recordings.fps
        explanation = (
            f"{len(subject.play)} clips of {len(by_block)} blocks ({seconds:.1f} s). Keys are drawn afresh for every "
            f"block, each of {', '.join(subject.commands.names)} equally likely. An inverse-dynamics network trained "
            "on real recordings reads the keys back; its score on real video of unseen worlds is the ceiling."
        )
        films = [self._film(subject, number) for number in range(min(self.num_films, len(subject.play)))]
        return Answer("Control: do worlds obey their keys?", explanation, figures, rows, [plot], films)

    def _is_right(self, subject: Subject, play: Play) -> Bool[Tensor, "b p n"]:
        said = subject.judges.commands_in(play.video, subject.commands, subject.generation.first_block)
        return said == play.commands

    def _film(self, subject: Subject, number: int) -> Film:
        """Real, reconstructed, generated. All three begin alike; the real players then press their own keys."""
        play, beginning = subject.play, subject.play.beginnings[number]
        recording, context_frames = beginning.recording, play.context_frames
        stop = min(beginning.start + play.video.shape[2], recording.num_frames)
        stop -= (stop - beginning.start) % subject.vae.unit_frames
        real = recording.video[:, beginning.start : stop]
        keys = rearrange(recording.actions[:, beginning.start : stop].float(), "p t k -> t p k")
        return Film(
            caption=f"{recording.key} from frame {beginning.start}",
            panes=[
                Pane("real", subject.shown(real), keys, context_frames=context_frames),
                Pane("reconstructed", subject.shown(subject.reconstructed(real))),
                Pane(
                    "generated, fresh keys",
                    subject.shown(play.video[number]),
                    rearrange(play.actions[number], "p t k -> t p k"),
                    context_frames=context_frames,
                ),
            ],
        )
