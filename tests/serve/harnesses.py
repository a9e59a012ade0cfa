"""Rules to test with: those of configs/room, with changes."""

from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, build


def harness(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("soak", overrides=list(overrides))
    return build(cfg.room)
