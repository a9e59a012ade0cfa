"""RulesDynamics: the truth of a world stepped by the game's own rules; what a drawn state of coming frames is of."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame, Keys
from gamegen_x.games.snowglobe import Snowglobe
from gamegen_x.world.facts import Facts
from gamegen_x.world.state import WorldState


@dataclass(frozen=True)
class RulesWorld:
    """A tick of a Snowglobe. The game stands on the state's planet; the state that it has itself is not looked at."""

    game: Snowglobe
    state: WorldState

    @property
    def num_players(self) -> int:
        return self.game.num_players

    def after(self, held: Keys) -> RulesWorld:
        return replace(self, state=self.game.advanced(self.state, held))

    def told(self, text: str) -> RulesWorld:
        try:
            return replace(self, state=self.game.told(self.state, text))
        except ValueError:  # no words of this game: whoever draws may still follow them
            return self

    def facts(self) -> Facts:
        return self.game.facts_of(self.state)

    def views(self) -> list[Frame]:
        """What each player really sees."""
        return list(self.game.views(self.state).values())


class RulesDynamics:
    """The game's own rules, without its pictures."""

    def __init__(self, game: Snowglobe) -> None:
        self.game = game

    def follow(self, facts: Facts, held: npt.NDArray[np.uint8]) -> RulesWorld:  # noqa: ARG002
        """The last frame says all."""
        return self.start({name: values[-1] for name, values in facts.items()})

    def start(self, facts: Facts) -> RulesWorld:
        """The world of these facts of one frame."""
        game = copy.copy(self.game)
        game.restore(facts)
        return RulesWorld(game, game.state)

    def fresh(self, seed: int, split: str) -> RulesWorld:
        """The world with which the game's episode of this seed begins, before its first frame."""
        game = copy.copy(self.game)
        game.reset(seed=seed, options={"split": split})
        return RulesWorld(game, game.state)
