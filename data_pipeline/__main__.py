"""`python -m data_pipeline input=... output=...` curates; `python -m data_pipeline validate PATH` checks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from data_pipeline.pipeline import Pipeline
from data_pipeline.validate import validate
from gamegen_x.config import USER_MISTAKE, build, entry_point
from gamegen_x.schema.files import atomic_file

DAMAGED = 1  # exit status
FIGURES = "curation.json"


@entry_point("curate", {"input": str, "output": str, "workers": int})
def curate(cfg: DictConfig) -> None:
    pipeline = Pipeline(build(cfg.pipeline.stages))
    output = Path(cfg.output)
    figures = pipeline.run(
        sources=Path(cfg.input),
        output=output,
        workers=cfg.workers or num_cores(),
        max_damaged_share=cfg.max_damaged_share,
        overwrite=cfg.overwrite,
    )
    with atomic_file(output / FIGURES) as path:
        path.write_text(json.dumps(figures) + "\n")
    print(json.dumps(figures))


def num_cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(arguments: list[str]) -> int:
    """Prints a line a problem, then the JSON line. Returns the exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(f"error: expected `python -m data_pipeline validate PATH`, got {arguments}", file=sys.stderr)
        return USER_MISTAKE
    problems, figures = validate(Path(arguments[0]))
    for problem in problems:
        print(str(problem).encode(errors="backslashreplace").decode())  # names of files come in any encoding
    print(json.dumps(figures))
    return DAMAGED if problems else 0


def main() -> None:
    if sys.argv[1:2] == ["validate"]:
        sys.exit(check(sys.argv[2:]))
    curate()


if __name__ == "__main__":
    main()
