"""PlayAlong: a trained model plays recorded sessions again: their keys, sentences and truth, but its own pictures."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from gamegen_x.data.latent_cache import choose_device, hash_file
from gamegen_x.data.played import Score
from gamegen_x.data.state import Drawing, drawing_of
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.stream import Stream
from gamegen_x.sampling.stream_sampler import StreamSampler
from gamegen_x.sampling.truth import Told
from gamegen_x.schema.weights_folder import read_config

NETWORKS = ("vae", "text_encoder", "msdit", "instructnet")


class PlayAlong:
    """What the model of a weights folder sees when it lives through a record, from its first `context_latents` on.

    A decoder that reads what play writes, beside what was true, learns what to make of the model's own mistakes.
    """

    def __init__(
        self,
        *,
        weights: str,
        context_latents: int,
        batch_size: int,
        sampler: Mapping[str, Any],  # null: as the weights say
        live: Mapping[str, Any],
        device: str,
    ) -> None:
        self.folder = Path(weights)
        self.described = read_config(self.folder)
        missing = [name for name in NETWORKS if name not in self.described["networks"]]
        if missing:
            raise ValueError(f"{weights} has no {' and no '.join(missing)}, and cannot play; train them first")
        if context_latents < 1 or batch_size < 1:
            raise ValueError(
                f"context_latents and batch_size of a player are at least 1, got {context_latents} and {batch_size}"
            )
        self.context_latents = context_latents
        self.batch_size = batch_size
        chosen = {name: value for name, value in sampler.items() if value is not None}
        self.settings = {**self.described["sampler"], **chosen}
        self.live = dict(live)
        self.device = choose_device(device)

    @cached_property
    def networks(self) -> Networks:
        with torch.inference_mode(False):  # asked for while playing, but for any use
            return Networks.load(self.folder, self.device)

    @property
    def temporal_factor(self) -> int:
        return self.networks.vae.temporal_factor

    def made_with(self) -> Mapping[str, Any]:
        hashes = {name: hash_file(self.folder / f"{name}.safetensors") for name in NETWORKS}
        return {
            "weights": hashes,
            "sampler": self.settings,
            "drawn_state": self.described.get("drawn_state"),
            "context_latents": self.context_latents,
            "live": self.live,
        }

    @torch.inference_mode()
    def play(self, scores: Sequence[Score]) -> list[Float[Tensor, "p t c h w"]]:
        """Records of one shape, side by side. Their beginnings are encoded, the rest is the model's own."""
        factor = self.temporal_factor
        told = [self._told(score) for score in scores]
        streams = [self._begun(score, one) for score, one in zip(scores, told, strict=True)]
        num_latents = scores[0].video.shape[1] // factor
        made = [self._real(score) for score in scores]
        keys = [self._keys(score) for score in scores]
        for number in range(self.context_latents, num_latents):
            for score, stream in zip(scores, streams, strict=True):
                for said in score.header.instructions:
                    if said.frame // factor == number:
                        self.streams.instruct(stream, said.text)
            frames = slice(number * factor, (number + 1) * factor)
            self.streams.step(
                streams,
                [each[:, frames] for each in keys],
                [None if one is None else one.frame(number) for one in told],
            )
            for own, stream in zip(made, streams, strict=True):
                own.append(stream.standing.last[: own[0].shape[0]].clone())
        return [torch.stack(own, dim=1) for own in made]

    @cached_property
    def streams(self) -> StreamSampler:
        return StreamSampler(self.networks, **self.settings, **self.live)

    @cached_property
    def drawing(self) -> Drawing | None:
        return drawing_of(self.described, self.networks.vae.spatial_factor)

    def _told(self, score: Score) -> Told | None:
        if self.drawing is None:
            return None
        num_frames = score.video.shape[1] // self.temporal_factor * self.temporal_factor
        return Told(*self.drawing({name: values[:num_frames] for name, values in score.state.items()}))

    def _context(self, score: Score) -> Float[Tensor, "p t 3 h w"]:
        video = torch.from_numpy(score.video[:, : self.context_latents * self.temporal_factor])
        return rearrange(video, "p t h w c -> p t c h w").float() / 127.5 - 1

    def _real(self, score: Score) -> list[Float[Tensor, "p c h w"]]:
        """The latents of the beginning."""
        return list(self.networks.encode(self._context(score).to(self.device)).unbind(dim=1))

    def _keys(self, score: Score) -> Float[Tensor, "slots t k"]:
        held = rearrange(torch.from_numpy(np.array(score.actions)).float(), "t p k -> p t k")
        empty = self.streams.num_slots - len(held)
        return torch.cat([held, held.new_zeros(empty, *held.shape[1:])])

    def _begun(self, score: Score, told: Told | None) -> Stream:
        context = self._context(score)
        num_players, num_frames = context.shape[:2]
        begun = None
        if told is not None:
            first = slice(self.context_latents)
            begun = Told(told.state[:, first], None if told.near is None else told.near[first])
        session = zlib.crc32(score.header.key.encode())
        held = self._keys(score)[:num_players, :num_frames]
        return self.streams.start(score.header.caption, session, num_players, context, held, begun)
