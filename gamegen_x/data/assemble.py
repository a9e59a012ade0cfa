"""Assembler: a planned batch -> tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gamegen_x.data.batch import Batch
from gamegen_x.data.buckets import PlannedBatch
from gamegen_x.data.frame_cache import FrameReader
from gamegen_x.data.latent_cache import LatentCache
from gamegen_x.data.loader import Assembled
from gamegen_x.data.order import Draws
from gamegen_x.data.played import PlayedCache
from gamegen_x.data.records import DamagedRecord, RecordSource
from gamegen_x.data.state import DrawnState, KnownPlaces, PlaceReader, StateReader
from gamegen_x.data.video_prompts import PromptStyle, draw_prompt
from gamegen_x.data.windows import SpokenInstruction, WindowRules, instruction_in_force, place_window
from gamegen_x.schema.action_space import ActionSpace

MAX_REPLACEMENTS = 100  # after so many unreadable records in a row something else is wrong


@dataclass(frozen=True)
class Shape:
    """One bucket's batches: where pixels and latents come from, and how windows are placed."""

    reader: FrameReader | None  # None: only places are read
    latents: LatentCache | None
    prompt_latents: Mapping[str, LatentCache]
    num_latent_frames: int
    rules: WindowRules
    samples: Sequence[int]
    state: StateReader | None = None
    played: PlayedCache | None = None
    places: PlaceReader | None = None  # then nothing else is read


@dataclass(frozen=True)
class Row:
    """One sample of a batch."""

    index: int  # of the record
    views: Sequence[int]
    rows: Int[np.ndarray, " row"]
    instruction: SpokenInstruction
    video: UInt8[np.ndarray, "p t_video h_video w_video 3"] | None = None
    latents: Float[Tensor, "p t c h w"] | None = None
    played: Float[Tensor, "p t c h w"] | None = None
    prompt: UInt8[np.ndarray, "p t_video h_video w_video 3"] | None = None
    prompt_latents: Float[Tensor, "p t c h w"] | None = None
    drawn: DrawnState | None = None
    places: KnownPlaces | None = None


class Assembler:
    """Reads the samples of a batch. Every choice in a sample follows from (seed, epoch, sample) alone.

    A record that cannot be decoded is replaced by another, and reported.
    """

    def __init__(
        self,
        source: RecordSource,
        samples: Sequence[tuple[int, int | None]],  # record, and one view or None for all
        shapes: Mapping[str, Shape],
        action_space: ActionSpace,
        num_players: int,
        prompt_shares: Mapping[str, float],
        prompt_style: PromptStyle,
        seed: int,
    ) -> None:
        self.source = source
        self.samples = samples
        self.shapes = shapes
        self.action_space = action_space
        self.num_players = num_players
        self.prompt_shares = prompt_shares
        self.prompt_style = prompt_style
        self.seed = seed
        self._columns: dict[ActionSpace, list[int]] = {}

    def __call__(self, planned: PlannedBatch) -> Assembled:
        shape = self.shapes[planned.bucket]
        damage: dict[str, str] = {}
        rows = [self._readable_row(shape, epoch, sample, damage) for epoch, sample in planned.rows]
        return Assembled(self._collate(rows), damage)

    def _readable_row(self, shape: Shape, epoch: int, sample: int, damage: dict[str, str]) -> Row:
        for attempt in range(MAX_REPLACEMENTS):
            draws = Draws(self.seed, epoch, sample, attempt)
            if attempt:
                sample = shape.samples[draws.integer(len(shape.samples))]
            try:
                return self._row(shape, sample, draws)
            except DamagedRecord as mistake:
                damage[mistake.key] = mistake.reason
        raise ValueError(f"{MAX_REPLACEMENTS} records of {self.source.name} in a row cannot be read: {damage}")

    def _row(self, shape: Shape, sample: int, draws: Draws) -> Row:
        index, view = self.samples[sample]
        header = self.source.headers[index]
        views = list(range(header.num_players)) if view is None else [view]
        cache = shape.latents
        rows = np.arange(header.num_frames) if cache is None else cache.kind.coding.rows(header.num_frames)
        start = place_window(rows, header.instructions, shape.rules, draws)
        shown = rows[start : start + shape.rules.num_rows]
        first, stop = int(shown[0]), int(shown[-1]) + 1
        instruction = instruction_in_force(rows, start, header.instructions, shape.rules)
        if shape.places is not None:
            return Row(index, views, shown, instruction, places=shape.places.window(index, shown))
        assert shape.reader is not None
        video = latents = None
        if cache is None:
            video = np.stack([shape.reader.frames(index, v, first, stop) for v in views])
        else:
            latents = _latent_window(cache, index, views, start, shape)
        played = None if shape.played is None else shape.played.window(index, views, first, stop - first)
        prompt, prompt_latents = self._prompt(shape, index, views, shown, start, draws)
        drawn = None if shape.state is None else shape.state.window(index, views, shown)
        return Row(index, views, shown, instruction, video, latents, played, prompt, prompt_latents, drawn)

    def _prompt(
        self, shape: Shape, index: int, views: Sequence[int], shown: Int[np.ndarray, " row"], start: int, draws: Draws
    ) -> tuple[UInt8[np.ndarray, "p t_video h_video w_video 3"] | None, Float[Tensor, "p t c h w"] | None]:
        """The video prompt of a sample, in pixels or as cached latents; neither if it gets none."""
        kind = draws.pick(self.prompt_shares)
        if kind is None:
            return None, None
        assert shape.reader is not None  # facts alone have no prompts
        cache = shape.prompt_latents.get(kind)
        if cache is not None:
            return None, _latent_window(cache, index, views, start, shape) if index in cache else None
        first, stop = int(shown[0]), int(shown[-1]) + 1
        drawn = [draw_prompt(kind, self.prompt_style, self.source, shape.reader, index, v, first, stop) for v in views]
        frames = [video[shown - first] for video in drawn if video is not None]
        return (np.stack(frames) if frames else None), None

    def _collate(self, rows: Sequence[Row]) -> Batch:
        headers = [self.source.headers[row.index] for row in rows]
        num_rows = len(rows[0].rows)
        actions = np.zeros((len(rows), self.num_players, num_rows, self.action_space.num_keys), np.float32)
        is_player = np.zeros((len(rows), self.num_players), bool)
        has_actions = np.zeros_like(is_player)
        for number, (row, header) in enumerate(zip(rows, headers, strict=True)):
            held = self.source.actions(row.index)[row.rows][:, row.views]
            actions[number, : len(row.views), :, self._columns_of(header.action_space)] = rearrange(
                held, "t p k -> k p t"
            )
            is_player[number, : len(row.views)] = True
            has_actions[number, : len(row.views)] = header.has_actions
        players = torch.from_numpy(is_player)
        return Batch(
            keys=[header.key for header in headers],
            captions=[header.caption for header in headers],
            instructions=[row.instruction.text for row in rows],
            instruction_starts=torch.tensor([float(row.instruction.start) for row in rows]),
            actions=torch.from_numpy(actions),
            is_player=players,
            fps=torch.tensor([header.fps for header in headers]),
            video=self._pixels([row.video for row in rows]),
            latents=self._stack([row.latents for row in rows]),
            played=self._stack([row.played for row in rows]),
            video_prompt=self._pixels([row.prompt for row in rows]),
            has_actions=torch.from_numpy(has_actions),
            video_prompt_latents=self._stack([row.prompt_latents for row in rows]),
            state=self._stack([row.drawn.state if row.drawn else None for row in rows]),
            others=self._stack([row.drawn.others if row.drawn else None for row in rows]),
            near=self._near([row.drawn.near if row.drawn else None for row in rows]),
            **self._places([row.places for row in rows]),
        )

    def _pixels(self, videos: Sequence[UInt8[np.ndarray, "_ t h w 3"] | None]) -> Float[Tensor, "b p t 3 h w"] | None:
        """In [-1, 1]; zeros where there is nothing. None if nobody has any."""
        shape = next((video.shape[1:] for video in videos if video is not None), None)
        if shape is None:
            return None
        t, h, w, _ = shape
        pixels = torch.zeros(len(videos), self.num_players, t, 3, h, w)
        for number, video in enumerate(videos):
            if video is not None:
                channels_first = rearrange(torch.from_numpy(video), "p t h w c -> p t c h w")
                pixels[number, : len(video)].copy_(channels_first).div_(127.5).sub_(1)
        return pixels

    def _stack(self, latents: Sequence[Float[Tensor, "_ t c h w"] | None]) -> Float[Tensor, "b p t c h w"] | None:
        shape = next((value.shape[1:] for value in latents if value is not None), None)
        if shape is None:
            return None
        stacked = torch.zeros(len(latents), self.num_players, *shape)
        for number, value in enumerate(latents):
            if value is not None:
                stacked[number, : len(value)] = value
        return stacked

    def _near(self, near: Sequence[Bool[Tensor, "t _ _"] | None]) -> Bool[Tensor, "b t p p"] | None:
        known = [value for value in near if value is not None]
        if not known:
            return None
        stacked = torch.zeros(len(near), len(known[0]), self.num_players, self.num_players, dtype=torch.bool)
        for number, value in enumerate(known):
            stacked[number, :, : value.shape[1], : value.shape[2]] = value
        return stacked

    def _places(self, rows: Sequence[KnownPlaces | None]) -> dict[str, Tensor]:
        """The places of all players, none known of those who are not there."""
        told = [row for row in rows if row is not None]
        if not told:
            return {}
        num_places = max(row.known.shape[2] for row in told)
        places = torch.zeros(len(rows), len(told[0].known), self.num_players, num_places, 2)
        known = torch.zeros(places.shape[:-1], dtype=torch.bool)
        for number, row in enumerate(told):
            _, players, of_each = row.known.shape
            places[number, :, :players, :of_each] = row.places
            known[number, :, :players, :of_each] = row.known
        return {"places": places, "known": known}

    def _columns_of(self, action_space: ActionSpace) -> list[int]:
        """Where a record's keys stand in the vector of this training."""
        columns = self._columns.get(action_space)
        if columns is None:
            columns = [self.action_space.keys.index(key) for key in action_space.keys]
            self._columns[action_space] = columns
        return columns


def _latent_window(
    cache: LatentCache, index: int, views: Sequence[int], start: int, shape: Shape
) -> Float[Tensor, "p t c h w"]:
    """Latents from row `start` on."""
    begin = start // cache.kind.temporal_factor
    return cache.latents(index)[list(views), begin : begin + shape.num_latent_frames]
