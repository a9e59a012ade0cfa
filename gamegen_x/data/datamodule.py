"""VideoDataModule: train, validation and test loaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch

from gamegen_x.data.assemble import Assembler, Shape
from gamegen_x.data.buckets import (
    BatchPlan,
    Bucket,
    BucketPlan,
    assign_records,
    check_buckets,
    read_buckets,
    with_size_of,
)
from gamegen_x.data.frame_cache import DecodedFrames, FrameCache, FrameReader, Frames
from gamegen_x.data.latent_cache import Encoder, LatentCache, LatentKind, hash_file, whole_view
from gamegen_x.data.loader import EvaluationLoader, Loader, Work
from gamegen_x.data.records import DamagedRecord, Dataset, RecordSource
from gamegen_x.data.shards import check_damage
from gamegen_x.data.video_prompts import KINDS, PromptStyle, draw_prompt
from gamegen_x.data.windows import WindowRules
from gamegen_x.models.vae import VideoVAE
from gamegen_x.models.weights import build_network, load_network, read_config
from gamegen_x.schema.action_space import ActionSpace

CONTENTS = ("frames", "latents")
VIEWS = ("all", "one")
EPOCH_BUCKET = "all"


@dataclass(frozen=True)
class LatentSettings:
    """How records become cached latents. `device` "auto" takes a GPU if there is one."""

    dtype: str
    batch_size: int
    is_autocast: bool
    device: str

    def __post_init__(self) -> None:
        if self.dtype not in ("float16", "bfloat16"):
            raise ValueError(f"latents are kept as float16 or bfloat16, got {self.dtype!r}")

    def choose_device(self) -> str:
        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"


class VideoDataModule(L.LightningDataModule):
    """Windows of recorded clips, as pixels (`content` frames) or as cached latents (`content` latents).

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
        cache_frames: bool,
        cache_video_prompts: bool,
        action_space: ActionSpace,
        seed: int,
        num_workers: int,
        prefetch_batches: int,
        pin_memory: bool,
    ) -> None:
        super().__init__()
        _check_choice("content", content, CONTENTS)
        _check_choice("views", views, VIEWS)
        for kind in video_prompts:
            _check_choice("video_prompts", kind, KINDS)
        if sum(video_prompts.values()) > 1:
            raise ValueError(f"the shares of video_prompts sum to at most 1, got {dict(video_prompts)}")
        if content == "latents" and weights is None:
            raise ValueError(
                "content=latents needs weights=<folder> with a trained vae; train one with `python train.py task=vae`"
            )
        if (buckets is None) == (num_frames is None or batch_size is None):
            raise ValueError(
                "give either data.num_frames and data.batch_size, or data.buckets; "
                f"got num_frames={num_frames}, batch_size={batch_size}, buckets={buckets and list(buckets)}"
            )
        if buckets is None:
            assert num_frames is not None
            assert batch_size is not None
            buckets = {EPOCH_BUCKET: Bucket(height, width, num_frames, 1.0, batch_size)}
        self.buckets = read_buckets(buckets)
        self.dataset = dataset
        self.sources = dataset.splits()
        self.content = content
        self.weights = None if weights is None else Path(weights)
        self.latents = latents if isinstance(latents, LatentSettings) else LatentSettings(**latents)
        self.views = views
        self.start_multiple = start_multiple
        self.instruction_share = instruction_share
        self.max_instruction_age = max_instruction_age
        self.video_prompts = dict(video_prompts)
        style = video_prompt_style
        self.video_prompt_style = style if isinstance(style, PromptStyle) else PromptStyle(**style)
        self.cache_frames = cache_frames
        self.cache_video_prompts = cache_video_prompts
        self.action_space = action_space
        self.max_damaged_share = dataset.max_damaged_share
        self.seed = seed
        self.num_workers = num_workers
        self.prefetch_batches = prefetch_batches
        self.pin_memory = pin_memory
        self._splits: dict[str, _Split] = {}

    def prepare_data(self) -> None:
        """Makes every cache that is missing. One process a node does this."""
        for name, source in self.sources.items():
            source.prepare()
            self._split(name).prepare()

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Opens the caches. Raises ValueError on data that this training cannot use."""
        self._splits = {name: self._split(name) for name in self.sources}
        for split in self._splits.values():
            split.open()

    def train_dataloader(self) -> Loader:
        split = self._splits["train"]
        plan = split.plan(self._rank, self._world_size, is_shuffled=True)
        assigned = {bucket.name: bucket.samples for bucket in plan.buckets}
        check_buckets(assigned, split.buckets, self._world_size, split.source.headers)
        return Loader(plan, self._work(split, plan), split.source.name, self.max_damaged_share)

    def val_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation_loader("test" if "test" in self._splits else "val")

    def damage(self, split: str) -> Mapping[str, str]:
        """What was skipped in a split: record -> reason. Records that are decoded on the fly: see `Loader.damage`."""
        return self._splits[split].damage

    def texts(self) -> list[str]:
        """Every caption and instruction of all splits, once each: what a cache of text embeddings needs."""
        said = {
            text
            for split in self._splits.values()
            for header in split.source.headers
            for text in (header.caption, *(instruction.text for instruction in header.instructions))
        }
        return sorted(said)

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _evaluation_loader(self, name: str) -> EvaluationLoader:
        split = self._splits[name]
        plan = split.plan(self._rank, self._world_size, is_shuffled=False)
        return EvaluationLoader(plan, self._work(split, plan))

    def _work(self, split: _Split, plan: BatchPlan) -> Work:
        samples = {bucket.name: bucket.samples for bucket in plan.buckets}
        return Work(split.assembler(samples), self.num_workers, self.prefetch_batches, self.pin_memory)

    def _split(self, name: str) -> _Split:
        source = self.sources[name]
        source.open()
        return _Split(self, source, self.dataset.cache_folder / name)


class _Split:
    """One split of the data: its records in buckets, and the caches of each bucket."""

    def __init__(self, module: VideoDataModule, source: RecordSource, folder: Path) -> None:
        self.module = module
        self.source = source
        headers = source.headers
        self.buckets = {name: with_size_of(bucket, headers) for name, bucket in module.buckets.items()}
        self.assigned, self.unfit = assign_records(headers, self.buckets, module.seed)
        self.vae = _DescribedVAE(module.weights) if module.content == "latents" and module.weights else None
        self.readers: dict[str, FrameReader] = {}
        self.latents: dict[str, LatentCache] = {}
        self.prompts: dict[str, dict[str, LatentCache]] = {}
        self.damage: dict[str, str] = {}
        _check_action_spaces(source, module.action_space)
        for name, bucket in self.buckets.items():
            self._describe_caches(name, bucket, folder)

    def prepare(self) -> None:
        for reader in self.readers.values():
            if isinstance(reader, FrameCache):
                reader.prepare()
        caches = [*self.latents.values(), *(cache for kinds in self.prompts.values() for cache in kinds.values())]
        if self.vae is None or all(cache.is_complete() for cache in caches):
            return
        settings = self.module.latents
        device = settings.choose_device()
        encoder = Encoder(
            self.vae.load().to(device), self.vae.kind(settings.dtype), settings.batch_size, settings.is_autocast, device
        )
        for reader in self.readers.values():
            if isinstance(reader, FrameCache):
                reader.open()
        for cache in caches:
            cache.prepare(encoder)

    def open(self) -> None:
        damage = self.damage = dict(self.source.damage)
        for reader in self.readers.values():
            if isinstance(reader, FrameCache):
                reader.open()
                damage.update(reader.damage)
        for cache in self.latents.values():
            cache.open()
            damage.update(cache.damage)
        for kinds in self.prompts.values():
            for cache in kinds.values():
                cache.open()
        check_damage(self.source.name, damage, len(self.source.headers), self.module.max_damaged_share)
        damaged = set(damage)
        self.assigned = {
            name: [index for index in records if self.source.headers[index].key not in damaged]
            for name, records in self.assigned.items()
        }

    def plan(self, rank: int, world_size: int, is_shuffled: bool) -> BatchPlan:
        numbers: dict[int, list[int]] = {}
        for number, (index, _) in enumerate(self._samples()):
            numbers.setdefault(index, []).append(number)
        plans = [
            BucketPlan(name, self.buckets[name], [number for index in records for number in numbers[index]])
            for name, records in self.assigned.items()
        ]
        return BatchPlan(plans, self.module.seed, is_shuffled, rank, world_size)

    def assembler(self, samples: Mapping[str, Sequence[int]]) -> Assembler:
        headers = self.source.headers
        module = self.module
        num_players = max(header.num_players for header in headers) if module.views == "all" else 1
        return Assembler(
            self.source,
            self._samples(),
            {name: self._shape(name, samples[name]) for name in self.buckets},
            module.action_space,
            num_players,
            module.video_prompts,
            module.video_prompt_style,
            module.seed,
        )

    def _samples(self) -> list[tuple[int, int | None]]:
        headers = self.source.headers
        if self.module.views == "all":
            return [(index, None) for index in range(len(headers))]
        return [(index, view) for index, header in enumerate(headers) for view in range(header.num_players)]

    def _describe_caches(self, name: str, bucket: Bucket, folder: Path) -> None:
        module, records = self.module, self.assigned[name]
        assert bucket.height is not None
        assert bucket.width is not None
        size = (bucket.height, bucket.width)
        if module.cache_frames:
            self.readers[name] = FrameCache(self.source, folder, *size, records)
        else:
            self.readers[name] = DecodedFrames(self.source, *size)
        if self.vae is None:
            return
        kind = self.vae.kind(module.latents.dtype)
        make_cache = partial(LatentCache, self.source, self.readers[name], folder, kind, size, records)
        self.latents[name] = make_cache(whole_view, "latents", {})
        self.prompts[name] = {}
        if module.cache_video_prompts:
            for prompt in (kind for kind, share in module.video_prompts.items() if share):
                style = module.video_prompt_style
                draw = partial(_whole_prompt, prompt, style)
                self.prompts[name][prompt] = make_cache(draw, f"latents-{prompt}", asdict(style))

    def _shape(self, name: str, samples: Sequence[int]) -> Shape:
        bucket, module = self.buckets[name], self.module
        factor = self.vae.network.temporal_factor if self.vae else 1
        num_latent_frames = self.vae.network.num_latent_frames(bucket.num_frames) if self.vae else 0
        rules = WindowRules(
            num_rows=num_latent_frames * factor if self.vae else bucket.num_frames,
            step=factor if self.vae else module.start_multiple,
            instruction_share=module.instruction_share,
            max_instruction_age=module.max_instruction_age,
        )
        latents = self.latents.get(name)
        return Shape(self.readers[name], latents, self.prompts.get(name, {}), num_latent_frames, rules, samples)


class _DescribedVAE:
    """The VAE of a weights folder: its shape at once, its weights when they are needed."""

    def __init__(self, weights: Path) -> None:
        config = read_config(weights)
        if "vae" not in config["networks"]:
            raise ValueError(f"{weights} has no vae; train one with `python train.py task=vae`")
        self.weights = weights
        self.config = config
        with torch.device("meta"):
            self.network = cast(VideoVAE, build_network(config["networks"]["vae"]))

    def kind(self, dtype: str) -> LatentKind:
        return LatentKind(
            weights=hash_file(self.weights / "vae.safetensors", self.config["networks"]["vae"]),
            temporal_factor=self.network.temporal_factor,
            chunk_frames=self.network.chunk_frames,
            shift=float(self.config["latent_shift"]),
            scale=float(self.config["latent_scale"]),
            dtype=dtype,
        )

    def load(self) -> VideoVAE:
        return cast(VideoVAE, load_network(self.weights, "vae"))


def _whole_prompt(
    kind: str, style: PromptStyle, source: RecordSource, reader: FrameReader, index: int, view: int
) -> Frames:
    header = source.headers[index]
    drawn = draw_prompt(kind, style, source, reader, index, view, 0, header.num_frames)
    if drawn is None:
        raise DamagedRecord(header.key, f"no {kind} in its state")
    return drawn


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"data.{name} is one of {list(choices)}, got {value!r}")


def _check_action_spaces(source: RecordSource, action_space: ActionSpace) -> None:
    for found in {header.action_space for header in source.headers}:
        unknown = sorted(set(found.keys) - set(action_space.keys))
        if unknown:
            raise ValueError(
                f"records of {source.name} hold keys {unknown} of {found.name!r}, which the action space "
                f"{action_space.name!r} {list(action_space.keys)} does not have; choose action_space={found.name}"
            )
