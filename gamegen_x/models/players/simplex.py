"""SimplexRotary: a sequence turned by the corners of a simplex, all equally far apart (gamma-World, 2605.28816)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from gamegen_x.models.players.company import Company
from gamegen_x.models.players.sequence import TokenSequence


class SimplexRotary(TokenSequence):
    """No two players are nearer to each other than any other two, and training draws who sits where.

    Corner v of V is sqrt(V / (V - 1)) (e_v - 1 / V): squared distances are 2 V / (V - 1). Feature pair i of a head is
    turned by the corner's coordinate i modulo V, so that every coordinate has as many pairs.
    """

    seats_are_drawn = True
    corners: Tensor

    def __init__(self, dim: int, num_heads: int, num_slots: int) -> None:
        super().__init__(dim, num_heads, num_slots)
        num_pairs = self.head_dim // 2
        if num_pairs % num_slots or self.head_dim % 2:
            raise ValueError(
                f"the feature pairs of a head are a multiple of num_slots, got {num_pairs} pairs and {num_slots} slots"
            )
        corners = (num_slots / (num_slots - 1)) ** 0.5 * (torch.eye(num_slots) - 1 / num_slots)
        self.register_buffer("corners", corners.repeat(1, num_pairs // num_slots), persistent=False)

    def angles(self, company: Company) -> Float[Tensor, "b p half"]:
        return self.corners.float()[company.seats]
