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
from gamegen_x.evaluation.generation import Sampler
from gamegen_x.evaluation.reconstruction import psnr_db
from gamegen_x.evaluation.recordings import as_bytes, as_pixels
from gamegen_x.evaluation.subject import Subject
from gamegen_x.sampling.clip_sampler import SampleRequest


@runtime_checkable
class Solvable(Sampler, Protocol):
    """A sampler that can also solve in other steps, as ClipSampler can."""

    def with_solver(self, solver: str, num_steps: int) -> Sampler: ...


@dataclass(frozen=True)
class FirstBlock:
    """The block after the context, of all beginnings after which the recording goes on for one."""

    request: SampleRequest  # under the keys that were really held
    real: UInt8[Tensor, "n t 3 h w"]  # context and block, as the first player saw them


@dataclass(frozen=True)
class Choice:
    """What one solver with one number of steps comes to."""

    name: str
    sr_c: float
    psnr_db: float
    frames_per_second: float


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
        first, size = self._first_block(subject), subject.generation.block_frames
        found = [self._choice(subject, subject.sampler, first, solver, number) for solver, number in self.choices]
        real = first.real
        kept = subject.reconstructed(real)
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

    def _choice(self, subject: Subject, sampler: Solvable, first: FirstBlock, solver: str, num_steps: int) -> Choice:
        chosen, name = sampler.with_solver(solver, num_steps), f"{solver}, {num_steps} step{'s' * (num_steps != 1)}"
        started = time.perf_counter()
        play = subject.generation.play(
            name,
            chosen,
            subject.beginnings,
            subject.commands,
            subject.drawn[:, :, : self.num_blocks],
            [()] * len(subject.beginnings),
            use_instructnet=True,
        )
        size = subject.generation.block_frames
        rate = play.commands.numel() * size / (time.perf_counter() - started)
        said = subject.judges.commands_in(play.video, subject.commands, subject.generation.first_block)
        made = as_bytes(chosen.sample(first.request, None)[:, 0, -size:]).cpu()
        return Choice(name, share(said == play.commands), float(psnr_db(first.real[:, -size:], made).mean()), rate)

    def _first_block(self, subject: Subject) -> FirstBlock:
        """Raises ValueError where every beginning is the end of its recording."""
        generation = subject.generation
        total = generation.context_frames + generation.block_frames
        known = [each for each in subject.beginnings if each.start + total <= each.recording.num_frames]
        if not known:
            raise ValueError(f"no recording goes on for {total} frames from where a clip begins; record longer ones")
        actions = [each.recording.actions[:, each.start : each.start + total].float() for each in known]
        request = SampleRequest(
            prompts=[generation.prompt_of(each) for each in known],
            num_frames=total,
            seed=generation.seed,
            num_players=actions[0].shape[0],
            actions=torch.stack(actions),
            context=as_pixels(torch.stack([each.context(generation.context_frames) for each in known])),
        )
        return FirstBlock(
            request, torch.stack([each.recording.video[0, each.start : each.start + total] for each in known])
        )
