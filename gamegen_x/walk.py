"""The whole walk, from recording a game to a measured world model (make demo, make reproduce).

    python -m gamegen_x.walk budget=demo

Every stage is a command that anyone can type; `configs/budget/` lists them. An interrupted walk goes on where it
stopped when it is started again.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gamegen_x.config import entry_point, to_dict
from gamegen_x.schema.files import atomic_file

POLL_SECONDS = 0.2
NOT_LEARNED = 1  # exit status


@dataclass(frozen=True)
class Stage:
    """Commands that run side by side; the stage is over when all are."""

    name: str
    commands: tuple[tuple[str, ...], ...]  # arguments of the Python interpreter
    expected_seconds: float  # for the time that is left

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> Stage:
        commands = tuple(tuple(shlex.split(command)) for command in node["commands"])
        return cls(node["name"], commands, float(node["expected_seconds"]))


@entry_point("walk", {"folder": str, "data_folder": str, "report": str})
def main(cfg: DictConfig) -> None:
    settings = to_dict(cfg)
    stages = [Stage.from_config(node) for node in settings["stages"]]
    folder = Path(cfg.folder)
    seconds = walk(stages, folder, cfg.report_every_seconds)
    result = collect(settings["results"], seconds)
    missed = missed_gates(settings["gates"], result)
    result["is_learned"] = not missed
    with atomic_file(folder / "result.json") as path:
        path.write_text(json.dumps(result, indent=2) + "\n")
    print(in_words(result))
    for line in missed:
        print(f"not learned: {line}")
    print(f"report: {cfg.report}")
    print(json.dumps(result))
    if missed and cfg.must_learn:
        sys.exit(NOT_LEARNED)


def walk(stages: Sequence[Stage], folder: Path, report_every_seconds: float) -> dict[str, float]:
    """Runs the stages that are not done yet and gives the seconds of each. Raises ValueError where a command fails."""
    done_file = folder / "done.json"
    done: dict[str, dict[str, Any]] = json.loads(done_file.read_text()) if done_file.is_file() else {}
    check_the_same(stages[:-1], done, folder)  # the last one may be repeated in another way
    for number, stage in enumerate(stages, 1):
        commands = [list(command) for command in stage.commands]
        if done.get(stage.name, {}).get("commands") == commands:
            print(
                f"[{number}/{len(stages)}] {stage.name}: done before, {done[stage.name]['seconds']:.0f} s", flush=True
            )
            continue
        left = sum(later.expected_seconds for later in stages[number - 1 :])
        print(f"[{number}/{len(stages)}] {stage.name}: about {left / 60:.0f} min left in all", flush=True)
        seconds = run(stage, folder / "logs", report_every_seconds)
        print(f"[{number}/{len(stages)}] {stage.name}: done in {seconds:.0f} s", flush=True)
        done[stage.name] = {"commands": commands, "seconds": seconds}
        with atomic_file(done_file) as path:
            path.write_text(json.dumps(done, indent=2) + "\n")
    return {stage.name: done[stage.name]["seconds"] for stage in stages}


def check_the_same(stages: Sequence[Stage], done: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Raises ValueError where a stage was done with other commands: what later ones made of it would be kept."""
    for stage in stages:
        commands = [list(command) for command in stage.commands]
        if stage.name in done and done[stage.name]["commands"] != commands:
            raise ValueError(
                f"{folder} was walked with other commands of its stage {stage.name}, and what stands on them would be "
                "taken for new; remove that folder, or name another one: folder=..."
            )


def run(stage: Stage, logs: Path, report_every_seconds: float) -> float:
    """Runs a stage's commands side by side, their output in log files, and repeats their latest lines now and then."""
    logs.mkdir(parents=True, exist_ok=True)
    started = reported = time.monotonic()
    paths = [logs / f"{stage.name}-{number}.log" for number in range(len(stage.commands))]
    environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command, path in zip(stage.commands, paths, strict=True):
            with path.open("ab") as log:
                running.append(
                    subprocess.Popen([sys.executable, *command], stdout=log, stderr=subprocess.STDOUT, env=environment)
                )
        while any(process.poll() is None for process in running):
            for process, command, path in zip(running, stage.commands, paths, strict=True):
                if process.returncode:
                    raise ValueError(failure(stage, command, path, process.returncode))
            if time.monotonic() - reported > report_every_seconds:
                reported = time.monotonic()
                for path in paths:
                    print(f"    {last_line(path)}", flush=True)
            time.sleep(POLL_SECONDS)
        for process, command, path in zip(running, stage.commands, paths, strict=True):
            if process.returncode:
                raise ValueError(failure(stage, command, path, process.returncode))
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
        for process in running:
            process.wait()
    return round(time.monotonic() - started, 1)


def failure(stage: Stage, command: Sequence[str], log: Path, status: int) -> str:
    tail = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-12:])
    return (
        f"stage {stage.name} failed with status {status}:\n{tail}\nthe whole log is {log}; the command was\n"
        f"    python {shlex.join(command)}\nthe walk goes on from this stage when it is started again"
    )


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1][:150] if lines else "starting"


def collect(results: Mapping[str, str], seconds: Mapping[str, float]) -> dict[str, Any]:
    """The figures of all result files in one object: those of `""` by their own names, the others with a prefix."""
    merged: dict[str, Any] = {}
    for prefix, path in results.items():
        try:
            figures = json.loads(Path(path).read_text())
        except (OSError, json.JSONDecodeError) as mistake:
            raise ValueError(f"no figures in {path}: {mistake}; did the evaluation end well?") from None
        figures.pop("gates_passed", None)  # of the suite; a walk has gates of its own
        merged |= {f"{prefix}_{name}" if prefix else name: value for name, value in figures.items()}
    for prefix in ("", *(f"{name}_" for name in results if name)):  # shares of what can be reached at all
        for name in ("sr_c", "sr_c_block_4"):
            if f"{prefix}{name}" in merged:
                merged[f"{prefix}{name}_share_of_ceiling"] = round(
                    merged[f"{prefix}{name}"] / merged[f"{prefix}ceiling_accuracy"], 4
                )
    merged["seconds"] = dict(seconds)
    merged["seconds_total"] = round(sum(seconds.values()), 1)
    return merged


def in_words(result: Mapping[str, Any]) -> str:
    """The figures that people ask for first; nothing is said of those that were not measured."""
    clauses = []
    if "sr_c" in result:
        beside = {"sr_c_chance": "by chance", "ceiling_accuracy": "can be read off real video"}
        known = [f"{result[name]:.0%} {words}" for name, words in beside.items() if name in result]
        clauses.append(f"it obeys {result['sr_c']:.0%} of the keys" + (f" ({', '.join(known)})" if known else ""))
    if "vae_psnr_db" in result:
        clauses.append(f"its pictures keep {result['vae_psnr_db']:.1f} dB")
    return "; ".join(clauses)


def missed_gates(gates: Mapping[str, Mapping[str, Any]], result: Mapping[str, Any]) -> list[str]:
    """What fell short, in words. A gate is {at_least: x}, or {at_most: x, above: a figure}."""
    missed = []
    for name, gate in gates.items():
        value = result.get(name)
        if value is None:
            missed.append(f"{name} was not measured")
            continue
        if "at_least" in gate and value < gate["at_least"]:
            missed.append(f"{name} is {value:.4g}, expected at least {gate['at_least']}")
        if "at_most" in gate:
            limit = gate["at_most"] + (result[gate["above"]] if "above" in gate else 0)
            if value > limit:
                missed.append(f"{name} is {value:.4g}, expected at most {limit:.4g}")
    return missed


if __name__ == "__main__":
    main()
