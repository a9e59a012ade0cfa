"""AgentRotary: a sequence whose queries and keys are turned by the player's seat number (MultiWorld, 2604.18564)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from gamegen_x.models.layers.positions import RotaryPositions
from gamegen_x.models.players.company import Company
from gamegen_x.models.players.sequence import TokenSequence


class AgentRotary(TokenSequence):
    """Players two seats apart are farther from each other than neighbours: not fair, but any number of seats."""

    def __init__(self, dim: int, num_heads: int, num_slots: int, base: float) -> None:
        super().__init__(dim, num_heads, num_slots)
        self.rotary = RotaryPositions(self.head_dim, base)

    def angles(self, company: Company) -> Float[Tensor, "b p half"]:
        return self.rotary(company.seats.flatten()).unflatten(0, company.seats.shape)
