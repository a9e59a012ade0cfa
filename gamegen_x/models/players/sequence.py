"""TokenSequence: all players' tokens of a frame in one sequence; nothing says whose they are (Solaris, 2602.22208)."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from gamegen_x.models.layers.attention import HeadNorm, attend
from gamegen_x.models.players.company import Company, PlayerMix, by_frame, by_player


class TokenSequence(PlayerMix):
    """Every token looks at the tokens of the others whom its player sees, or at a sink that says nothing."""

    def __init__(self, dim: int, num_heads: int, num_slots: int) -> None:
        super().__init__(dim, num_slots)
        if dim % num_heads:
            raise ValueError(f"the width must be a multiple of num_heads, got {dim} and {num_heads}")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.sink = nn.Parameter(torch.randn(num_heads, self.head_dim))
        self.query_norm = HeadNorm(self.head_dim)
        self.key_norm = HeadNorm(self.head_dim)

    def forward(self, tokens: Float[Tensor, "bp t n d"], company: Company) -> Float[Tensor, "bp t n d"]:
        heads = rearrange(
            self.qkv(by_frame(tokens, company)), "s n (three e d) -> three s n e d", three=3, e=self.num_heads
        )
        query, key, value = self.marked(heads, company)
        key, value = after_sink(self.sink, key, value)
        angles = self.angles(company)
        if angles is not None:  # the sink stands at 0
            angles = nn.functional.pad(company.of_tokens(angles)[:, None], (0, 0, 1, 0))
        seen = attend(query, key, value, self.query_norm, self.key_norm, angles, company.mask)
        return by_player(self.out(seen.flatten(2)), company)

    def marked(
        self,
        heads: Float[Tensor, "three bt pn e d"],
        company: Company,  # noqa: ARG002  (others mark them)
    ) -> Float[Tensor, "three bt pn e d"]:
        """Queries, keys and values, with what tells players apart added."""
        return heads

    def angles(self, company: Company) -> Float[Tensor, "b p half"] | None:  # noqa: ARG002
        """By which each player's queries and keys are turned."""
        return None


def after_sink(
    sink: Float[Tensor, "e d"], key: Float[Tensor, "s n e d"], value: Float[Tensor, "s n e d"]
) -> tuple[Float[Tensor, "s n_and_sink e d"], Float[Tensor, "s n_and_sink e d"]]:
    """Keys and values after one more, which can be looked at where there is nothing to see: its value is zero."""
    first = repeat(sink.to(key.dtype), "e d -> s 1 e d", s=len(key))
    return torch.cat([first, key], dim=1), torch.cat([torch.zeros_like(first), value], dim=1)
