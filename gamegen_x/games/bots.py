"""Bots: habits that press keys, so that worlds can be recorded without people.

A habit decides at the first frame of a block and holds its keys for whole blocks, so that each latent frame has one
command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Keys
from gamegen_x.schema.action_space import NO_KEY, ActionSpace

Facts = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Situation:
    """What a habit is asked about: its seat, the truth of the frame shown last, and the chance it may use."""

    seat: int
    facts: Facts
    rng: np.random.Generator
    keys: ActionSpace
    memory: dict[str, Any]  # the habit's own, one a player, empty when the episode starts


class Habit(Protocol):
    """Says which keys to hold and for how many blocks."""

    def decide(self, situation: Situation) -> tuple[Keys, int]: ...


@dataclass(frozen=True)
class RandomHolds:
    """Draws one of `common` commands, or now and then one of `rare`, and holds it for a random number of blocks."""

    common: Sequence[str]  # keys joined by "+"; "_" is none
    rare: Sequence[str]
    rare_share: float
    blocks: Sequence[int]  # the lengths of a hold, all equally likely

    def decide(self, situation: Situation) -> tuple[Keys, int]:
        rng = situation.rng
        commands = self.rare if self.rare and rng.uniform() < self.rare_share else self.common
        command = commands[int(rng.integers(len(commands)))]
        return command_keys(situation.keys, command), int(rng.choice(list(self.blocks)))


class Bot:
    """One player: asks its habit at the block's first frame, and holds what it said until the hold is over."""

    def __init__(self, habit: Habit, seat: int, keys: ActionSpace, rng: np.random.Generator, block_frames: int) -> None:
        self.habit, self.seat, self.keys, self.rng, self.block_frames = habit, seat, keys, rng, block_frames
        self.held: Keys = np.zeros(keys.num_keys, np.uint8)
        self.frames_left = 0
        self.memory: dict[str, Any] = {}

    def press(self, facts: Facts) -> Keys:
        """The keys `[k]` held at the next frame, given the truth of the one before."""
        if self.frames_left == 0:
            situation = Situation(self.seat, facts, self.rng, self.keys, self.memory)
            self.held, num_blocks = self.habit.decide(situation)
            self.frames_left = num_blocks * self.block_frames
        self.frames_left -= 1
        return self.held


@dataclass(frozen=True)
class Mix:
    """Which habits there are, how likely each is for a player in an episode, and how long a block is in frames."""

    habits: Mapping[str, Habit]
    shares: Mapping[str, float]
    block_frames: int

    def __post_init__(self) -> None:
        unknown = sorted(set(self.shares) - set(self.habits))
        if unknown:
            raise ValueError(f"shares name the habits {unknown}, there are {sorted(self.habits)}")
        if self.block_frames < 1 or min(self.shares.values()) < 0 or sum(self.shares.values()) <= 0:
            raise ValueError(f"need block_frames >= 1 and shares >= 0 that are not all 0, got {self}")

    def bot(self, seat: int, keys: ActionSpace, rng: np.random.Generator) -> tuple[str, Bot]:
        """A player with a habit drawn from the shares, and the habit's name."""
        names = list(self.shares)
        shares = np.array([self.shares[name] for name in names], np.float64)
        name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        return name, Bot(self.habits[name], seat, keys, rng, self.block_frames)


def command_keys(keys: ActionSpace, command: str) -> Keys:
    """The vector `[k]` of a command such as "w+d"; "_" holds no key. Raises ValueError on unknown keys."""
    return keys.encode(name for name in command.split("+") if name != NO_KEY)
