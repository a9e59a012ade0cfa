"""Buckets: which clips are trained at which size and length, and in which mix."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gamegen_x.data.order import mix, shuffled
from gamegen_x.data.records import RecordHeader

ONLY_BUCKET = "all"  # the name of a bucket that nobody named


@dataclass(frozen=True)
class Bucket:
    """Batches of one shape. `share` is this bucket's part of all samples that training sees."""

    height: int | None  # None: the size that the clips have
    width: int | None
    num_frames: int
    share: float
    batch_size: int  # a rank

    def __post_init__(self) -> None:
        if min(self.num_frames, self.batch_size, self.height or 1, self.width or 1) < 1 or self.share <= 0:
            raise ValueError(f"a bucket needs positive numbers, got {self}")
        if (self.height is None) != (self.width is None):
            raise ValueError(f"a bucket has both height and width, or neither; got {self.height} and {self.width}")

    def fits(self, header: RecordHeader) -> bool:
        """Whether a record fills this bucket without being made larger or longer."""
        is_large_enough = header.height >= (self.height or 0) and header.width >= (self.width or 0)
        return is_large_enough and header.num_frames >= self.num_frames


@dataclass(frozen=True)
class BucketPlan:
    """A bucket and the samples that fill it, by their place in the dataset."""

    name: str
    bucket: Bucket
    samples: Sequence[int]


def choose_buckets(
    buckets: Mapping[str, Bucket | Mapping[str, Any]] | None,
    num_frames: int | None,
    batch_size: int | None,
    height: int | None,
    width: int | None,
) -> dict[str, Bucket]:
    """The buckets that were given, or the one that the other numbers describe."""
    if buckets is None and num_frames is not None and batch_size is not None:
        return {ONLY_BUCKET: Bucket(height, width, num_frames, 1.0, batch_size)}
    if buckets is None or num_frames is not None or batch_size is not None:
        raise ValueError(
            "give either data.num_frames and data.batch_size, or data.buckets and null for both; "
            f"got num_frames={num_frames}, batch_size={batch_size}, buckets={buckets and list(buckets)}"
        )
    return read_buckets(buckets)


def read_buckets(buckets: Mapping[str, Bucket | Mapping[str, Any]]) -> dict[str, Bucket]:
    """Buckets by name, shares checked and made to sum to 1. Raises ValueError."""
    read = {name: value if isinstance(value, Bucket) else Bucket(**value) for name, value in buckets.items()}
    total = sum(bucket.share for bucket in read.values())
    if not read or abs(total - 1) > 0.005:
        shares = {name: bucket.share for name, bucket in read.items()}
        raise ValueError(f"the shares of the buckets must sum to 1, got {total:.4f} from {shares}")
    return read


def with_size_of(bucket: Bucket, headers: Sequence[RecordHeader]) -> Bucket:
    """A bucket without a size takes the one that most records have."""
    if bucket.height is not None or not headers:
        return bucket
    sizes = [(header.height, header.width) for header in headers]
    (height, width), _ = max(sorted(Counter(sizes).items()), key=lambda item: item[1])
    return Bucket(height, width, bucket.num_frames, bucket.share, bucket.batch_size)


def assign_records(
    headers: Sequence[RecordHeader], buckets: Mapping[str, Bucket], seed: int
) -> tuple[dict[str, list[int]], list[int]]:
    """Every record to the one bucket, among those that it fits, that is furthest behind its share.

    Gives the records of each bucket, and those that fit none. Records with the least choice go first; the rest is
    settled by their keys and the seed, never by the order of files.
    """
    choices = {index: [name for name, bucket in buckets.items() if bucket.fits(h)] for index, h in enumerate(headers)}
    order = sorted(choices, key=lambda i: (len(choices[i]), mix(seed, _number_of(headers[i].key))))
    assigned: dict[str, list[int]] = {name: [] for name in buckets}
    for index in order:
        if choices[index]:
            chosen = min(choices[index], key=lambda name: len(assigned[name]) / buckets[name].share)
            assigned[chosen].append(index)
    for records in assigned.values():
        records.sort()
    return assigned, [index for index, names in choices.items() if not names]


def _number_of(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class PlannedBatch:
    """What one rank puts into one batch: a bucket, and (epoch, sample) of each row."""

    bucket: str
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class BatchPlan:
    """The endless series of batches: a pure function of how many samples of each bucket are behind us.

    Each bucket walks through its samples, every one once an epoch of its own, and its epochs follow without a seam.
    The bucket that would be least ahead of its share after its batch comes next. All ranks together take the next
    samples of the series, each its slice, so that a run that goes on with another number of ranks or another batch
    size meets the same order.
    """

    buckets: Sequence[BucketPlan]
    seed: int
    is_shuffled: bool
    rank: int
    world_size: int
    by_name: Mapping[str, BucketPlan] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {plan.name: plan for plan in self.buckets})

    def start(self) -> dict[str, int]:
        return {plan.name: 0 for plan in self.buckets}

    def next_bucket(self, consumed: Mapping[str, int]) -> BucketPlan:
        return min(self.buckets, key=lambda plan: (consumed[plan.name] + self._num_rows(plan)) / plan.bucket.share)

    def batch(self, consumed: Mapping[str, int]) -> PlannedBatch:
        plan = self.next_bucket(consumed)
        begin = consumed[plan.name] + self.rank * plan.bucket.batch_size
        rows = tuple(self._row(plan, place) for place in range(begin, begin + plan.bucket.batch_size))
        return PlannedBatch(plan.name, rows)

    def advance(self, consumed: Mapping[str, int]) -> dict[str, int]:
        plan = self.next_bucket(consumed)
        return {**consumed, plan.name: consumed[plan.name] + self._num_rows(plan)}

    @property
    def num_samples(self) -> int:
        return sum(len(plan.samples) for plan in self.buckets)

    @property
    def num_batches(self) -> int:
        """Batches of about one epoch."""
        return max(1, int(self.num_samples * sum(plan.bucket.share / self._num_rows(plan) for plan in self.buckets)))

    def _num_rows(self, plan: BucketPlan) -> int:
        return plan.bucket.batch_size * self.world_size

    def _row(self, plan: BucketPlan, place: int) -> tuple[int, int]:
        epoch, position = divmod(place, len(plan.samples))
        if self.is_shuffled:
            position = shuffled(position, len(plan.samples), self.seed, epoch)
        return epoch, plan.samples[position]


def check_buckets(plan: BatchPlan, headers: Sequence[RecordHeader], is_whole_batch_needed: bool) -> None:
    """Raises ValueError if a bucket cannot fill one batch on every rank, with what the data holds instead.

    Without `is_whole_batch_needed` (in evaluation) one sample in any bucket is enough.
    """
    if not is_whole_batch_needed and any(bucket.samples for bucket in plan.buckets):
        return
    largest = max(((h.height, h.width) for h in headers), default=(0, 0))
    longest = max((h.num_frames for h in headers), default=0)
    for bucket, name in ((plan.bucket, plan.name) for plan in plan.buckets):
        needed = bucket.batch_size * plan.world_size if is_whole_batch_needed else 1
        found = len(plan.by_name[name].samples)
        if found < needed:
            raise ValueError(
                f"bucket {name!r} ({bucket.height}x{bucket.width}, {bucket.num_frames} frames) needs {needed} samples "
                f"for one batch on {plan.world_size} rank(s), got {found} from {len(headers)} clips (largest "
                f"{largest[0]}x{largest[1]}, longest {longest} frames). Use a smaller data.batch_size or "
                "data.num_frames, fewer or smaller buckets, or more data"
            )
