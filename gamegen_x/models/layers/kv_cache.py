"""Keys and values of past frames, kept so that new frames can look at them without the past being computed again."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class PastFrames:
    """What the temporal attentions of a causal model made of context frames, in the order in which they are called.

    A pass over the context fills it; after `freeze`, any number of passes over new frames look at it and leave it as
    it is. Keys are kept before their norm and rotation, which depend on where the window begins.
    """

    def __init__(self) -> None:
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.is_frozen = False
        self.turn = 0

    def freeze(self) -> None:
        self.is_frozen = True

    def with_past(
        self, key: Float[Tensor, "s n e d"], value: Float[Tensor, "s n e d"]
    ) -> tuple[Float[Tensor, "s m e d"], Float[Tensor, "s m e d"]]:
        """The keys and values that this attention may look at: those of the past, then the new ones."""
        if not self.is_frozen:
            self.kept.append((key, value))
            return key, value
        past_key, past_value = self.kept[self.turn]
        self.turn = (self.turn + 1) % len(self.kept)
        return torch.cat([past_key, key], dim=1), torch.cat([past_value, value], dim=1)
