"""Snowglobes to test with: those of the YAML files, with changes."""

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gamegen_x.config import CONFIGS, build


def recording(*overrides):
    """The composed configuration of the recorder."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("record", overrides=["output=unused", *overrides])
    OmegaConf.resolve(cfg)
    return cfg


def snowglobe(*overrides):
    return build(recording("game=snowglobe", *overrides).game)


def play(game, keys="_", num_frames=1, seat=0):
    """Steps the game with one player's keys held, nobody else holding any; returns that player's views `[t h w 3]`."""
    held = game.keys.parse(keys)[0]
    actions = {agent: held * (number == seat) for number, agent in enumerate(game.agents)}
    return np.stack([game.step(actions)[0][game.agents[seat]] for _ in range(num_frames)])


def ask(game, *classes):
    """Makes the sky of these classes, at once."""
    effects = {effect: phrase for phrase, effect in instructions().items()}
    for name in classes:
        game.instruct(next(phrase for (_, effect), phrase in effects.items() if effect == name))
    play(game, num_frames=8)


def instructions():
    from gamegen_x.games.snowglobe_conditions import INSTRUCTIONS

    return INSTRUCTIONS
