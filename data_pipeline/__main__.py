"""`python -m data_pipeline input=... output=...` curates; `python -m data_pipeline validate PATH` checks."""

from __future__ import annotations

import json
import os
from pathlib import Path

from omegaconf import DictConfig

from data_pipeline.pipeline import Pipeline
from gamegen_x.config import build, entry_point


@entry_point("curate")
def curate(cfg: DictConfig) -> None:
    pipeline: Pipeline = Pipeline(build(cfg.pipeline.stages))
    figures = pipeline.run(
        sources=Path(cfg.input),
        output=Path(cfg.output),
        workers=cfg.workers or os.cpu_count() or 1,
        max_damaged_share=cfg.max_damaged_share,
        overwrite=cfg.overwrite,
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    curate()
