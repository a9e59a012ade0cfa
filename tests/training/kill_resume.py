"""Kills trainings with SIGKILL at random moments, resumes them, and compares with one that nobody disturbed.

    python -m tests.training.kill_resume --times 20 --task vae

Each start is a fork of this process, which has imported everything, so a kill costs little. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from gamegen_x.config import CONFIGS
from tests.training.train_command import SMALLEST

STAGES = ("vae", "pretrain", "instruct")
STEPS = 24
EVERY = ["callbacks.checkpoints.every_n_steps=3", "trainer.val_check_interval=8", f"steps={STEPS}"]


def configure(folder: Path, stage: str, name: str, weights: Path | None, resume: bool) -> DictConfig:
    places = [
        f"output={folder / name}",
        f"data.dataset.cache_folder={folder / 'cache'}",
        f"resume={str(resume).lower()}",
    ]
    from_earlier = [] if weights is None else [f"weights={weights}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*SMALLEST, *EVERY, f"task={stage}", *places, *from_earlier])


def start(cfg: DictConfig, log: Path, dies: str | None = None, at_save: int = 0) -> int:
    """Trains in a fork of this process; gives its number.

    It may kill itself `dies` "before" or "after" its save number `at_save` is finished: moments that are short.
    """
    from gamegen_x.training import checkpoints
    from gamegen_x.training.run import run

    child = os.fork()
    if child:
        return child
    status = 1
    whole_finish, num_saves = checkpoints.finish, 0

    def finish_or_die(path: Path, step: int, score: float | None) -> object:
        nonlocal num_saves
        num_saves += 1
        if dies == "before" and num_saves == at_save:
            os.kill(os.getpid(), signal.SIGKILL)
        finished = whole_finish(path, step, score)
        if dies == "after" and num_saves == at_save:
            os.kill(os.getpid(), signal.SIGKILL)
        return finished

    checkpoints.finish = finish_or_die  # type: ignore[assignment]
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        run(cfg, "kill_resume")
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def finish(child: int, log: Path) -> None:
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"a training ended with status {status}; it said:\n{log.read_text()[-3000:]}")


def kill_after(child: int, seconds: float) -> bool:
    """Whether the training was killed before its end, by us or by itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.WIFSIGNALED(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def disturb(folder: Path, stage: str, times: int, weights: Path | None, rng: random.Random) -> dict[str, object]:
    """Trains once undisturbed, then again and again killed; says whether both agree to the last bit."""
    from gamegen_x.training.checkpoints import newest
    from gamegen_x.training.metrics_file import read_metrics

    log = folder / f"{stage}.log"
    begun = time.monotonic()
    finish(start(configure(folder, stage, stage, weights, resume=False), log), log)
    seconds = time.monotonic() - begun
    killed: list[int] = []
    name = f"{stage}-killed"
    while len(killed) < times:
        output = folder / name
        if (
            output / "weights" / "config.json"
        ).is_file():  # it got to its end; what follows must not need what was there
            compare(folder / stage, output)
            shutil.rmtree(output)
        cfg = configure(folder, stage, name, weights, resume=output.is_dir())
        dies = rng.choice([None, None, "before", "after"])
        child = start(cfg, log, dies, at_save=rng.randint(1, 3))
        if kill_after(child, rng.uniform(0, seconds) if dies is None else 10 * seconds):
            checkpoint = newest(output / "checkpoints")
            killed.append(0 if checkpoint is None else checkpoint.step)
    finish(start(configure(folder, stage, name, weights, resume=(folder / name).is_dir()), log), log)
    compare(folder / stage, folder / name)
    return {
        "kills": len(killed),
        "resumed_from_steps": killed,
        "rows": len(read_metrics(folder / stage / "metrics.csv")),
        "losses_identical": True,
        "weights_identical": True,
        "seconds_undisturbed": round(seconds, 1),
    }


def compare(whole: Path, disturbed: Path) -> None:
    """Raises RuntimeError where two runs differ."""
    rows = [(run / "metrics.csv").read_text().splitlines() for run in (whole, disturbed)]
    if rows[0] != rows[1]:
        differing = [pair for pair in zip(*rows, strict=False) if pair[0] != pair[1]][:3]
        raise RuntimeError(f"the metrics differ ({len(rows[0])} and {len(rows[1])} rows), first {differing}")
    for path in sorted((whole / "weights").glob("*.safetensors")):
        if path.read_bytes() != (disturbed / "weights" / path.name).read_bytes():
            raise RuntimeError(f"{path.name} differs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="kills of each stage")
    parser.add_argument("--task", choices=(*STAGES, "all"), default="all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    import torch

    from gamegen_x.config import build
    from gamegen_x.training import instruct_task, pretrain_task, vae_task  # noqa: F401  (for all forks at once)

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="kill-resume-"))
    rng = random.Random(options.seed)
    told: dict[str, object] = {}
    weights: Path | None = None
    build(configure(folder, "pretrain", "", None, resume=False).text_encoder)
    for stage in STAGES:
        if options.task in (stage, "all"):
            told[stage] = disturb(folder, stage, options.times, weights, rng)
            print(f"{stage}: {told[stage]}", flush=True)
        else:
            log = folder / f"{stage}.log"
            finish(start(configure(folder, stage, stage, weights, resume=False), log), log)
        weights = folder / stage / "weights"
        if stage == options.task:
            break
    shutil.rmtree(folder)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
