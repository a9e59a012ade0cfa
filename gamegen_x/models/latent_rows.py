"""Which video frames a latent frame stands for: what keys, sentences and states of frames are mapped to latents by."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int


def latent_rows(num_frames: int, temporal_factor: int, chunk_frames: int | None) -> Int[np.ndarray, " row"]:
    """The video frame of every row of a record of latents, `temporal_factor` rows a latent frame.

    As the VAE codes it: chunk by chunk, each led by copies of its first frame up to a whole number of latent frames.
    """
    size = chunk_frames or num_frames
    rows: list[Int[np.ndarray, " row"]] = []
    for start in range(0, num_frames, size):
        length = min(size, num_frames - start)
        lead = math.ceil(length / temporal_factor) * temporal_factor - length
        rows.append(np.concatenate([np.full(lead, start), np.arange(start, start + length)]))
    return np.concatenate(rows)


def latent_of(frame: int, temporal_factor: int, chunk_frames: int | None) -> int:
    """The first latent frame that a video frame of a clip of whole chunks has a part in."""
    size = chunk_frames or temporal_factor
    latents_of_chunk = math.ceil(size / temporal_factor)
    lead = latents_of_chunk * temporal_factor - size
    before, within = divmod(frame, size)
    return before * latents_of_chunk + ((lead + within) // temporal_factor if within else 0)


def ends_a_latent(num_frames: int, temporal_factor: int, chunk_frames: int | None) -> bool:
    """Whether the first frames of a longer clip have latents of their own, which what follows does not change."""
    size = chunk_frames or temporal_factor
    within = num_frames % size
    return within == 0 or (within - size) % temporal_factor == 0
