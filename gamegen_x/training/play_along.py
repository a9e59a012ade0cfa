"""PlayAlong: a trained model plays recorded sessions again: their keys, sentences and truth, but its own pictures."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from gamegen_x.data.latent_cache import choose_device, hash_file
from gamegen_x.data.played import WholeRecord
from gamegen_x.data.state import Drawing, drawing_of
from gamegen_x.models.vae import VideoVAE
from gamegen_x.models.weights import build_network
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.settings import SamplerSettings
from gamegen_x.sampling.stream import Stream
from gamegen_x.sampling.stream_sampler import StreamSampler
from gamegen_x.sampling.truth import Told
from gamegen_x.sampling.video_file import from_pixels
from gamegen_x.schema.weights_folder import read_config
from gamegen_x.world.facts import lacking

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
        if missing or drawn_facts(self.described) is None:
            raise ValueError(
                f"{weights} cannot play along: it has {sorted(self.described['networks'])}, needed are "
                f"{list(NETWORKS)} that are told the world's state (state=map); without it their pictures are not what "
                "was true; set data.play_along=null, or give other weights"
            )
        if context_latents < 1 or batch_size < 1:
            raise ValueError(
                f"context_latents and batch_size of data.play_along are at least 1, got {context_latents} and "
                f"{batch_size}"
            )
        self.context_latents = context_latents
        self.batch_size = batch_size
        self.settings = SamplerSettings.of(self.described, sampler)
        self.live = dict(live)
        self.device = choose_device(device)

    @cached_property
    def temporal_factor(self) -> int:
        with torch.device("meta"):
            return cast(VideoVAE, build_network(self.described["networks"]["vae"])).temporal_factor

    def made_with(self) -> Mapping[str, Any]:
        hashes = {name: hash_file(self.folder / f"{name}.safetensors") for name in NETWORKS}
        networks = {name: self.described["networks"][name] for name in NETWORKS}
        kept = {name: value for name, value in self.described.items() if name not in ("made_by", "networks", "sampler")}
        live = {name: self.live[name] for name in ("num_slots", "precision")}
        return {
            "weights": hashes,
            "described": {**kept, "networks": networks},
            "sampler": asdict(self.settings),
            "context_latents": self.context_latents,
            "live": live,
        }

    def fault_beside(self, vae: Path) -> str | None:
        theirs = read_config(vae)
        same = all(self.described[name] == theirs[name] for name in ("latent_shift", "latent_scale"))
        if same and hash_file(self.folder / "vae.safetensors") == hash_file(vae / "vae.safetensors"):
            return None
        return (
            f"{self.folder} plays in latents of another autoencoder than that of {vae}, or of the same in another dtype"
        )

    def fault(self, record: WholeRecord) -> str | None:
        header, known = record.header, self.networks.action_space.keys
        missing = lacking(drawn_facts(self.described) or (), record.state)
        if missing:
            return f"no {missing} in its state"
        if not header.has_actions or not set(header.action_space.keys) <= set(known):
            return "no keys that the model knows"
        if header.num_players > self.streams.num_slots:
            return "more players than the model has slots"
        return None if header.num_frames // self.temporal_factor > self.context_latents else "too short to play along"

    def rest(self) -> None:
        for name in ("streams", "networks", "drawing"):
            self.__dict__.pop(name, None)

    @torch.inference_mode()
    def play(self, records: Sequence[WholeRecord]) -> list[Float[Tensor, "p t c h w"]]:
        """Records of one shape, side by side. Their first `context_latents` are encoded, the rest is the model's own.

        What was said during the beginning is told at its end.
        """
        factor = self.temporal_factor
        told = [self._told(record) for record in records]
        keys = [self._keys(record) for record in records]
        streams = [self._begun(*each) for each in zip(records, keys, told, strict=True)]
        made = [list(self._encoded(record).unbind(dim=1)) for record in records]
        for number in range(self.context_latents, records[0].header.num_frames // factor):
            for record, stream in zip(records, streams, strict=True):
                for said in record.header.instructions:
                    if max(said.frame // factor, self.context_latents) == number:
                        self.streams.instruct(stream, said.text)
            frames = slice(number * factor, (number + 1) * factor)
            self.streams.step(streams, [each[:, frames] for each in keys], [one.frame(number) for one in told])
            for own, stream in zip(made, streams, strict=True):
                own.append(stream.standing.last[: len(own[0])].clone())
        return [torch.stack(own, dim=1) for own in made]

    @cached_property
    def networks(self) -> Networks:
        with torch.inference_mode(False):  # asked for while playing, but for any use
            return Networks.load(self.folder, self.device)

    @cached_property
    def streams(self) -> StreamSampler:
        return StreamSampler(self.networks, self.settings, **self.live)

    @cached_property
    def drawing(self) -> Drawing:
        drawing = drawing_of(self.described, self.networks.vae.spatial_factor)
        assert drawing is not None
        return drawing

    def _told(self, record: WholeRecord) -> Told:
        header, num_frames = record.header, record.header.num_frames // self.temporal_factor * self.temporal_factor
        drawing = replace(self.drawing, picture=(header.height, header.width))  # in whose pixels places are recorded
        return Told(*drawing({name: values[:num_frames] for name, values in record.state.items()}))

    def _context(self, record: WholeRecord) -> Float[Tensor, "p t 3 h w"]:
        first = self.context_latents * self.temporal_factor
        return from_pixels(torch.from_numpy(np.array(record.video[:, :first]))).to(self.device)

    def _encoded(self, record: WholeRecord) -> Float[Tensor, "p t c h w"]:
        return self.networks.encode(self._context(record))

    def _keys(self, record: WholeRecord) -> Float[Tensor, "slots t k"]:
        """As the model numbers keys and slots."""
        space = self.networks.action_space
        columns = [space.keys.index(key) for key in record.header.action_space.keys]
        held = torch.zeros(self.streams.num_slots, record.header.num_frames, space.num_keys)
        held[: record.header.num_players, :, columns] = rearrange(
            torch.from_numpy(np.array(record.actions)).float(), "t p k -> p t k"
        )
        return held

    def _begun(self, record: WholeRecord, keys: Float[Tensor, "slots t k"], told: Told) -> Stream:
        context = self._context(record)
        num_players, num_frames = context.shape[:2]
        begun = told.frames(0, self.context_latents)
        session = zlib.crc32(record.header.key.encode())
        return self.streams.start(
            record.header.caption, session, num_players, context, keys[:num_players, :num_frames], begun
        )


def drawn_facts(described: Mapping[str, Any]) -> set[str] | None:
    """What a record must tell for networks to be told of it; None where they are told nothing."""
    drawing = drawing_of(described, 1)
    return None if drawing is None else set(drawing.settings.facts)
