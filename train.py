"""Trains one stage: python train.py experiment=snowglobe_vae key=value (configs/train.yaml)."""

from __future__ import annotations

import os
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gamegen_x.config import entry_point
from gamegen_x.training.checks import MADE_UP, check_run, is_first_process, is_made_up


@entry_point("train", {"weights": str, "threads": int, "past": dict, "players": dict})
def main(cfg: DictConfig) -> None:
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        cfg.output = f"{cfg.output}/{hydra.job.num}"  # one folder for each run of a sweep
    if cfg.plan:
        from gamegen_x.training.plan import print_plan

        return print_plan(cfg)
    check_run(cfg)
    if is_made_up(cfg) and is_first_process():
        print(f"note: {MADE_UP}", file=sys.stderr)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads leave the cores to others

    from gamegen_x.training.checkpoints import StoppedBySignal
    from gamegen_x.training.run import run

    try:
        weights = run(cfg, " ".join(["python train.py", *hydra.overrides.task]))
    except StoppedBySignal as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    if is_first_process():
        print(f"weights are in {weights}")
    return None


if __name__ == "__main__":
    main()
