from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gamegen_x.config import CONFIGS
from gamegen_x.data.buckets import (
    BatchPlan,
    Bucket,
    BucketPlan,
    assign_records,
    check_buckets,
    read_buckets,
    with_size_of,
)
from gamegen_x.data.records import RecordHeader
from gamegen_x.schema.action_space import ActionSpace

HEADER = RecordHeader("key", 96, 1, 64, 64, 24.0, ActionSpace("w", ("w",)), "A clip.", (), True)


def headers(*shapes: tuple[int, int, int]) -> list[RecordHeader]:
    return [
        replace(HEADER, key=f"clip-{number}", height=height, width=width, num_frames=frames)
        for number, (height, width, frames) in enumerate(shapes)
    ]


def paper_buckets() -> dict[str, Any]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("data/ogamedata")
    return OmegaConf.to_container(cfg.data.buckets)  # type: ignore[return-value]


def walk(plan: BatchPlan, num_batches: int) -> Counter[str]:
    consumed, seen = plan.start(), Counter[str]()
    for _ in range(num_batches):
        batch = plan.batch(consumed)
        seen[batch.bucket] += len(batch.rows)
        consumed = plan.advance(consumed)
    return seen


def test_paper_bucket_mix() -> None:
    buckets = read_buckets(paper_buckets())
    shares = sorted((b.height, b.num_frames, round(100 * b.share, 2)) for b in buckets.values())
    assert shares == [
        (480, 89, 6.48),
        (480, 204, 6.48),
        (480, 408, 18.0),
        (512, 51, 3.24),
        (720, 102, 54.0),
        (1024, 1, 2.0),
        (1024, 51, 1.8),
        (1024, 102, 8.0),
    ]
    assert all(b.height % 16 == 0 and b.width % 16 == 0 for b in buckets.values())  # 8x VAE, patches of 2


def test_paper_mix_is_what_training_sees() -> None:
    buckets = read_buckets(paper_buckets())
    plans = [BucketPlan(name, bucket, range(100)) for name, bucket in buckets.items()]
    seen = walk(BatchPlan(plans, 0, True, 0, 1), 1000)
    largest = max(bucket.batch_size for bucket in buckets.values())
    for name, bucket in buckets.items():
        assert abs(seen[name] - bucket.share * seen.total()) <= largest, name


def test_a_clip_goes_to_a_bucket_that_it_fills() -> None:
    buckets = {"large": Bucket(720, 1280, 102, 0.5, 1), "small": Bucket(480, 848, 51, 0.5, 1)}
    clips = headers((1080, 1920, 200), (480, 848, 60), (720, 1280, 60), (100, 100, 300), (1080, 1920, 200))
    assigned, unfit = assign_records(clips, buckets, 0)
    assert unfit == [3]
    assert assigned == {"large": [0, 4], "small": [1, 2]}


def test_clips_that_fit_anywhere_are_dealt_by_share() -> None:
    buckets = {"often": Bucket(64, 64, 8, 0.75, 1), "seldom": Bucket(32, 32, 8, 0.25, 1)}
    assigned, unfit = assign_records(headers(*[(64, 64, 96)] * 400), buckets, 0)
    assert not unfit
    assert len(assigned["often"]) == 300


def test_the_files_order_does_not_decide() -> None:
    buckets = {"a": Bucket(64, 64, 8, 0.5, 1), "b": Bucket(32, 32, 8, 0.5, 1)}
    clips = headers(*[(64, 64, 96)] * 20)
    one, _ = assign_records(clips, buckets, 0)
    other, _ = assign_records(clips[::-1], buckets, 0)
    assert {clips[i].key for i in one["a"]} == {clips[::-1][i].key for i in other["a"]}


def test_a_bucket_that_cannot_fill_a_batch_says_what_there_is() -> None:
    buckets = {"720px102": Bucket(720, 1280, 102, 1.0, 4)}
    clips = headers((720, 1280, 102), (480, 848, 60))
    assigned, _ = assign_records(clips, buckets, 0)
    plan = BatchPlan([BucketPlan("720px102", buckets["720px102"], assigned["720px102"])], 0, True, 0, 2)
    check_buckets(plan, clips, is_whole_batch_needed=False)
    with pytest.raises(ValueError) as refused:
        check_buckets(plan, clips, is_whole_batch_needed=True)
    said = str(refused.value)
    assert "720px102" in said
    assert "needs 8 samples" in said
    assert "got 1 from 2 clips" in said
    assert "largest 720x1280" in said


@pytest.mark.parametrize(
    ("bucket", "said"),
    [
        ({"height": 64, "width": 64, "num_frames": 8, "share": 0.5, "batch_size": 1}, "sum to 1, got 0.5"),
        ({"height": 64, "width": 64, "num_frames": 0, "share": 1.0, "batch_size": 1}, "positive numbers"),
        ({"height": 64, "width": None, "num_frames": 8, "share": 1.0, "batch_size": 1}, "both height and width"),
    ],
)
def test_impossible_buckets_are_refused(bucket: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_buckets({"a": bucket})


def test_without_a_size_the_most_common_one_is_taken() -> None:
    bucket = with_size_of(Bucket(None, None, 8, 1.0, 1), headers((64, 64, 8), (120, 160, 8), (120, 160, 8)))
    assert (bucket.height, bucket.width) == (120, 160)
