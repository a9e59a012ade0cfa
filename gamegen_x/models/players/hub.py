"""SparseHub: a few tokens that look at all players and are looked at by all (gamma-World, 2605.28816)."""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from gamegen_x.models.layers.attention import HeadNorm, attend
from gamegen_x.models.players.company import Company, PlayerMix, by_frame, by_player
from gamegen_x.models.players.sequence import after_sink


class SparseHub(PlayerMix):
    """Costs as much for each player as for the one before: the work is linear in players.

    Whose tokens a hub looks at is told by a learned embedding of the seat. The hub is everybody's: it cannot be gated
    by nearness, and what one player does reaches all.
    """

    def __init__(self, dim: int, num_heads: int, num_slots: int, num_hubs: int) -> None:
        super().__init__(dim, num_slots)
        if dim % num_heads:
            raise ValueError(f"the width must be a multiple of num_heads, got {dim} and {num_heads}")
        head_dim = dim // num_heads
        self.num_heads = num_heads
        self.hubs = nn.Parameter(torch.randn(num_hubs, num_heads, head_dim))
        self.sink = nn.Parameter(torch.randn(num_heads, head_dim))
        self.seat = nn.Parameter(torch.randn(num_slots, 2 * dim) * 0.02)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.hub_key_value = nn.Linear(dim, 2 * dim)
        self.norms = nn.ModuleDict({name: HeadNorm(head_dim) for name in ("hub", "key", "query", "hub_key")})

    def forward(self, tokens: Float[Tensor, "bp t n d"], company: Company) -> Float[Tensor, "bp t n d"]:
        if company.is_gated:
            raise ValueError(
                "a hub mixes all players and cannot be gated by nearness; set data.state.near_angle=null, "
                "or choose players=identity"
            )
        sequence = by_frame(tokens, company)
        query = rearrange(self.query(sequence), "s n (e d) -> s n e d", e=self.num_heads)
        hubs = self._gathered(sequence, company)
        key, value = after_sink(self.sink, *self._split(self.hub_key_value(hubs)))
        seen = attend(query, key, value, self._norm("query"), self._norm("hub_key"), None, None)
        read = by_player(self.out(seen.flatten(2)), company)
        has_others = rearrange(company.sees.any(dim=3), "b t p -> (b p) t 1 1")
        return read * has_others

    def _gathered(self, sequence: Float[Tensor, "bt pn d"], company: Company) -> Float[Tensor, "bt hub d"]:
        """What the hubs saw of everybody who is there."""
        marks = company.of_tokens(self.seat[company.seats])
        both = self.key_value(sequence)
        key, value = after_sink(self.sink, *self._split(both + marks.to(both.dtype)))
        is_there = reduce(company.sees, "b t i j -> (b t) j", "any")
        mask = repeat(is_there, "s j -> s 1 1 (j n)", n=company.num_tokens)
        mask = nn.functional.pad(mask, (1, 0), value=True)
        query = repeat(self.hubs.to(key.dtype), "hub e d -> s hub e d", s=len(key))
        return attend(query, key, value, self._norm("hub"), self._norm("key"), None, mask).flatten(2)

    def _split(self, both: Float[Tensor, "s n dd"]) -> tuple[Tensor, Tensor]:
        key, value = rearrange(both, "s n (two e d) -> two s n e d", two=2, e=self.num_heads)
        return key, value

    def _norm(self, name: str) -> HeadNorm:
        found = self.norms[name]
        assert isinstance(found, HeadNorm)
        return found
