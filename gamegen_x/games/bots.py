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
from gamegen_x.games.snowglobe_rules import Kind
from gamegen_x.schema.action_space import NO_KEY, ActionSpace
from gamegen_x.world.facts import Facts
from gamegen_x.world.sphere import Cells, angle_between


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


@dataclass(frozen=True)
class Follow:
    """Goes to another player, then away again for a while, so that players meet and part. Needs the fact `pose`."""

    otherwise: Habit  # what it does alone, and on a whim
    whim: float  # share of decisions that are left to it
    near: float  # radians at which it has arrived
    leave_blocks: Sequence[int]  # for how long it goes away: at least, at most

    def decide(self, situation: Situation) -> tuple[Keys, int]:
        poses, rng, memory = situation.facts["pose"], situation.rng, situation.memory
        others = [seat for seat in range(len(poses)) if seat != situation.seat]
        if not others or rng.uniform() < self.whim:
            return self.otherwise.decide(situation)
        if memory.setdefault("friend", None) is None:
            memory["friend"], memory["leaving"] = others[int(rng.integers(len(others)))], 0
        right, up, angle = _way(poses[situation.seat], poses[memory["friend"]][:, 2])
        if memory["leaving"] > 0:
            memory["leaving"] -= 1
            if memory["leaving"] == 0:
                memory["friend"] = None
            return walk_keys(situation.keys, -right, -up, rng), 1
        if angle < self.near:
            memory["leaving"] = int(rng.integers(self.leave_blocks[0], self.leave_blocks[1] + 1))
        return walk_keys(situation.keys, right, up, rng), 1


@dataclass(frozen=True)
class Explore:
    """Walks to the nearest place that it has not seen yet. Needs the fact `pose`."""

    nside: int  # of the HEALPix cells that it remembers
    sight: float  # radians around it that count as seen

    def decide(self, situation: Situation) -> tuple[Keys, int]:
        memory, pose = situation.memory, situation.facts["pose"][situation.seat]
        if "unseen" not in memory:
            memory["unseen"] = Cells(self.nside).centres
        angles = angle_between(memory["unseen"], pose[:, 2])
        if angles.size > 0:
            memory["unseen"], angles = memory["unseen"][angles > self.sight], angles[angles > self.sight]
        if angles.size == 0:
            memory["unseen"] = Cells(self.nside).centres
            return np.zeros(situation.keys.num_keys, np.uint8), 1
        right, up, _ = _way(pose, memory["unseen"][int(np.argmin(angles))])
        return walk_keys(situation.keys, right, up, situation.rng), 1


@dataclass(frozen=True)
class Cooperate:
    """Does Snowglobe's work with whoever else does: chases the pest off the fort, rolls the big snowball into it."""

    otherwise: Habit  # what it does when nobody has come to help for too long
    reach: float  # radians at which it can do something with a thing
    guard: float  # radians from the fort within which a pest is in the way
    helpers: int
    patience: int  # blocks

    def decide(self, situation: Situation) -> tuple[Keys, int]:
        facts, memory = situation.facts, situation.memory
        pose, places = facts["pose"][situation.seat], facts["thing_place"]
        fort = places[0]
        pests = places[(facts["thing_kind"] == Kind.PEST) & (angle_between(places, fort) < self.guard)]
        balls = places[facts["thing_kind"] == Kind.BIG_BALL]
        if len(pests) + len(balls) == 0:
            return self.otherwise.decide(situation)
        target = pests[0] if len(pests) else balls[int(np.argmin(angle_between(balls, fort)))]
        right, up, angle = _way(pose, target)
        if angle > 0.6 * self.reach:
            return walk_keys(situation.keys, right, up, situation.rng), 1
        num_there = int((angle_between(facts["pose"][:, :, 2], target) < self.reach).sum())
        if len(pests) == 0 and num_there >= min(self.helpers, len(facts["pose"])):
            memory["waited"] = 0
            right, up, _ = _way(pose, fort)
            return walk_keys(situation.keys, right, up), 1
        memory["waited"] = memory.get("waited", 0) + 1
        if memory["waited"] > self.patience:
            memory["waited"] = 0
            return self.otherwise.decide(situation)
        return np.zeros(situation.keys.num_keys, np.uint8), 1


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
    team: Sequence[str] = ()  # habits that everybody has where the first player has one of them

    def __post_init__(self) -> None:
        unknown = sorted(set(self.shares) - set(self.habits))
        if unknown:
            raise ValueError(f"shares name the habits {unknown}, there are {sorted(self.habits)}")
        if self.block_frames < 1 or min(self.shares.values()) < 0 or sum(self.shares.values()) <= 0:
            raise ValueError(f"need block_frames >= 1 and shares >= 0 that are not all 0, got {self}")

    def players(self, keys: ActionSpace, rngs: Sequence[np.random.Generator]) -> list[tuple[str, Bot]]:
        """For each seat the name of a habit drawn from the shares, and a player who has it."""
        names = list(self.shares)
        shares = np.array([self.shares[name] for name in names], np.float64)
        drawn = [names[int(rng.choice(len(names), p=shares / shares.sum()))] for rng in rngs]
        if drawn[0] in self.team:
            drawn = [drawn[0]] * len(drawn)
        return [
            (name, Bot(self.habits[name], seat, keys, rng, self.block_frames))
            for seat, (name, rng) in enumerate(zip(drawn, rngs, strict=True))
        ]


def walk_keys(keys: ActionSpace, right: float, up: float, rng: np.random.Generator | None = None) -> Keys:
    """Keys that walk in a direction: along one axis, the longer one more often; without chance, in chords."""
    sideways, ahead = "d" if right > 0 else "a", "w" if up > 0 else "s"
    size = abs(right) + abs(up)
    if rng is not None:
        return keys.encode([sideways if rng.uniform() * size < abs(right) else ahead])
    held = [name for name, part in ((sideways, right), (ahead, up)) if abs(part) > 0.4 * max(abs(right), abs(up))]
    return keys.encode(held)


def _way(pose: npt.NDArray[Any], place: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Right and up towards a place in a player's axes, and how far it is in radians."""
    right, up, _ = np.asarray(place, np.float64) @ pose
    return float(right), float(up), float(angle_between(place, pose[:, 2]))


def command_keys(keys: ActionSpace, command: str) -> Keys:
    """The vector `[k]` of a command such as "w+d"; "_" holds no key. Raises ValueError on unknown keys."""
    return keys.encode(name for name in command.split("+") if name != NO_KEY)
