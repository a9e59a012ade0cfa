"""Meetings: what the players of one world do, as committed keys; as it truly was, and as a model makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gamegen_x.data.state import Drawing
from gamegen_x.evaluation.commands import Commands
from gamegen_x.evaluation.progress import Progress
from gamegen_x.evaluation.recordings import as_pixels
from gamegen_x.games.dynamics import RulesDynamics, RulesWorld
from gamegen_x.games.snowglobe_signs import SnowglobeSigns
from gamegen_x.sampling.stream import Stream
from gamegen_x.sampling.stream_sampler import StreamSampler
from gamegen_x.sampling.truth import Told, Truth
from gamegen_x.world.facts import Facts, stacked


@dataclass(frozen=True)
class LiveModel:
    """A model that makes worlds run on, and how it is told what is true of them (None: it is told nothing)."""

    streams: StreamSampler
    drawing: Drawing | None


@dataclass(frozen=True)
class Script:
    """What happens in one world. `keys` has a line a player, in it a letter a block: the key held, or `.` for none."""

    seed: int
    prompt: str
    keys: Sequence[str]
    says: str = ""
    says_at: int = 0  # block, before which the sentence is said


@dataclass(frozen=True)
class Staged:
    """One script as the game plays and shows it. The first `context_frames` frames are a model's beginning."""

    script: Script
    commands: Int[Tensor, "p n"]  # numbers of commands, by block
    actions: Float[Tensor, "p t k"]
    facts: Facts  # t ...
    video: UInt8[Tensor, "p t 3 h w"]
    begun: RulesWorld  # at the last frame of the context
    context_frames: int

    def visible(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether the row's player sees the column's: `[t p p]`."""
        return np.asarray(self.facts["visible"])


@dataclass(frozen=True)
class Met:
    """A script as a model makes it, beside the truth."""

    staged: Staged
    video: UInt8[Tensor, "p t 3 h w"]


class Meetings:
    """Plays scripts, in the game and with a model. The same script gives the same world and the same noise."""

    def __init__(
        self,
        *,
        dynamics: RulesDynamics,
        signs: SnowglobeSigns,
        split: str,
        scripts: Mapping[str, Sequence[Mapping[str, Any]]],  # name of a meeting -> what happens in each of its worlds
        max_worlds: int,  # of each meeting
        max_blocks: int | None,  # of each script; null: all
        repeats: int,  # times that the keys after a script's beginning are played, one after the other
        context_blocks: int,
        block_frames: int,
        batch_size: int,
        session: int,
        seconds_between_lines: float,
    ) -> None:
        self.dynamics, self.signs, self.split = dynamics, signs, split
        if repeats < 1:
            raise ValueError(f"repeats of meetings is at least 1, got {repeats}")
        self.context_blocks, self.block_frames = context_blocks, block_frames
        self.scripts = {
            name: [self._stretched(Script(**each), max_blocks, repeats) for each in scripts[name]][:max_worlds]
            for name in scripts
        }
        self.batch_size, self.session = batch_size, session
        self.seconds_between_lines = seconds_between_lines

    def scripts_of(self, name: str) -> list[Script]:
        """Raises ValueError for a meeting that nobody wrote."""
        if name not in self.scripts:
            raise ValueError(f"no scripts for the meeting {name!r}; there are {sorted(self.scripts)}")
        return self.scripts[name]

    def met(self, title: str, scripts: Sequence[Script], model: LiveModel, commands: Commands) -> list[Met]:
        """Every script, with pictures from the game and from the model."""
        progress = Progress(f"{title}, worlds", len(scripts), self.seconds_between_lines)
        found: list[Met] = []
        for first in range(0, len(scripts), self.batch_size):
            staged = [self.staged(script, commands) for script in scripts[first : first + self.batch_size]]
            found += [Met(one, video) for one, video in zip(staged, self._played_on(staged, model), strict=True)]
            progress(len(found))
        return found

    def staged(self, script: Script, commands: Commands) -> Staged:
        numbers = self._commands(script, commands)
        actions = repeat(torch.from_numpy(commands.rows)[numbers], "p n k -> p (n f) k", f=self.block_frames)
        world = self.dynamics.fresh(script.seed, self.split)
        context_frames = self.context_blocks * self.block_frames
        facts, views, begun = [], [], world
        for frame, held in enumerate(rearrange(actions, "p t k -> t p k").numpy()):
            if script.says and frame == script.says_at * self.block_frames:
                world = world.told(script.says)
            world = world.after(held)
            facts.append(world.facts())
            views.append(np.stack(world.views()))
            if frame == context_frames - 1:
                begun = world
        return Staged(
            script=script,
            commands=numbers,
            actions=actions.float(),
            facts=stacked(facts),
            video=rearrange(torch.from_numpy(np.stack(views)), "t p h w c -> p t c h w").contiguous(),
            begun=begun,
            context_frames=context_frames,
        )

    def begin(self, staged: Staged, model: LiveModel) -> Stream:
        """A stream that has seen the script's beginning, and steps its truth where the model is told of it."""
        context = staged.context_frames
        told, truth = None, None
        if model.drawing is not None:
            told = Told(*model.drawing({name: values[:context] for name, values in staged.facts.items()}))
            truth = Truth(staged.begun, model.drawing)
        return model.streams.start(
            staged.script.prompt,
            self.session + staged.script.seed,
            len(staged.actions),
            as_pixels(staged.video[:, :context]),
            staged.actions[:, :context],
            told,
            truth,
        )

    def keys(self, staged: Staged, frames: slice, num_slots: int) -> Float[Tensor, "slots f k"]:
        """The keys of all slots in these frames."""
        held = staged.actions[:, frames]
        return torch.cat([held, held.new_zeros(num_slots - len(held), *held.shape[1:])])

    def _played_on(self, staged: Sequence[Staged], model: LiveModel) -> list[UInt8[Tensor, "p t 3 h w"]]:
        running = [self.begin(one, model) for one in staged]
        videos = [one.video.clone() for one in staged]
        for now in self.steps(max(staged, key=lambda one: one.actions.shape[1]), model):
            going = [i for i, one in enumerate(staged) if now.start < one.actions.shape[1]]
            for i in going:
                if staged[i].script.says and now.start == staged[i].script.says_at * self.block_frames:
                    model.streams.instruct(running[i], staged[i].script.says)
            keys = [self.keys(staged[i], now, running[i].num_slots) for i in going]
            made = model.streams.step([running[i] for i in going], keys)
            for i, frames in zip(going, made, strict=True):
                videos[i][:, now] = frames[: len(videos[i])]
        return videos

    def steps(self, staged: Staged, model: LiveModel) -> list[slice]:
        """The frames of each step of the model. Raises ValueError where a block is not one or more whole steps."""
        size = model.streams.networks.vae.temporal_factor
        if self.block_frames % size:
            raise ValueError(
                f"a block of a script has {self.block_frames} frames, a step of these weights {size}; give "
                "suite.generation.block_frames a multiple of it"
            )
        return [slice(at, at + size) for at in range(staged.context_frames, staged.actions.shape[1], size)]

    def _stretched(self, script: Script, max_blocks: int | None, repeats: int) -> Script:
        begun = self.context_blocks
        return replace(script, keys=[line[:begun] + line[begun:max_blocks] * repeats for line in script.keys])

    def _commands(self, script: Script, commands: Commands) -> Int[Tensor, "p n"]:
        """Raises ValueError where a script holds letters that are no commands."""
        number_of = {name.replace("_", "."): number for number, name in enumerate(commands.names)}
        strange = sorted({letter for line in script.keys for letter in line} - number_of.keys())
        if strange or len({len(line) for line in script.keys}) != 1:
            raise ValueError(
                f"the script of seed {script.seed} has lines of {[len(line) for line in script.keys]} blocks and holds "
                f"{strange}; lines are equally long, of the letters {sorted(number_of)}"
            )
        return torch.tensor([[number_of[letter] for letter in line] for line in script.keys])
