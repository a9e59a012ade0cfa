"""What a loss counts where a player sees another: others are small and move, and would be learned last."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from gamegen_x.data.batch import Batch


def check_player_weight(weight: float, pixels: int = 0) -> None:
    """Raises ValueError."""
    if weight < 1 or pixels < 0:
        raise ValueError(
            f"task.player_weight is at least 1 and task.player_pixels at least 0, got {weight} and {pixels}"
        )


def player_weight(batch: Batch, weight: float, pixels: int = 0) -> Float[Tensor, "b p t 1 h w"] | None:
    """`weight` where others are drawn and in a square that reaches `pixels` beyond, else 1; None: 1 everywhere."""
    if weight == 1:
        return None
    if batch.others is None:
        raise ValueError(
            "task.player_weight needs to know where players see each other; choose state=poses or state=map, "
            "or task.player_weight=1"
        )
    seen = rearrange((batch.others > 0).float(), "b p t 1 h w -> (b p t) 1 h w")
    near = F.max_pool2d(seen, 2 * pixels + 1, stride=1, padding=pixels)
    return 1 + (weight - 1) * near.view_as(batch.others)
