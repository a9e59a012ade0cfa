"""Loader: planned batches, made here or in workers, that resumes exact to the sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from gamegen_x.data.batch import Batch
from gamegen_x.data.buckets import BatchPlan, BucketPlan, PlannedBatch
from gamegen_x.data.shards import check_damage


@dataclass(frozen=True)
class Assembled:
    """A batch, and the records that had to be replaced because they could not be read: key -> reason."""

    batch: Batch
    damage: Mapping[str, str]

    def pin_memory(self) -> Assembled:
        return Assembled(self.batch.pin_memory(), self.damage)


@dataclass(frozen=True)
class Work:
    """How planned batches are made: in this process (`num_workers` 0), or ahead of time in others."""

    assemble: Callable[[PlannedBatch], Assembled]
    num_workers: int
    prefetch_batches: int  # each worker is so many batches ahead
    pin_memory: bool

    def run(self, series: Iterable[PlannedBatch]) -> Iterator[Assembled]:
        """The batches of a series, in its order."""
        if self.num_workers == 0:
            return map(self.assemble, series)
        loader = DataLoader(
            _Assembling(self.assemble),
            batch_size=None,
            sampler=series,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_batches,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            collate_fn=_as_it_is,
            worker_init_fn=_use_one_thread,
            generator=torch.Generator(),  # else starting workers would draw from the generator of the training
        )
        return iter(loader)


class Loader:
    """An endless stream of batches, handed out in epochs. Iterating again goes on where the last iteration stopped.

    `state_dict` says how many samples were handed out (not how many workers have prepared), so a run resumes with the
    very next sample, with any number of workers. Lightning saves and restores it.
    """

    def __init__(
        self,
        plan: BatchPlan,
        work: Work,
        name: str,
        max_damaged_share: float,
    ) -> None:
        self.plan = plan
        self.work = work
        self.name = name
        self.max_damaged_share = max_damaged_share
        self.damage: dict[str, str] = {}
        self._consumed = plan.start()
        self._iterator: Iterator[Assembled] | None = None  # Lightning resets an attribute of this name

    def __len__(self) -> int:
        """Batches of one epoch on each rank."""
        return self.plan.num_batches

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(len(self)):
            if self._iterator is None:
                self._iterator = self.work.run(_series(self.plan, self._consumed))
            assembled = next(self._iterator)
            self._consumed = self.plan.advance(self._consumed)
            if assembled.damage:
                self.damage.update(assembled.damage)
                check_damage(self.name, self.damage, self.plan.num_samples - len(self.damage), self.max_damaged_share)
            yield assembled.batch

    def state_dict(self) -> dict[str, Any]:
        return {
            "seed": self.plan.seed,
            "num_samples": {plan.name: len(plan.samples) for plan in self.plan.buckets},
            "consumed": dict(self._consumed),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError if the state belongs to another dataset, mix or seed."""
        mine = self.state_dict()
        for name in ("seed", "num_samples"):
            if state[name] != mine[name]:
                raise ValueError(
                    f"the checkpoint was written with {name} = {state[name]}, now it is {mine[name]}: with other data "
                    "the order of samples cannot go on. Use the same data and seed, or start a new run from the weights"
                )
        self._consumed = dict(state["consumed"])
        self._iterator = None


class EvaluationLoader:
    """The same batches each time: every sample once, in order, with the same windows.

    On several ranks only whole rounds are handed out, so that all stay in step.
    """

    def __init__(self, plan: BatchPlan, work: Work, name: str, max_damaged_share: float) -> None:
        self.plan = plan
        self.work = work
        self.name = name
        self.max_damaged_share = max_damaged_share
        self.damage: dict[str, str] = {}
        self._batches = list(_once(plan))

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for assembled in self.work.run(self._batches):
            if assembled.damage:
                self.damage.update(assembled.damage)
                check_damage(self.name, self.damage, self.plan.num_samples - len(self.damage), self.max_damaged_share)
            yield assembled.batch


class _Assembling(Dataset[Assembled]):
    def __init__(self, assemble: Callable[[PlannedBatch], Assembled]) -> None:
        self.assemble = assemble

    def __getitem__(self, planned: PlannedBatch) -> Assembled:
        return self.assemble(planned)


def _series(plan: BatchPlan, consumed: Mapping[str, int]) -> Iterator[PlannedBatch]:
    while True:
        yield plan.batch(consumed)
        consumed = plan.advance(consumed)


def _once(plan: BatchPlan) -> Iterator[PlannedBatch]:
    """This rank's batches of one pass; buckets take turns, so that the first batches are of all of them."""
    series = [_once_of(plan, bucket) for bucket in plan.buckets]
    for turn in zip_longest(*series):
        yield from (planned for planned in turn if planned is not None)


def _once_of(plan: BatchPlan, bucket: BucketPlan) -> Iterator[PlannedBatch]:
    size, samples = bucket.bucket.batch_size, bucket.samples
    if plan.world_size > 1 and len(samples) >= size * plan.world_size:
        samples = samples[: len(samples) - len(samples) % (size * plan.world_size)]
    for start in range(0, len(samples), size * plan.world_size):
        begin = start + plan.rank * size if len(samples) >= size * plan.world_size else start
        yield PlannedBatch(bucket.name, tuple((0, sample) for sample in samples[begin : begin + size]))


def _as_it_is(assembled: Any) -> Any:
    return assembled


def _use_one_thread(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # its pool of threads does not survive a fork
