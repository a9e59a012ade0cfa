"""Snowglobe: views that one core draws a second, world and all."""

from __future__ import annotations

import time

import numpy as np
from omegaconf import DictConfig

from benchmarks.measuring import Rule
from benchmarks.rows import Row
from benchmarks.settings import composed
from gamegen_x.config import build
from gamegen_x.games.door import Game, Keys


def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    rows = []
    for num_players in settings.num_players:
        overrides = ("game=snowglobe", "output=unused", f"game.num_players={num_players}")
        game: Game = build(composed("record", *overrides).game)
        game.reset(seed=rule.seed)
        rng = np.random.default_rng(rule.seed)
        keys = rng.integers(0, 2, (settings.warm_up_frames + settings.num_frames, num_players, game.num_keys), np.uint8)
        play(game, keys[: settings.warm_up_frames])
        start = time.process_time()
        play(game, keys[settings.warm_up_frames :])
        views = settings.num_frames * num_players / (time.process_time() - start)
        size = f"{game.width}x{game.height}"
        name = f"snowglobe_{num_players}_players"
        rows.append(Row("renderer", name, "views/s", views, target=settings.target, note=f"overhead, {size}"))
        game.close()
    return rows


def play(game: Game, keys: Keys) -> None:
    """`keys` is "t p k"."""
    for held in keys:
        game.step(dict(zip(game.possible_agents, held, strict=True)))
