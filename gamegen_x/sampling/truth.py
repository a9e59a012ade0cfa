"""Truth: the world that a stream is told of, stepped by its players' keys. Pixels are never asked what is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from gamegen_x.world.facts import Facts, World, stepped

Draw = Callable[[Facts], tuple[Tensor, Tensor | None]]  # facts of video frames -> state and who is near whom


@dataclass(frozen=True)
class Told:
    """What networks are told of latent frames: the drawn state, and who may see whom (None: all)."""

    state: Float[Tensor, "p t c h w"]
    near: Bool[Tensor, "..."] | None = None  # t p p, checked at the door

    def frame(self, number: int) -> Told:
        """The same, of one latent frame."""
        return self.frames(number, number + 1)

    def frames(self, start: int, stop: int) -> Told:
        """The same, of latent frames start to stop (not included)."""
        return Told(self.state[:, start:stop], None if self.near is None else self.near[start:stop])


@dataclass(frozen=True)
class Truth:
    """A world at the end of a latent frame, and how it is drawn. A value: a stream that is rewound has its old one."""

    world: World
    draw: Draw

    def told(self, text: str) -> Truth:
        """The same once somebody has said a sentence, which shows from the next latent frame on."""
        return replace(self, world=self.world.told(text))

    def after(self, keys: Float[Tensor, "slots f k"]) -> tuple[Truth, Told]:
        """The world after the keys of whole latent frames, and what is told of these. Slots beyond its players idle."""
        held = rearrange(keys[: self.world.num_players] > 0.5, "p f k -> f p k").to(torch.uint8)
        world, facts = stepped(self.world, held.cpu().numpy())
        return replace(self, world=world), Told(*self.draw(facts))
