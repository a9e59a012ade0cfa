from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from gamegen_x.data.batch import Batch
from gamegen_x.data.buckets import BatchPlan, Bucket, BucketPlan, PlannedBatch
from gamegen_x.data.loader import Assembled, EvaluationLoader, Loader, Work

WORKERS = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*:DeprecationWarning",  # fork, as torch does it
    "ignore:This DataLoader will create:UserWarning",  # more workers than this machine has cores
)


def name_rows(planned: PlannedBatch) -> Assembled:
    """A batch that says what was asked for."""
    rows = len(planned.rows)
    return Assembled(
        Batch(
            keys=[f"{planned.bucket}/{epoch}/{sample}" for epoch, sample in planned.rows],
            captions=[""] * rows,
            instructions=[""] * rows,
            instruction_starts=torch.zeros(rows),
            actions=torch.zeros(rows, 1, 4, 2),
            is_player=torch.ones(rows, 1, dtype=torch.bool),
            fps=torch.full((rows,), 24.0),
        ),
        {},
    )


def make_plan(
    batch_size: int = 4,
    rank: int = 0,
    world_size: int = 1,
    num_samples: int = 37,
    seed: int = 0,
    is_shuffled: bool = True,
) -> BatchPlan:
    bucket = Bucket(64, 64, 8, 1.0, batch_size)
    return BatchPlan([BucketPlan("all", bucket, range(num_samples))], seed, is_shuffled, rank, world_size)


def make_loader(plan: BatchPlan | None = None, num_workers: int = 0) -> Loader:
    return Loader(plan or make_plan(), Work(name_rows, num_workers, 2, False), "made up", 0.1)


def keys(batches: Iterator[Batch]) -> list[str]:
    return [key for batch in batches for key in batch.keys]


def stream(loader: Loader) -> Iterator[Batch]:
    while True:
        yield from loader


def test_every_sample_comes_once_an_epoch() -> None:
    seen = keys(islice(stream(make_loader()), 37))  # four epochs of 37 samples in batches of 4
    for epoch in range(4):
        part = seen[37 * epoch : 37 * (epoch + 1)]
        assert sorted(part) == sorted(f"all/{epoch}/{sample}" for sample in range(37))


@WORKERS
@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 2), (4, 1), (2, 4)])
def test_a_run_goes_on_with_the_very_next_sample_on_any_number_of_workers(before: int, after: int) -> None:
    whole = keys(islice(stream(make_loader()), 30))
    first = make_loader(num_workers=before)
    seen = keys(islice(stream(first), 13))  # in the middle of an epoch, with batches waiting in the workers
    state = first.state_dict()
    del first
    second = make_loader(num_workers=after)
    second.load_state_dict(state)
    seen += keys(islice(stream(second), 17))
    assert seen == whole
    assert max(Counter(whole[:37]).values()) == 1


def test_iterating_again_goes_on() -> None:
    loader = make_loader()
    assert keys(iter(loader)) + keys(iter(loader)) == keys(islice(stream(make_loader()), 2 * len(loader)))
    assert list(islice(loader, 0)) == []  # looking at an iterator takes nothing
    assert keys(islice(loader, 1)) == keys(islice(stream(make_loader()), 2 * len(loader), 2 * len(loader) + 1))


def test_ranks_share_one_order() -> None:
    alone = keys(islice(stream(make_loader(make_plan(batch_size=12))), 6))
    ranks = [keys(islice(stream(make_loader(make_plan(4, rank, 3))), 6)) for rank in range(3)]
    together = [key for step in range(6) for rank in ranks for key in rank[4 * step : 4 * step + 4]]
    assert together == alone


@pytest.mark.parametrize(("batch_size", "world_size"), [(3, 4), (12, 1), (2, 3), (5, 1)])
def test_another_number_of_ranks_goes_on_in_the_same_order(batch_size: int, world_size: int) -> None:
    whole = keys(islice(stream(make_loader()), 60))
    first = make_loader()
    seen = keys(islice(stream(first), 9))
    ranks = [make_loader(make_plan(batch_size, rank, world_size)) for rank in range(world_size)]
    for loader in ranks:
        loader.load_state_dict(first.state_dict())
    streams = [stream(loader) for loader in ranks]
    for _ in range(4):
        for one in streams:
            seen += keys(islice(one, 1))
    assert seen == whole[: len(seen)]


def test_buckets_walk_side_by_side_and_resume() -> None:
    plans = [
        BucketPlan("large", Bucket(64, 64, 8, 0.25, 2), range(5)),
        BucketPlan("small", Bucket(32, 32, 8, 0.75, 3), range(5, 30)),
    ]
    plan = BatchPlan(plans, 0, True, 0, 1)
    whole = keys(islice(stream(make_loader(plan)), 40))
    names = Counter(key.split("/")[0] for key in whole)
    assert abs(names["large"] / names.total() - 0.25) < 0.03
    large = [key for key in whole if key.startswith("large/0/")]
    assert len(large) == len(set(large)) == 5
    first = make_loader(plan)
    seen = keys(islice(stream(first), 11))
    second = make_loader(plan)
    second.load_state_dict(first.state_dict())
    assert seen + keys(islice(stream(second), 29)) == whole


@pytest.mark.parametrize("other", [make_plan(num_samples=38), make_plan(seed=1)])
def test_the_state_of_other_data_is_refused(other: BatchPlan) -> None:
    with pytest.raises(ValueError, match="the checkpoint was written with"):
        make_loader(other).load_state_dict(make_loader().state_dict())


@WORKERS
def test_starting_workers_takes_no_random_numbers_from_the_training() -> None:
    torch.manual_seed(5)
    untouched = torch.rand(1)
    torch.manual_seed(5)
    next(iter(make_loader(num_workers=1)))
    assert torch.rand(1) == untouched


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=WORKERS)])
def test_too_many_replaced_records_stop_the_run(num_workers: int) -> None:
    plan = make_plan(num_samples=40)
    loader = Loader(plan, Work(spoil_the_odd, num_workers, 2, False), "made up", 0.2)
    with pytest.raises(ValueError, match=r"are damaged, allowed is a share of 0.2: \d+ x video ends too early"):
        list(loader)


def spoil_the_odd(planned: PlannedBatch) -> Assembled:
    spoilt = {f"clip-{sample}": "video ends too early" for _, sample in planned.rows if sample % 2}
    return Assembled(name_rows(planned).batch, spoilt)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_gives_the_same_batches_each_time_and_every_rank_as_many(world_size: int) -> None:
    loaders = [
        EvaluationLoader(
            make_plan(4, rank, world_size, is_shuffled=False), Work(name_rows, 0, 2, False), "made up", 0.1
        )
        for rank in range(world_size)
    ]
    assert len({len(loader) for loader in loaders}) == 1
    seen = [keys(iter(loader)) for loader in loaders]
    assert seen == [keys(iter(loader)) for loader in loaders]
    together = sorted(int(key.split("/")[-1]) for part in seen for key in part)
    num_seen = 37 if world_size == 1 else 37 - 37 % (4 * world_size)
    assert together == list(range(num_seen))


def test_evaluation_of_few_samples_gives_them_to_every_rank() -> None:
    plans = [make_plan(4, rank, 3, num_samples=2, is_shuffled=False) for rank in range(3)]
    for plan in plans:
        assert keys(iter(EvaluationLoader(plan, Work(name_rows, 0, 2, False), "made up", 0.1))) == [
            "all/0/0",
            "all/0/1",
        ]


def test_evaluation_takes_buckets_in_turn() -> None:
    plans = [BucketPlan(name, Bucket(64, 64, 8, 0.5, 2), range(num)) for name, num in (("tall", 6), ("wide", 2))]
    batches = EvaluationLoader(BatchPlan(plans, 0, False, 0, 1), Work(name_rows, 0, 2, False), "made up", 0.1)
    assert [batch.keys[0] for batch in batches] == ["tall/0/0", "wide/0/0", "tall/0/2", "tall/0/4"]
