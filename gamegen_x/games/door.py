"""Game: what a world must offer to be recorded and played. A PettingZoo ParallelEnv that also tells its truth."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from pettingzoo import ParallelEnv

from gamegen_x.schema.action_space import ActionSpace

Frame = npt.NDArray[np.uint8]  # h w 3
Keys = npt.NDArray[np.uint8]  # k, 1 where a key is held


class Game(ParallelEnv[str, Frame, Keys]):
    """Agents are "player_0" ... "player_<p-1>". An observation is the player's own view, an action the keys held.

    A subclass sets the attributes below in its constructor and writes `reset`, `step`, `facts_now` and, where its
    world can be changed by words, `instruct`. `close` frees what it holds.
    """

    keys: ActionSpace
    fps: float
    height: int
    width: int
    num_players: int
    camera: str
    licence: str
    attribution: str
    facts: Mapping[str, tuple[str, ...]] = {}  # names of the classes in the arrays of facts_now

    @property
    def num_keys(self) -> int:
        return self.keys.num_keys

    @abstractmethod
    def facts_now(self) -> dict[str, npt.NDArray[Any]]:
        """The truth of the frame shown last: arrays whose names and shapes never change during an episode."""

    def outcome(self) -> dict[str, Any]:
        """How the episode stands: plain values, e.g. a score."""
        return {}

    def instructions(self) -> tuple[str, ...]:
        """Sentences that `instruct` understands; empty where the world cannot be changed by words."""
        return ()

    def useful_instructions(self) -> tuple[str, ...]:
        """Those of `instructions` that would change something now."""
        return self.instructions()

    def instruct(self, text: str) -> None:
        """Asks the world to change, from the next step on. Raises ValueError on a sentence it does not understand."""
        raise ValueError(f"{type(self).__name__} cannot be changed by words, got {text!r}")

    def observation_space(self, agent: str) -> gymnasium.Space[Frame]:  # noqa: ARG002  (all agents see alike)
        return self._observation_space

    def action_space(self, agent: str) -> gymnasium.Space[Keys]:  # noqa: ARG002
        return self._action_space

    @functools.cached_property
    def _observation_space(self) -> gymnasium.Space[Frame]:
        return gymnasium.spaces.Box(0, 255, (self.height, self.width, 3), np.uint8)

    @functools.cached_property
    def _action_space(self) -> gymnasium.Space[Keys]:
        return gymnasium.spaces.MultiBinary(self.num_keys)


def agent_names(num_players: int) -> list[str]:
    return [f"player_{number}" for number in range(num_players)]
