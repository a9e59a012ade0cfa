"""VideoDataModule: train, validation and test loaders."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L

from gamegen_x.data.buckets import Bucket, check_buckets, choose_buckets
from gamegen_x.data.checks import check_choices
from gamegen_x.data.loader import EvaluationLoader, Loader, Work
from gamegen_x.data.played import PlaysAlong
from gamegen_x.data.records import Dataset
from gamegen_x.data.split import DescribedVAE, LatentSettings, SampleSettings, Split
from gamegen_x.data.state import StateSettings
from gamegen_x.data.video_prompts import PromptStyle
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.world.places import Places


class VideoDataModule(L.LightningDataModule):
    """Windows of recorded clips, as pixels (`content` frames), as cached latents (`content` latents), or without any
    picture, as what is true of them (`content` facts).

    A sample is a clip with all its views, or (`views` one) one view of a clip; each comes once an epoch, with a window
    of its own. Windows have `num_frames` video frames at the size of the data (or `height` and `width`), or follow
    `buckets`. `prepare_data` reads shards, decodes frames (`cache_frames`) and encodes latents once, and keeps them
    in the dataset's cache folder.
    """

    def __init__(
        self,
        *,
        dataset: Dataset,
        content: str,
        weights: str | None,
        latents: LatentSettings | Mapping[str, Any],
        views: str,
        num_frames: int | None,
        height: int | None,
        width: int | None,
        batch_size: int | None,
        buckets: Mapping[str, Bucket | Mapping[str, Any]] | None,
        start_multiple: int,
        instruction_share: float,
        max_instruction_age: int | None,
        video_prompts: Mapping[str, float],
        video_prompt_style: PromptStyle | Mapping[str, Any],
        state: StateSettings | None,
        places: Places,
        play_along: PlaysAlong | None,
        cache_frames: bool,
        cache_video_prompts: bool,
        action_space: ActionSpace,
        seed: int,
        num_workers: int,
        prefetch_batches: int,
        pin_memory: bool,
    ) -> None:
        super().__init__()
        check_choices(content, views, video_prompts, weights)
        self.dataset = dataset
        self.sources = dataset.splits()
        self.buckets = choose_buckets(buckets, num_frames, batch_size, height, width)
        self.content = content
        self.weights = weights
        self.latents = latents if isinstance(latents, LatentSettings) else LatentSettings(**latents)
        style = video_prompt_style
        self.settings = SampleSettings(
            views=views,
            start_multiple=start_multiple,
            instruction_share=instruction_share,
            max_instruction_age=max_instruction_age,
            video_prompts=dict(video_prompts),
            video_prompt_style=style if isinstance(style, PromptStyle) else PromptStyle(**style),
            cache_frames=cache_frames,
            cache_video_prompts=cache_video_prompts,
            action_space=action_space,
            seed=seed,
            content=content,
            state=state,
            places=places,
            play_along=play_along,
        )
        self.num_workers = num_workers
        self.prefetch_batches = prefetch_batches
        self.pin_memory = pin_memory
        self._splits: dict[str, Split] = {}

    def prepare_data(self) -> None:
        """Makes every cache that is missing. One process a node does this.

        Raises ValueError on data that this training cannot use, before anything takes long.
        """
        for source in self.sources.values():
            source.prepare()
        splits = {name: self._split(name) for name in self.sources}
        for split in splits.values():
            split.prepare()

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Opens the caches. Raises ValueError where too much is damaged."""
        self._splits = {name: self._split(name) for name in self.sources}
        for split in self._splits.values():
            split.open()
            if self._rank == 0:
                split.say_what_is_left_out()

    def train_dataloader(self) -> Loader:
        split = self._splits["train"]
        plan = split.plan(self._rank, self._world_size, is_shuffled=True)
        return Loader(plan, self._work(split.assembler(plan)), split.source.name, self.dataset.max_damaged_share)

    def val_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("test" if "test" in self._splits else "val")

    def damage(self, split: str) -> Mapping[str, str]:
        """What was skipped in a split: record -> reason. Records that are decoded on the fly: see `Loader.damage`."""
        return self._splits[split].damage

    @cached_property
    def _vae(self) -> DescribedVAE | None:
        is_needed = self.content == "latents" and self.weights is not None
        return DescribedVAE(Path(str(self.weights)), self.latents) if is_needed else None

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _split(self, name: str) -> Split:
        source = self.sources[name]
        source.open()
        folder = self.dataset.cache_folder / name
        split = Split(source, self.buckets, self.settings, self._vae, folder, self.dataset.max_damaged_share)
        plan = split.plan(self._rank, self._world_size, is_shuffled=False)
        check_buckets(plan, source.headers, is_whole_batch_needed=name == "train")
        return split

    def _evaluation_loader(self, name: str) -> EvaluationLoader:
        split = self._splits[name]
        plan = split.plan(self._rank, self._world_size, is_shuffled=False)
        work = self._work(split.assembler(plan))
        return EvaluationLoader(plan, work, split.source.name, self.dataset.max_damaged_share)

    def _work(self, assembler: Any) -> Work:
        return Work(assembler, self.num_workers, self.prefetch_batches, self.pin_memory)
