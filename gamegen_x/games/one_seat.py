"""OneSeat: a game on one shared screen as one seat that holds the keys of all its players."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame, Game, Keys, agent_names
from gamegen_x.schema.action_space import ActionSpace


class OneSeat(Game):
    """One picture, one set of keys: what is learned from it is a screen on which everybody is moved by their own keys.

    Seats that share a screen would be equal pictures with different keys, and nothing in them tells whose keys are
    meant. `stands_for` gives for each key the player (0, 1, ...) who presses it and which of the game's keys it is.
    Others are where `screen_xy` and `visible` say: everybody is, since the seat is nobody's.
    """

    def __init__(self, game: Game, keys: ActionSpace, name: str, stands_for: Mapping[str, Sequence[Any]]) -> None:
        if sorted(stands_for) != sorted(keys.keys):
            raise ValueError(f"stands_for explains each of the keys {list(keys.keys)}, got {sorted(stands_for)}")
        for key, (player, theirs) in stands_for.items():
            if not 0 <= player < game.num_players or theirs not in game.keys.keys:
                raise ValueError(
                    f"{key} stands for key {theirs!r} of player {player}, but the game has {game.num_players} players "
                    f"(from 0) and the keys {list(game.keys.keys)}"
                )
        self._game = game
        pressed = [stands_for[key] for key in keys.keys]
        self._of = [(int(player), game.keys.keys.index(theirs)) for player, theirs in pressed]
        self.metadata = {**game.metadata, "name": name}
        self.keys, self.num_players, self.camera = keys, 1, game.camera
        self.height, self.width, self.fps = game.height, game.width, game.fps
        self.licence, self.attribution, self.facts = game.licence, game.attribution, game.facts
        self.possible_agents = agent_names(1)
        self.agents: list[str] = []

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Frame], dict[str, dict[str, Any]]]:
        views, _ = self._game.reset(seed, options)
        self.agents = list(self.possible_agents)
        return self._first(views), self._first({agent: {} for agent in views})

    def step(
        self, actions: Mapping[str, Keys]
    ) -> tuple[dict[str, Frame], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Rewards are the sum of all players'. The episode ends when it ends for everybody."""
        held = np.zeros((self._game.num_players, self._game.num_keys), np.uint8)
        for (player, key), is_held in zip(self._of, actions[self.agents[0]], strict=True):
            held[player, key] |= np.uint8(is_held)
        views, rewards, ended, cut, _ = self._game.step(dict(zip(self._game.possible_agents, held, strict=True)))
        agent = self.agents[0]
        return (
            self._first(views),
            {agent: float(sum(rewards.values()))},
            {agent: all(ended.values())},
            {agent: all(cut.values())},
            {agent: {}},
        )

    def facts_now(self) -> dict[str, npt.NDArray[Any]]:
        """The game's facts; of `visible` [1 q] and `screen_xy` [1 q 2] place 0 is the seat itself, who is nobody."""
        facts = self._game.facts_now()
        if "screen_xy" in facts:
            places = facts["screen_xy"][:1]
            facts["screen_xy"] = np.concatenate([np.zeros_like(places[:, :1]), places], axis=1)
        seen = facts["visible"][:1]
        facts["visible"] = np.concatenate([np.zeros_like(seen[:, :1]), seen], axis=1)
        return facts

    def outcome(self) -> dict[str, Any]:
        return self._game.outcome()

    def instructions(self) -> tuple[str, ...]:
        return self._game.instructions()

    def useful_instructions(self) -> tuple[str, ...]:
        return self._game.useful_instructions()

    def instruct(self, text: str) -> None:
        self._game.instruct(text)

    def close(self) -> None:
        self._game.close()

    def _first(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the first player was given, since all are given the same."""
        return {self.possible_agents[0]: values[self._game.possible_agents[0]]}
