"""Subject: the networks under examination, with the real recordings and the judges that examine them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer
from gamegen_x.evaluation.commands import Commands
from gamegen_x.evaluation.generation import Beginning, Generation, Play, Sampler, Telling
from gamegen_x.evaluation.judges import Judges
from gamegen_x.evaluation.meetings import LiveModel, Meetings, Met, Script
from gamegen_x.evaluation.recordings import Recordings, as_bytes, as_pixels
from gamegen_x.models.vae import VideoVAE


class Subject:
    """Clips that more than one question looks at are generated once, when the first question asks for them.

    `sampler` is None where the weights hold a VAE only: `is_player` is then false.
    """

    def __init__(
        self,
        *,
        vae: VideoVAE,
        sampler: Sampler | None,
        recordings: Recordings,
        judges: Judges,
        commands: Commands,
        generation: Generation,
        num_blocks: int,
        num_blocks_without_instructnet: int,
        device: torch.device,
        meetings: Meetings | None,
        live: LiveModel | None,
        telling: Telling | None = None,
    ) -> None:
        self.vae = vae
        self.recordings = recordings
        self.judges = judges
        self.commands = commands
        self.generation = generation
        self.num_blocks = num_blocks
        self.num_blocks_without_instructnet = num_blocks_without_instructnet
        self.device = device
        self.meetings = meetings
        self.live = live if meetings is not None else None
        self._sampler = sampler
        self._telling = telling
        self._met: dict[str, list[Met]] = {}

    @property
    def is_player(self) -> bool:
        return self._sampler is not None

    @property
    def sampler(self) -> Sampler:
        assert self._sampler is not None
        return self._sampler

    @cached_property
    def beginnings(self) -> list[Beginning]:
        return self.generation.beginnings(self.recordings.val)

    @cached_property
    def drawn(self) -> Tensor:
        """The commands of every clip, "b p n"; the recordings have no say in them."""
        num_players = len(self.recordings.val[0].video)
        return self.commands.draw(len(self.beginnings), num_players, self.num_blocks, self.generation.seed)

    @cached_property
    def play(self) -> Play:
        """The whole play, under keys and without a word."""
        return self._play("playing", self.num_blocks, use_instructnet=True)

    @cached_property
    def play_without_instructnet(self) -> Play:
        """The same beginnings, keys and noise; nobody listens, and nobody is told what the keys did."""
        return self._play("playing without InstructNet", self.num_blocks_without_instructnet, use_instructnet=False)

    def meeting(self, name: str) -> list[Met]:
        """All worlds of a meeting, played once."""
        assert self.meetings is not None
        if name not in self._met:
            self._met[name] = self.meet(name, self.meetings.scripts_of(name))
        return self._met[name]

    def meet(self, title: str, scripts: Sequence[Script]) -> list[Met]:
        """Worlds that only one question looks at."""
        assert self.meetings is not None
        assert self.live is not None
        return self.meetings.met(title, scripts, self.live, self.commands)

    @torch.inference_mode()
    def reconstructed(self, video: UInt8[Tensor, "n t 3 h w"]) -> UInt8[Tensor, "n t 3 h w"]:
        """Encoded and decoded, as whole clips; they are a multiple of the VAE's unit long."""
        return as_bytes(self.vae.reconstruct(as_pixels(video.to(self.device))).clamp(-1, 1)).cpu()

    def shown(self, video: UInt8[Tensor, "p t 3 h w"]) -> UInt8[Tensor, "t 3 ph w"]:
        """The views of all players in one picture, one below the other."""
        return rearrange(video, "p t c h w -> t c (p h) w")

    def _play(self, title: str, num_blocks: int, *, use_instructnet: bool) -> Play:
        return self.generation.play(
            title,
            self.sampler,
            self.beginnings,
            self.commands,
            self.drawn[:, :, :num_blocks],
            [()] * len(self.beginnings),
            use_instructnet=use_instructnet,
            telling=self._telling if use_instructnet else None,
        )


@runtime_checkable
class Question(Protocol):
    """Something to find out about a subject. Answers None where it does not apply."""

    def ask(self, subject: Subject) -> Answer | None: ...
