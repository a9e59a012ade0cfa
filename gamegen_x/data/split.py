"""Split: one split of a dataset as training uses it: its records in buckets, and the caches of each bucket."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import torch

from gamegen_x.data.assemble import Assembler, Shape
from gamegen_x.data.buckets import BatchPlan, Bucket, BucketPlan, assign_records, with_size_of
from gamegen_x.data.frame_cache import DecodedFrames, FrameCache, FrameReader, Frames
from gamegen_x.data.latent_cache import Encoder, LatentCache, LatentKind, choose_device, hash_file, whole_view
from gamegen_x.data.played import PlayedCache, PlaysAlong
from gamegen_x.data.records import DamagedRecord, RecordSource
from gamegen_x.data.shards import check_damage
from gamegen_x.data.state import PlaceReader, StateReader, StateSettings
from gamegen_x.data.video_prompts import PromptStyle, draw_prompt
from gamegen_x.data.windows import WindowRules
from gamegen_x.models.vae import VideoVAE
from gamegen_x.models.weights import build_network, load_network
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.weights_folder import read_config
from gamegen_x.world.places import Places


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


@dataclass(frozen=True)
class SampleSettings:
    """What a sample is made of: see configs/data/base.yaml."""

    views: str
    start_multiple: int
    instruction_share: float
    max_instruction_age: int | None
    video_prompts: Mapping[str, float]
    video_prompt_style: PromptStyle
    cache_frames: bool
    cache_video_prompts: bool
    action_space: ActionSpace
    seed: int
    content: str
    state: StateSettings | None
    places: Places
    play_along: PlaysAlong | None


class DescribedVAE:
    """The VAE of a weights folder: its shape at once, its weights when they are needed."""

    def __init__(self, weights: Path, settings: LatentSettings) -> None:
        config = read_config(weights)
        if "vae" not in config["networks"]:
            raise ValueError(f"{weights} has no vae; train one with `python train.py task=vae`")
        self.weights = weights
        self.settings = settings
        self.config = config
        with torch.device("meta"):
            self.network = cast(VideoVAE, build_network(config["networks"]["vae"]))

    @cached_property
    def kind(self) -> LatentKind:
        return LatentKind(
            weights=hash_file(
                self.weights / "vae.safetensors",
                self.config["networks"]["vae"],
                *([] if self.settings.is_autocast else ["without autocast"]),
            ),
            temporal_factor=self.network.temporal_factor,
            chunk_frames=self.network.chunk_frames,
            shift=float(self.config["latent_shift"]),
            scale=float(self.config["latent_scale"]),
            dtype=self.settings.dtype,
        )

    def encoder(self) -> Encoder:
        device = choose_device(self.settings.device)
        vae = cast(VideoVAE, load_network(self.weights, "vae")).to(device)
        return Encoder(vae, self.kind, self.settings.batch_size, self.settings.is_autocast, device)


class Split:
    """Records that fit a bucket, readable as windows of frames, or of latents where there is a VAE."""

    def __init__(
        self,
        source: RecordSource,
        buckets: Mapping[str, Bucket],
        settings: SampleSettings,
        vae: DescribedVAE | None,
        folder: Path,
        max_damaged_share: float,
    ) -> None:
        self.source = source
        self.settings = settings
        self.vae = vae
        self.max_damaged_share = max_damaged_share
        self.buckets = {name: with_size_of(bucket, source.headers) for name, bucket in buckets.items()}
        self.assigned, self.unfit = assign_records(source.headers, self.buckets, settings.seed)
        self.damage: dict[str, str] = {}
        self._readers: dict[str, FrameReader] = {}
        self._latents: dict[str, LatentCache] = {}
        self._prompts: dict[str, dict[str, LatentCache]] = {}
        self._played: dict[str, PlayedCache] = {}
        check_keys(source, settings.action_space)
        for name, bucket in self.buckets.items():
            self._describe_caches(name, bucket, folder)

    @property
    def needs_frames(self) -> bool:
        """Whether training itself reads pixels; encoding latents once does not call for a cache of frames."""
        if self.settings.content == "facts":
            return False
        has_prompts = any(self.settings.video_prompts.values())
        return self.vae is None or (has_prompts and not self.settings.cache_video_prompts)

    def prepare(self) -> None:
        """Makes the caches that are missing."""
        if self.needs_frames:
            for reader in self._frame_caches():
                reader.prepare()
        is_encoded = self.vae is None or all(cache.is_complete() for cache in self._latent_caches())
        if is_encoded and not self._played:
            return
        for reader in self._frame_caches():
            reader.open_what_is_there()
        for played in self._played.values():
            played.prepare()
        if self.vae is not None and not is_encoded:
            encoder = self.vae.encoder()
            for cache in self._latent_caches():
                cache.prepare(encoder)

    def open(self) -> None:
        """Opens the caches. Raises ValueError where too much is damaged."""
        self.damage.update(self.source.damage)
        if self.needs_frames:
            self._open_frames()
        for cache in self._latent_caches():
            cache.open()
        for cache in self._latents.values():
            self.damage.update(cache.damage)
        for played in self._played.values():
            played.open()
            self.damage.update(played.damage)
        num_good = len(self.source.headers) - len(self.damage.keys() - self.source.damage.keys())
        check_damage(self.source.name, self.damage, num_good, self.max_damaged_share)
        self.assigned = {
            name: [index for index in records if self.source.headers[index].key not in self.damage]
            for name, records in self.assigned.items()
        }

    def _open_frames(self) -> None:
        for reader in self._frame_caches():
            reader.open()
            self.damage.update(reader.damage)

    def say_what_is_left_out(self) -> None:
        """One line on stderr for damaged records and one for those that fit no bucket."""
        if self.damage:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(self.damage.values()).most_common())
            print(f"{self.source.name}: {len(self.damage)} damaged samples are skipped: {reasons}", file=sys.stderr)
        if self.unfit:
            header = self.source.headers[self.unfit[0]]
            print(
                f"{self.source.name}: {len(self.unfit)} of {len(self.source.headers)} clips are smaller or shorter "
                f"than every bucket and left out, e.g. {header.key}: {header.height}x{header.width}, "
                f"{header.num_frames} frames",
                file=sys.stderr,
            )

    def plan(self, rank: int, world_size: int, is_shuffled: bool) -> BatchPlan:
        numbers: dict[int, list[int]] = {}
        for number, (index, _) in enumerate(self._samples()):
            numbers.setdefault(index, []).append(number)
        plans = [
            BucketPlan(name, self.buckets[name], [number for index in records for number in numbers[index]])
            for name, records in self.assigned.items()
        ]
        return BatchPlan(plans, self.settings.seed, is_shuffled, rank, world_size)

    def assembler(self, plan: BatchPlan) -> Assembler:
        headers = self.source.headers
        is_every_view = self.settings.views == "all"
        return Assembler(
            self.source,
            self._samples(),
            {bucket.name: self._shape(bucket) for bucket in plan.buckets},
            self.settings.action_space,
            max(header.num_players for header in headers) if is_every_view else 1,
            self.settings.video_prompts,
            self.settings.video_prompt_style,
            self.settings.seed,
        )

    def _samples(self) -> list[tuple[int, int | None]]:
        headers = self.source.headers
        if self.settings.views == "all":
            return [(index, None) for index in range(len(headers))]
        return [(index, view) for index, header in enumerate(headers) for view in range(header.num_players)]

    def _describe_caches(self, name: str, bucket: Bucket, folder: Path) -> None:
        settings, records = self.settings, self.assigned[name]
        assert bucket.height is not None
        assert bucket.width is not None
        size = (bucket.height, bucket.width)
        if settings.cache_frames:
            self._readers[name] = FrameCache(self.source, folder, *size, records)
        else:
            self._readers[name] = DecodedFrames(self.source, *size)
        if settings.play_along is not None:
            factor = settings.play_along.temporal_factor
            if self.vae is not None and self.vae.network.chunk_frames is not None:
                raise ValueError(
                    f"the vae in {self.vae.weights} codes in chunks of {self.vae.network.chunk_frames} frames, and "
                    "whole latent frames are played along; set data.play_along=null"
                )
            if self.vae is not None and (reason := settings.play_along.fault_beside(self.vae.weights)):
                raise ValueError(f"{reason}; set data.play_along.weights to weights that hold it, or play_along=null")
            if settings.start_multiple % factor or bucket.num_frames % factor:
                raise ValueError(
                    f"what is played along are whole latent frames of {factor} video frames: data.start_multiple and "
                    f"num_frames are multiples of that, got {settings.start_multiple} and {bucket.num_frames}"
                )
            self._played[name] = PlayedCache(
                self.source, self._readers[name], folder, settings.play_along, size, records
            )
        if self.vae is None:
            return
        make_cache = partial(LatentCache, self.source, self._readers[name], folder, self.vae.kind, size, records)
        self._latents[name] = make_cache(whole_view, "latents", {})
        self._prompts[name] = {}
        if settings.cache_video_prompts:
            for kind in (kind for kind, share in settings.video_prompts.items() if share):
                draw = partial(whole_prompt, kind, settings.video_prompt_style)
                self._prompts[name][kind] = make_cache(draw, f"latents-{kind}", asdict(settings.video_prompt_style))

    def _shape(self, plan: BucketPlan) -> Shape:
        num_frames, step, num_latent_frames = plan.bucket.num_frames, self.settings.start_multiple, 0
        num_rows = num_frames
        if self.vae is not None:  # windows begin with a chunk of the VAE, as everything that is decoded does
            network = self.vae.network
            step = network.num_latent_frames(network.unit_frames) * network.temporal_factor
            num_latent_frames = network.num_latent_frames(num_frames)
            num_rows = num_latent_frames * network.temporal_factor
        rules = WindowRules(
            num_rows=num_rows,
            step=step,
            instruction_share=self.settings.instruction_share,
            max_instruction_age=self.settings.max_instruction_age,
        )
        if self.settings.content == "facts":
            places = PlaceReader(self.source, self.settings.places)
            return Shape(None, None, {}, num_latent_frames, rules, plan.samples, places=places)
        return Shape(
            self._readers[plan.name],
            self._latents.get(plan.name),
            self._prompts.get(plan.name, {}),
            num_latent_frames,
            rules,
            plan.samples,
            self._state_reader(plan.bucket),
            self._played.get(plan.name),
        )

    def _state_reader(self, bucket: Bucket) -> StateReader | None:
        if self.settings.state is None:
            return None
        assert bucket.height is not None
        assert bucket.width is not None
        if self.vae is None:
            return StateReader(self.source, None, 1, (bucket.height, bucket.width))
        factor = self.vae.network.spatial_factor
        size = (bucket.height // factor, bucket.width // factor)
        return StateReader(self.source, self.settings.state, self.vae.network.temporal_factor, size)

    def _frame_caches(self) -> list[FrameCache]:
        return [reader for reader in self._readers.values() if isinstance(reader, FrameCache)]

    def _latent_caches(self) -> list[LatentCache]:
        return [*self._latents.values(), *(cache for kinds in self._prompts.values() for cache in kinds.values())]


def whole_prompt(
    kind: str, style: PromptStyle, source: RecordSource, reader: FrameReader, index: int, view: int
) -> Frames:
    """The video prompt of a whole clip. Raises DamagedRecord if it cannot have this one."""
    header = source.headers[index]
    drawn = draw_prompt(kind, style, source, reader, index, view, 0, header.num_frames)
    if drawn is None:
        raise DamagedRecord(header.key, f"no {kind} in its state")
    return drawn


def check_keys(source: RecordSource, action_space: ActionSpace) -> None:
    """Raises ValueError if records hold keys that this training does not know."""
    for found in {header.action_space for header in source.headers}:
        unknown = sorted(set(found.keys) - set(action_space.keys))
        if unknown:
            raise ValueError(
                f"records of {source.name} hold keys {unknown} of {found.name!r}, which the action space "
                f"{action_space.name!r} {list(action_space.keys)} does not have; choose action_space={found.name}"
            )
