"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): memory for a second forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, is_checkpointed: bool, *inputs: Any) -> Tensor:
    """What a block makes of its inputs. Checkpointed it keeps those alone, and the backward pass runs it once more.

    The block may draw no random numbers, and may leave nothing in its inputs: it would do so twice.
    """
    if not (is_checkpointed and torch.is_grad_enabled()):
        found: Tensor = block(*inputs)
        return found
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
