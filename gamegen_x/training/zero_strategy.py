"""DeepSpeed's ZeRO through Lightning: two corrections that hold everywhere, and a variant for CPUs over gloo."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor


class ZeroStrategy(DeepSpeedStrategy):
    """DeepSpeedStrategy that divides the loss by `accumulate_grad_batches` once, and leaves a Batch as it is.

    Lightning divides the loss, and DeepSpeed would divide it again: gradients would be too small for clipping.
    Computing in bfloat16 is the task's autocast; parameters and batches stay in float32, and so do the master weights.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(exclude_frozen_parameters=True, **kwargs)
        self._precision_plugin = _WholeBatches("32-true")

    def init_deepspeed(self) -> None:
        with warnings.catch_warnings():  # our hook leaves it to DeepSpeed
            warnings.filterwarnings("ignore", message=".*configure_gradient_clipping.*")
            super().init_deepspeed()

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)


class CPUZeroStrategy(ZeroStrategy):
    """ZeRO on CPU ranks over gloo: Lightning's own class has guards that ask for CUDA devices."""

    def __init__(self, **kwargs: Any) -> None:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # before deepspeed is imported
        super().__init__(process_group_backend="gloo", pin_memory=False, **kwargs)

    def setup_environment(self) -> None:
        DDPStrategy.setup_environment(self)

    def setup_distributed(self) -> None:
        import deepspeed

        reset_seed()
        self.set_world_ranks()
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled for a minute
        self._init_deepspeed_distributed()

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu", 0)  # deepspeed wants a number


class _WholeBatches(DeepSpeedPrecision):
    def convert_input(self, data: Any) -> Any:
        return data
