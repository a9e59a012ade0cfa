"""StackedViews: the players' tokens of the same place in the picture, stacked along channels (Multiverse, 2025)."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from gamegen_x.models.players.company import Company, PlayerMix


class StackedViews(PlayerMix):
    """Each view is narrowed to its share of the width, and every player reads the stack, by seat, without their own.

    Multiverse stacks pixels once and makes all views of one stream; here each view keeps its stream, and the stack is
    made anew in every spatial block. Who is not seen is zeros in it.
    """

    def __init__(self, dim: int, num_heads: int, num_slots: int) -> None:  # noqa: ARG002  (nothing attends)
        super().__init__(dim, num_slots)
        if dim % num_slots:
            raise ValueError(f"the width must be a multiple of num_slots, got {dim} and {num_slots}")
        self.narrow = nn.Linear(dim, dim // num_slots)

    def forward(self, tokens: Float[Tensor, "bp t n d"], company: Company) -> Float[Tensor, "bp t n d"]:
        views = rearrange(self.narrow(tokens), "(b p) t n c -> b t p n c", p=company.num_players)
        is_seated = nn.functional.one_hot(company.seats, self.num_slots)
        places = (company.sees[..., None] & is_seated.bool()[:, None, None]).to(views.dtype)  # b t i j slot
        stack = torch.einsum("btijs,btjnc->btinsc", places, views)
        return rearrange(self.out(stack.flatten(-2)), "b t p n d -> (b p) t n d")
