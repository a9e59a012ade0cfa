"""A session of Snowglobe in which everybody holds keys as players do."""

from __future__ import annotations

import numpy as np

from benchmarks.settings import composed
from gamegen_x.config import build
from gamegen_x.games.snowglobe import Snowglobe
from gamegen_x.world.state import WorldState


def played(num_players: int, num_ticks: int, seed: int) -> tuple[Snowglobe, list[WorldState]]:
    """The game, and its states: the first one and one after each tick."""
    cfg = composed("record", "game=snowglobe", "output=unused", f"game.num_players={num_players}")
    game: Snowglobe = build(cfg.game)
    game.reset(seed=seed)
    bots = build(cfg.bots).players(game.keys, [np.random.default_rng([seed, n]) for n in range(num_players)])
    states = [game.state]
    for _ in range(num_ticks):
        facts = game.facts_now()
        game.state = game.advanced(game.state, np.stack([bot.press(facts) for _, bot in bots]))
        states.append(game.state)
    return game, states
