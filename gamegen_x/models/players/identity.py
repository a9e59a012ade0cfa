"""SeatIdentity: a sequence of tokens that carry a learned embedding of their player's seat (Solaris, 2602.22208)."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from gamegen_x.models.players.company import Company
from gamegen_x.models.players.sequence import TokenSequence


class SeatIdentity(TokenSequence):
    """The embedding is added to queries, keys and values: what a linear layer makes of one added to the tokens."""

    def __init__(self, dim: int, num_heads: int, num_slots: int) -> None:
        super().__init__(dim, num_heads, num_slots)
        self.seat = nn.Parameter(torch.randn(num_slots, 3 * dim) * 0.02)

    def marked(self, heads: Float[Tensor, "three bt pn e d"], company: Company) -> Float[Tensor, "three bt pn e d"]:
        marks = company.of_tokens(self.seat[company.seats]).to(heads.dtype)
        return heads + rearrange(marks, "s n (three e d) -> three s n e d", three=3, e=self.num_heads)
