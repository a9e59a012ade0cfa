"""Company: who is in a world together and sees whom; and what every way to mix players has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Company:
    """The players of `b` worlds in `t` latent frames of `n` tokens. An absent player sees nobody and is not seen."""

    seats: Int[Tensor, "b p"]  # by which number each player is told from the others
    sees: Bool[Tensor, "b t p p"]  # the row's player sees the column's tokens; nobody sees themselves
    is_gated: bool  # by nearness
    num_tokens: int

    @classmethod
    def of(
        cls,
        is_player: Bool[Tensor, "b p"],
        near: Bool[Tensor, "b t p p"] | None,
        seats: Int[Tensor, "b p"] | None,
        num_frames: int,
        num_tokens: int,
    ) -> Company:
        """`near` says who is near whom; None: everybody."""
        num_players = is_player.shape[1]
        others = ~torch.eye(num_players, dtype=torch.bool, device=is_player.device)
        both = is_player[:, None, :, None] & is_player[:, None, None, :] & others
        sees = both.expand(-1, num_frames, -1, -1) if near is None else both & near
        numbers = torch.arange(num_players, device=is_player.device).expand(len(is_player), -1)
        return cls(numbers if seats is None else seats, sees, near is not None, num_tokens)

    @property
    def num_players(self) -> int:
        return self.seats.shape[1]

    @property
    def num_frames(self) -> int:
        return self.sees.shape[1]

    @cached_property
    def mask(self) -> Bool[Tensor, "bt 1 pn pn_and_sink"]:
        """Which tokens each token looks at, in an attention over all players' tokens of a frame after a sink."""
        tokens = repeat(self.sees, "b t i j -> (b t) 1 (i n) (j m)", n=self.num_tokens, m=self.num_tokens)
        return nn.functional.pad(tokens, (1, 0), value=True)

    def of_tokens(self, of_players: Tensor) -> Tensor:
        """Something of every player, `[b p d]`, at each of its tokens in every frame: `[(b t) (p n) d]`."""
        return repeat(of_players, "b p d -> (b t) (p n) d", t=self.num_frames, n=self.num_tokens)


class PlayerMix(nn.Module, ABC):
    """What a player's tokens get from the other players' tokens of the same frame.

    It is added to the residual stream, without a gate; its last projection starts at zero and has no bias, and who sees
    nobody gets exactly nothing. So it changes nothing at first, nor ever for a player alone.
    """

    seats_are_drawn = False  # whether training gives players other seats each time

    def __init__(self, dim: int, num_slots: int) -> None:
        super().__init__()
        if num_slots < 2:
            raise ValueError(f"players are told apart by 2 slots or more, got num_slots={num_slots}")
        self.num_slots = num_slots
        self.out = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.out.weight)

    @abstractmethod
    def forward(self, tokens: Float[Tensor, "bp t n d"], company: Company) -> Float[Tensor, "bp t n d"]: ...


MakeMix = Callable[..., PlayerMix]  # (dim=, num_heads=): a way to mix players, for a block of any size


def by_frame(tokens: Float[Tensor, "bp t n d"], company: Company) -> Float[Tensor, "bt pn d"]:
    """All players' tokens of a frame as one sequence."""
    return rearrange(tokens, "(b p) t n d -> (b t) (p n) d", p=company.num_players)


def by_player(tokens: Float[Tensor, "bt pn d"], company: Company) -> Float[Tensor, "bp t n d"]:
    return rearrange(tokens, "(b t) (p n) d -> (b p) t n d", p=company.num_players, t=company.num_frames)
