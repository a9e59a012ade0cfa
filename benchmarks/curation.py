"""Curation of a fresh Snowglobe recording: views' frames a processor second, by stage."""

from __future__ import annotations

import tempfile
from pathlib import Path

from omegaconf import DictConfig

from benchmarks.measuring import Rule
from benchmarks.rows import Row
from benchmarks.settings import composed
from data_pipeline.pipeline import Pipeline
from gamegen_x.config import build
from gamegen_x.games.record import record


def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        traces, shards = Path(folder, "traces"), Path(folder, "shards")
        overrides = [
            "game=snowglobe", f"output={traces}", f"num_episodes={settings.num_episodes}",
            f"num_frames={settings.num_frames}", f"seed={rule.seed}", "workers=1",
        ]  # fmt: skip
        record(composed("record", *overrides))
        cfg = composed("curate", "pipeline=multiplayer_traces", f"input={traces}", f"output={shards}")
        figures = Pipeline(build(cfg.pipeline.stages)).run(
            sources=traces, output=shards, workers=1, max_damaged_share=cfg.max_damaged_share, overwrite=False
        )
    frames = figures["num_view_frames_done_now"]
    note = f"{frames} frames of views; split_scenes decodes them, write_shards encodes them"
    rows = [
        Row("curation", stage, "frames/s", frames / seconds, note=note)
        for stage, seconds in figures["stage_cpu_s"].items()
        if seconds > 0
    ]
    return [*rows, Row("curation", "all_stages", "frames/s", figures["view_frames_per_cpu_s"], note=note)]
