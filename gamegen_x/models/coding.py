"""Coding: which video frames a latent frame stands for. Keys, sentences and states of frames reach latents by it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Coding:
    """How an autoencoder runs through a clip: chunk by chunk, each led by copies of its first frame up to a whole
    number of latent frames."""

    temporal_factor: int  # video frames a latent frame
    chunk_frames: int | None  # video frames a chunk; None: a clip is one

    def chunks(self, num_frames: int) -> list[int]:
        """How many video frames each chunk of a clip has."""
        size = self.chunk_frames or num_frames
        return [min(size, num_frames - start) for start in range(0, num_frames, size)]

    @property
    def unit_frames(self) -> int:
        """Clips can be cut between multiples of this many video frames."""
        return self.chunk_frames or self.temporal_factor

    def num_latent_frames(self, num_frames: int) -> int:
        """Latent frames of a clip: the sum over its chunks of ceil(frames / temporal_factor)."""
        return sum(math.ceil(length / self.temporal_factor) for length in self.chunks(num_frames))

    def num_frames(self, num_latent_frames: int) -> int:
        """The most video frames that so many latent frames stand for."""
        whole, rest = divmod(num_latent_frames, self.num_latent_frames(self.unit_frames))
        return whole * self.unit_frames + rest * self.temporal_factor

    def rows(self, num_frames: int) -> Int[np.ndarray, " row"]:
        """The video frame of every row of a clip's latents, `temporal_factor` rows a latent frame."""
        rows: list[Int[np.ndarray, " row"]] = []
        start = 0
        for length in self.chunks(num_frames):
            lead = -length % self.temporal_factor
            rows.append(np.concatenate([np.full(lead, start), np.arange(start, start + length)]))
            start += length
        return np.concatenate(rows)

    def latent_of(self, frame: int) -> int:
        """The first latent frame that a video frame of a clip of whole chunks has a part in."""
        before, within = divmod(frame, self.unit_frames)
        lead = -self.unit_frames % self.temporal_factor
        inside = (lead + within) // self.temporal_factor if within else 0
        return before * self.num_latent_frames(self.unit_frames) + inside

    def ends_a_latent(self, num_frames: int) -> bool:
        """Whether the first frames of a longer clip have latents of their own, which what follows does not change."""
        within = num_frames % self.unit_frames
        return within == 0 or (within - self.unit_frames) % self.temporal_factor == 0
