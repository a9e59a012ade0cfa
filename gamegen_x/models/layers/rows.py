"""Products whose rows do not depend on how many rows there are."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEWEST_ROWS = 16  # of fewer, BLAS sums in another order: how many depends on the processor, up to 15 were seen


class RowLinear(nn.Linear):
    """A linear layer for few rows, such as one a frame: a row has the same bits, whatever is computed beside it.

    Layers over tokens have rows enough, and need no such care.
    """

    def forward(self, rows: Float[Tensor, "*any d_in"]) -> Float[Tensor, "*any d_out"]:
        num_rows = rows[..., 0].numel()
        if num_rows >= FEWEST_ROWS:
            return super().forward(rows)
        padded = F.pad(rows.reshape(num_rows, -1), (0, 0, 0, FEWEST_ROWS - num_rows))
        return super().forward(padded)[:num_rows].view(*rows.shape[:-1], -1)
