"""What a model makes of real beginnings under keys that are drawn afresh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gamegen_x.evaluation.commands import Commands
from gamegen_x.evaluation.progress import Progress
from gamegen_x.evaluation.recordings import Recording, as_bytes, as_pixels
from gamegen_x.models.coding import Coding
from gamegen_x.sampling.clip_sampler import SampleRequest
from gamegen_x.sampling.truth import Draw, Told
from gamegen_x.schema.caption import Instruction
from gamegen_x.world.facts import Dynamics, continued


@runtime_checkable
class Sampler(Protocol):
    """Whoever turns requests into video: a ClipSampler, or a stand-in whose answers are known."""

    def sample(
        self, request: SampleRequest, on_progress: Callable[[int, int], None] | None
    ) -> Float[Tensor, "b p t 3 h w"]:
        """`on_progress` is told now and then how much of the request is done, and of how much."""
        ...


@dataclass(frozen=True)
class Beginning:
    """Where in a recording a generated clip begins."""

    recording: Recording
    start: int  # frame

    def context(self, num_frames: int) -> UInt8[Tensor, "p t 3 h w"]:
        return self.recording.video[:, self.start : self.start + num_frames]


@dataclass(frozen=True)
class Telling:
    """How networks that are told what is true of their world are told of one that goes on under fresh keys."""

    dynamics: Dynamics
    draw: Draw
    coding: Coding

    def __call__(self, beginning: Beginning, actions: Float[Tensor, "p t k"], context_frames: int) -> Told:
        """What is true of the beginning's own frames, and of those that follow under the keys. Raises ValueError where
        the recording does not say what all players did."""
        recording, start = beginning.recording, beginning.start
        if recording.state is None:
            raise ValueError(
                f"{recording.key} is one view of several, and dynamics step what all players do; "
                "set dynamics=none, or reading.num_players to the players of the recordings"
            )
        held = rearrange(actions > 0.5, "p t k -> t p k").to(torch.uint8).numpy()
        held = np.pad(held, ((0, -len(held) % self.coding.unit_frames), (0, 0), (0, 0)))  # the last unit is made whole
        past = {name: values[start : start + context_frames] for name, values in recording.state.items()}
        rows = self.coding.rows(len(held))
        facts = continued(self.dynamics, past, held)
        return Told(*self.draw({name: values[rows] for name, values in facts.items()}))


@dataclass(frozen=True)
class Play:
    """Generated clips: real context first, then a block for each command."""

    beginnings: Sequence[Beginning]
    commands: Int[Tensor, "b p n"]
    instructions: Sequence[Sequence[Instruction]]
    video: UInt8[Tensor, "b p t 3 h w"]
    actions: Float[Tensor, "b p t k"]
    context_frames: int

    def __len__(self) -> int:
        return len(self.beginnings)


class Generation:
    """How clips are begun and sampled. Clip i is the same however many clips follow it."""

    def __init__(
        self,
        *,
        num_clips: int,
        context_frames: int,
        block_frames: int,
        batch_size: int,
        prompt: str | None,  # null: the recording's caption
        seed: int,
        seconds_between_lines: float,
    ) -> None:
        if context_frames % block_frames or context_frames < block_frames:
            raise ValueError(
                f"context_frames is one block of {block_frames} frames or several whole ones, got {context_frames}"
            )
        self.num_clips = num_clips
        self.context_frames = context_frames
        self.block_frames = block_frames
        self.batch_size = batch_size
        self.prompt = prompt
        self.seed = seed
        self.seconds_between_lines = seconds_between_lines

    @property
    def first_block(self) -> int:
        """The number of the first generated block."""
        return self.context_frames // self.block_frames

    def beginnings(self, recordings: Sequence[Recording]) -> list[Beginning]:
        """Places in the recordings, each recording used once before any is used again."""
        generator = torch.Generator().manual_seed(self.seed)
        order: list[int] = []
        while len(order) < self.num_clips:
            order += torch.randperm(len(recordings), generator=generator).tolist()
        chosen = [recordings[number] for number in order[: self.num_clips]]
        return [
            Beginning(
                recording,
                int(torch.randint(recording.num_frames - self.context_frames + 1, (), generator=generator)),
            )
            for recording in chosen
        ]

    def play(
        self,
        title: str,
        sampler: Sampler,
        beginnings: Sequence[Beginning],
        commands: Commands,
        drawn: Int[Tensor, "b p n"],
        instructions: Sequence[Sequence[Instruction]],
        *,
        use_instructnet: bool,
        telling: Telling | None = None,
    ) -> Play:
        """Generates a clip from every beginning, `batch_size` at a time."""
        actions = torch.cat([self._context_actions(beginnings), commands.actions(drawn, self.block_frames)], dim=2)
        progress = Progress(f"{title}, clips", len(beginnings), self.seconds_between_lines)
        parts: list[Tensor] = []
        for first in range(0, len(beginnings), self.batch_size):
            part = slice(first, first + self.batch_size)
            told = [
                telling(beginning, keys, self.context_frames)
                for beginning, keys in zip(beginnings[part], actions[part], strict=True)
                if telling is not None
            ]
            near = [each.near for each in told if each.near is not None]
            request = SampleRequest(
                prompts=[self.prompt_of(beginning) for beginning in beginnings[part]],
                num_frames=actions.shape[2],
                seed=self.seed + first,
                num_players=actions.shape[1],
                actions=actions[part],
                context=as_pixels(torch.stack([each.context(self.context_frames) for each in beginnings[part]])),
                instructions=instructions[part],
                use_instructnet=use_instructnet,
                state=torch.stack([each.state for each in told]) if told else None,
                near=torch.stack(near) if near else None,
            )
            parts.append(as_bytes(sampler.sample(request, _within(progress, first, len(request.prompts))).cpu()))
            progress(first + len(request.prompts))
        return Play(beginnings, drawn, instructions, torch.cat(parts), actions, self.context_frames)

    def _context_actions(self, beginnings: Sequence[Beginning]) -> Float[Tensor, "b p t k"]:
        return torch.stack(
            [each.recording.actions[:, each.start : each.start + self.context_frames].float() for each in beginnings]
        )

    def prompt_of(self, beginning: Beginning) -> str:
        return beginning.recording.caption if self.prompt is None else self.prompt


def _within(progress: Progress, first: int, num_clips: int) -> Callable[[int, int], None]:
    """Progress inside a batch, counted in clips."""

    def on_progress(done: int, total: int) -> None:
        if done < total:
            progress(first + num_clips * done // total)

    return on_progress
