"""Noise as a function of where a world stands: no generator, no order, no company matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

MAX_COUNTER = 2**64 - 1


def noise_at(session: int, tick: int, slot: int, step: int, shape: Sequence[int]) -> Float[Tensor, "..."]:
    """Standard normal numbers in float32 on the CPU, the same whenever and beside whomever they are asked for."""
    key, counter = (np.array(numbers, np.uint64) for numbers in ([session, slot], [0, 0, step, tick]))
    bits = np.random.Philox(key=key, counter=counter)
    return torch.from_numpy(np.random.Generator(bits).standard_normal(tuple(shape), dtype=np.float32))
