"""How many steps should a solver take? What a model obeys, foresees and costs with each choice, side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row, share
from gamegen_x.evaluation.generation import Beginning, Sampler
from gamegen_x.evaluation.reconstruction import psnr_db
from gamegen_x.evaluation.recordings import as_bytes, as_pixels
from gamegen_x.evaluation.subject import Subject
from gamegen_x.sampling.clip_sampler import SampleRequest


@runtime_checkable
class Solvable(Sampler, Protocol):
    """A sampler that can also solve in other steps, as ClipSampler can."""

    def with_solver(self, solver: str, num_steps: int) -> Sampler: ...


@dataclass(frozen=True)
class Choice:
    """What one solver with one number of steps comes to."""

    solver: str
    num_steps: int
    sr_c: float
    psnr_db: float
    frames_per_second: float

    @property
    def name(self) -> str:
        return f"{self.solver}, {self.num_steps} {'step' if self.num_steps == 1 else 'steps'}"


class SolverSteps:
    """SR-C of short plays, PSNR of the first block against what really came, and speed, for each solver and number.

    For the first block the real players' own keys are held. The ceiling of its PSNR is the VAE's, chance is to repeat
    the last frame. Frames are counted over all clips of a batch, decoding included, on this machine as it was then.
    """

    def __init__(self, *, choices: Mapping[str, Sequence[int]], num_blocks: int) -> None:
        self.choices = [(solver, number) for solver, numbers in choices.items() for number in numbers]
        self.num_blocks = num_blocks

    def ask(self, subject: Subject) -> Answer | None:
        if not subject.is_player or not isinstance(subject.sampler, Solvable):
            return None
        found = [self._choice(subject, subject.sampler, solver, number) for solver, number in self.choices]
        known = self._first_blocks(subject)
        real = torch.stack([self._real(subject, each) for each in known])
        kept = subject.reconstructed(real)
        size = subject.generation.block_frames
        ceiling_db = float(psnr_db(real[:, -size:], kept[:, -size:]).mean())
        repeated = real[:, -size - 1 : -size].expand_as(real[:, -size:])
        repeated_db = float(psnr_db(real[:, -size:], repeated).mean())
        ceiling, chance = subject.judges.ceilings["commands"], subject.commands.chance
        rows = [Row(f"SR-C, {each.name}", each.sr_c, ceiling, chance) for each in found]
        rows += [Row(f"first block, {each.name}", each.psnr_db, ceiling_db, repeated_db, unit="dB") for each in found]
        rows += [Row(f"frames a second, {each.name}", each.frames_per_second, unit="") for each in found]
        figures: dict[str, Any] = {
            "solver_steps": {each.name: vars(each) for each in found},
            "first_block_ceiling_db": ceiling_db,
            "first_block_repeated_db": repeated_db,
        }
        explanation = (
            f"{self.num_blocks} blocks of {len(subject.beginnings)} clips with each solver. Euler looks at the network "
            "once a step, Heun twice, and once in its last step."
        )
        return Answer("Steps: how few are enough?", explanation, figures, rows)

    def _choice(self, subject: Subject, sampler: Solvable, solver: str, num_steps: int) -> Choice:
        chosen = sampler.with_solver(solver, num_steps)
        started = time.perf_counter()
        play = subject.generation.play(
            f"{solver}, {num_steps} steps",
            chosen,
            subject.beginnings,
            subject.commands,
            subject.drawn[:, :, : self.num_blocks],
            [()] * len(subject.beginnings),
            use_instructnet=True,
        )
        made = self.num_blocks * subject.generation.block_frames * play.video.shape[0] * play.video.shape[1]
        rate = made / (time.perf_counter() - started)
        said = subject.judges.commands_in(play.video, subject.commands, subject.generation.first_block)
        return Choice(solver, num_steps, share(said == play.commands), self._first_block_db(subject, chosen), rate)

    def _first_block_db(self, subject: Subject, sampler: Sampler) -> float:
        """Of the block after the context, under the keys that were really held."""
        generation, known = subject.generation, self._first_blocks(subject)
        size, total = generation.block_frames, generation.context_frames + generation.block_frames
        actions = [each.recording.actions[:, each.start : each.start + total].float() for each in known]
        context = [each.context(generation.context_frames) for each in known]
        request = SampleRequest(
            prompts=[each.recording.caption for each in known],
            num_frames=total,
            seed=generation.seed,
            num_players=actions[0].shape[0],
            actions=torch.stack(actions),
            context=as_pixels(torch.stack(context)),
        )
        made = as_bytes(sampler.sample(request, None)[:, 0, -size:]).cpu()
        real = torch.stack([self._real(subject, each)[-size:] for each in known])
        return float(psnr_db(real, made).mean())

    def _first_blocks(self, subject: Subject) -> list[Beginning]:
        """The beginnings after which the recording goes on for a block."""
        total = subject.generation.context_frames + subject.generation.block_frames
        return [each for each in subject.beginnings if each.start + total <= each.recording.num_frames]

    def _real(self, subject: Subject, beginning: Beginning) -> UInt8[Tensor, "t 3 h w"]:
        """Context and the block that really came, as the first player saw them."""
        total = subject.generation.context_frames + subject.generation.block_frames
        return beginning.recording.video[0, beginning.start : beginning.start + total]
