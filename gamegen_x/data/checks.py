"""What can be said about the data of a run from its config alone: before torch is imported and anything is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamegen_x.data.buckets import choose_buckets
from gamegen_x.data.shards import find_shards
from gamegen_x.data.video_prompts import KINDS

CONTENTS = ("frames", "latents", "facts")
VIEWS = ("all", "one")


def check_data(data: Mapping[str, Any]) -> None:
    """Takes the resolved `data` node. Raises ValueError or FileNotFoundError for data that cannot be loaded so."""
    check_choices(data["content"], data["views"], data["video_prompts"], data["weights"])
    choose_buckets(data["buckets"], data["num_frames"], data["batch_size"], data["height"], data["width"])
    dataset = data["dataset"]
    splits = dataset.get("splits", {})
    for split, folder in splits.items():
        try:
            find_shards(Path(dataset["folder"]) / folder)
        except FileNotFoundError as missing:
            if split == "train":
                raise
            train = splits.get("train", "train")
            hint = f"; or, with nothing kept apart, data.dataset.splits.{split}={train}, which then says little"
            raise FileNotFoundError(f"{missing}{hint}") from None


def check_choices(content: str, views: str, video_prompts: Mapping[str, float], weights: str | None) -> None:
    """Raises ValueError."""
    _check_choice("content", content, CONTENTS)
    _check_choice("views", views, VIEWS)
    for kind in video_prompts:
        _check_choice("video_prompts", kind, KINDS)
    if sum(video_prompts.values()) > 1:
        raise ValueError(f"the shares of video_prompts sum to at most 1, got {dict(video_prompts)}")
    if content == "facts" and (views != "all" or any(video_prompts.values())):
        raise ValueError(
            "content=facts reads no pictures and needs what all players do: set data.views=all and no video_prompts"
        )
    if content == "latents" and weights is None:
        raise ValueError(
            "content=latents needs weights=<folder> with a trained vae; train one with `python train.py task=vae`"
        )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"data.{name} is one of {list(choices)}, got {value!r}")
