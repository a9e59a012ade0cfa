"""How two or more ways to do the same are compared on a machine that may be busy.

All run in one process, in turn: forwards, then backwards in order (ABBA), round by round. What counts is the time that
the processor gave to this process, not the clock on the wall. The result is the median of the rounds' ratios, with a
bootstrap interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rule:
    rounds: int
    max_wall_over_cpu: float  # a round above it shared its core
    confidence: float
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.resamples < 1 or not 0 < self.confidence < 1:
            raise ValueError(
                "rule.rounds and rule.resamples are at least 1 and rule.confidence lies between 0 and 1, "
                f"got {self.rounds}, {self.resamples} and {self.confidence}"
            )


@dataclass(frozen=True)
class Rounds:
    """Processor seconds of one run, by name and round; those of noisy rounds are left out unless all were noisy."""

    seconds: Mapping[str, tuple[float, ...]]
    num_dropped: int
    is_noisy: bool  # every round was, so all were kept

    def median(self, name: str) -> float:
        return float(np.median(self.seconds[name]))

    def note(self) -> str:
        if self.is_noisy:
            return "busy machine: every round shared its core, all kept"
        return f"{self.num_dropped} noisy rounds dropped" if self.num_dropped else ""


@dataclass(frozen=True)
class Ratio:
    """How many times faster, with its bootstrap interval."""

    median: float
    low: float
    high: float


def run_in_turn(runs: Mapping[str, Callable[[], object]], rule: Rule) -> Rounds:
    """Times each run twice a round. One round before the first warms up and does not count."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    is_quiet: list[bool] = []
    for _ in range(rule.rounds):
        spent = dict.fromkeys(runs, 0.0)
        wall, cpu = time.perf_counter(), time.process_time()
        for name in (*runs, *reversed(list(runs))):
            start = time.process_time()
            runs[name]()
            spent[name] += (time.process_time() - start) / 2
        is_quiet.append(time.perf_counter() - wall <= rule.max_wall_over_cpu * (time.process_time() - cpu))
        for name, each in spent.items():
            seconds[name].append(each)
    is_noisy = not any(is_quiet)
    kept = [quiet or is_noisy for quiet in is_quiet]
    return Rounds(
        {name: tuple(np.compress(kept, values).tolist()) for name, values in seconds.items()},
        num_dropped=kept.count(False),
        is_noisy=is_noisy,
    )


def times_faster(rounds: Rounds, ours: str, peer: str, rule: Rule) -> Ratio:
    """The peer's seconds over ours."""
    ratios = np.array(rounds.seconds[peer]) / np.array(rounds.seconds[ours])
    drawn = np.random.default_rng(rule.seed).choice(ratios, (rule.resamples, len(ratios)))
    outside = (1 - rule.confidence) / 2
    low, high = np.quantile(np.median(drawn, axis=1), [outside, 1 - outside])
    return Ratio(float(np.median(ratios)), float(low), float(high))
