"""Every part that a configuration offers can be chosen, and says what it needs."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from data_pipeline.pipeline import Pipeline
from gamegen_x.config import CONFIGS, build

PARTS = sorted(f"{file.parent.name}={file.stem}" for file in (Path(CONFIGS) / "pipeline").glob("*/*.yaml"))
NEED_WEIGHTS = {"scene_detector=transnetv2", "aesthetic_scorer=clip_ava", "flow_estimator=raft", "fingerprinter=clip"}


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("curate", overrides=["input=in", "output=out", *overrides])


def test_there_is_something_to_swap():
    assert set(PARTS) > NEED_WEIGHTS
    assert len(PARTS) >= 13


@pytest.mark.parametrize("pipeline", ["gameplay_videos", "multiplayer_traces", "smoke"])
def test_every_pipeline_builds(pipeline):
    assert isinstance(Pipeline(build(composed(f"pipeline={pipeline}").pipeline.stages)), Pipeline)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_fits_into_the_pipeline(part):
    cfg = composed(
        "pipeline=gameplay_videos",
        f"pipeline/{part}",
        *(["pipeline.captioner.model=eyes"] if part == "captioner=endpoint" else []),
    )
    if part in NEED_WEIGHTS:
        with pytest.raises(Exception, match=r"weights .* do not exist; they should be .* Get them from http"):
            build(cfg.pipeline.stages)
    else:
        Pipeline(build(cfg.pipeline.stages))
