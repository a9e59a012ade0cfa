"""`python -m benchmarks` measures ours beside its peers; the last line is JSON. Status 1 where a target is missed."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.measuring import Rule
from benchmarks.rows import Row, table
from gamegen_x.config import CONFIGS, chosen, entry_point
from gamegen_x.schema.files import atomic_file

PARTS = ("train_step", "vae_decode", "stream", "sync", "pictures", "sockets", "data_loader", "curation", "renderer")
WITH_DIFFUSERS = ("train_step", "vae_decode")
VERSIONS_OF = ("torch", "diffusers", "av", "decord", "webdataset", "fastapi", "uvicorn", "websockets", "numpy")
MISSED = 1  # exit status


def measure(cfg: DictConfig) -> dict[str, Any]:
    """Measures the chosen parts, prints their table, and gives the figures. Raises ValueError for an unknown part."""
    chosen = _chosen(cfg.only)
    rule = Rule(**cfg.rule)
    torch.set_num_threads(cfg.threads)
    began = time.process_time()
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    for part in chosen:
        start = time.process_time()
        rows += importlib.import_module(f"benchmarks.{part}").measure(cfg[part], rule)
        seconds[part] = round(time.process_time() - start, 1)
        print(f"{part}: {seconds[part]} s of the processor", file=sys.stderr, flush=True)
    print(table(rows), flush=True)
    return {
        "rows": [row.to_dict() for row in rows],
        "is_passed": all(row.is_passed is not False for row in rows),
        "part_cpu_s": seconds,
        "cpu_s_total": round(time.process_time() - began, 1),
        "threads": cfg.threads,
        "machine": f"{platform.machine()} {_processor()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS_OF if find_spec(name)},
        "commit": _commit(),
    }


def _chosen(only: Any) -> list[str]:
    names = chosen(only, PARTS, "part")
    for name in names:
        if name in WITH_DIFFUSERS and find_spec("diffusers") is None:
            raise ValueError(f"{name} needs diffusers, its peer; install it: pip install 'gamegen-x[benchmarks]'")
        if name == "sockets" and find_spec("psutil") is None:
            raise ValueError(f"{name} needs psutil; install it: pip install 'gamegen-x[benchmarks,serve]'")
    return names


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str | None:
    found = subprocess.run(
        ["git", "-C", str(CONFIGS.parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


@entry_point("benchmark")
def main(cfg: DictConfig) -> None:
    figures = measure(cfg)
    with atomic_file(Path(cfg.output) / "figures.json") as path:
        path.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))
    if not figures["is_passed"]:
        sys.exit(MISSED)


if __name__ == "__main__":
    main()
