"""The soak as its config describes it, at the smallest size."""

import pytest
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, build, to_dict
from gamegen_x.serve.soak import Soak

SMALLEST = [
    "sessions=2",
    "in_sessions.num_ticks=24",
    "in_sessions.blackout.ticks=24",
    "sync_test.num_ticks=24",
    "sync_test.distances=[2]",
    "arrivals.examples=2",
    "quiet_hour.minutes=0.05",
    "switches.num_ticks=24",
]


@pytest.mark.parametrize("part", ["sessions", "sync_test", "arrivals", "quiet_hour", "switches"])
def test_every_part_plays_as_its_config_says(part):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("soak", SMALLEST)
    settings = to_dict(cfg)
    own = {"sessions": cfg.sessions, **settings["in_sessions"]} if part == "sessions" else settings[part]
    found = getattr(Soak(build(cfg.room), cfg.game, cfg.world, cfg.seed), part)(**own)
    assert found["is_passed"]
    if part == "switches":
        assert found["rows"].keys() == {"all on", *settings["switches"]["changes"]}
