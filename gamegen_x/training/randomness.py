"""Random numbers that depend on where training stands and on nothing else, so that a resumed run draws the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Moment:
    """A place in a run: which micro-batch of which rank, in training (`stage` 0) or validation (1)."""

    seed: int
    stage: int
    micro_batch: int  # counted from the start of the run, over all epochs
    rank: int

    def generator(self, purpose: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for one purpose (noise, times, dropped texts, ...) at this moment."""
        place = [self.seed, self.stage, self.micro_batch, self.rank, purpose]
        high, low = np.random.SeedSequence(place).generate_state(2, np.uint32)
        return torch.Generator(device).manual_seed((int(high) << 31) ^ int(low))  # 63 bits: every device takes them

    def part_of(self, count: int, share: float, purpose: int) -> int:
        """How many of `count` make up a share: a whole number that is right in the mean."""
        return int(count * share + torch.rand((), generator=self.generator(purpose), dtype=torch.float64).item())

    def noise_like(self, tensor: torch.Tensor, purpose: int) -> torch.Tensor:
        """Standard normal numbers of the tensor's shape, in float32 on its device."""
        generator = self.generator(purpose, tensor.device)
        return torch.randn(tensor.shape, generator=generator, device=tensor.device, dtype=torch.float32)
