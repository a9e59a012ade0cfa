"""Task: what all trainings share: where randomness comes from, precision, clipping, and which networks are trained."""

# ruff: noqa: ARG002  (a hook takes what Lightning hands over)

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gamegen_x.data.batch import Batch
from gamegen_x.sampling.live_networks import PRECISIONS
from gamegen_x.training.optimizers import NamedParameters
from gamegen_x.training.randomness import Moment

_ALIGNMENT = 64  # bytes
_VALIDATION = 1  # its draws are the same at every validation, and not those of training


class Task(L.LightningModule):
    """Joins networks, data and mathematics. Parameters are float32; `precision` bf16 computes under autocast."""

    def __init__(
        self,
        *,
        seed: int,
        precision: str,
        optimizer: Callable[[NamedParameters], Optimizer],
        schedule: Callable[[int], float],
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {list(PRECISIONS)}, got {precision!r}")
        self.seed = seed
        self.compute_dtype = PRECISIONS[precision]
        self.optimizer = optimizer
        self.schedule = schedule
        self.strict_loading = False  # frozen networks are not in checkpoints; on_load_checkpoint checks the rest
        self._is_zero_step = False
        self._unfinished: list[tuple[Tensor, list[str]]] = []  # losses and record keys since the last update

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Every network that sampling needs, by its name in a weights folder."""

    @abstractmethod
    def latent_normalisation(self) -> tuple[float, float]:
        """Shift and scale: (latents - shift) * scale is of about unit size."""

    @abstractmethod
    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """The parts of the loss by name; `loss` is what is minimised. All randomness comes from `moment`."""

    def weights_loaded(self, names: set[str]) -> None:
        """Told once, when a fresh run has filled the networks `names` from a weights folder."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        moment = Moment(self.seed, 0, self.trainer.fit_loop.epoch_loop.total_batch_idx, self.global_rank)
        with self.autocast():
            losses = self.losses(batch, moment)
        self._unfinished.append((losses["loss"].detach(), batch.keys))
        values = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(values, batch_size=len(batch), sync_dist=self.trainer.world_size > 1)
        return losses["loss"]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device, non_blocking=device.type == "cuda")  # Lightning itself would wait

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return aligned(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        with self.autocast():
            losses = self.losses(batch, Moment(self.seed, _VALIDATION, batch_idx, self.global_rank))
        values = {f"val/{name}": value for name, value in losses.items()}
        self.log_dict(values, batch_size=len(batch), sync_dist=self.trainer.world_size > 1)

    def autocast(self) -> AbstractContextManager[Any]:
        if self.compute_dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.compute_dtype)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer(self.trained_parameters().items())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, self.schedule), "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by norm, and stops before the update if the loss or a gradient is not a finite number.

        ZeRO clips by itself, and leaves out an update that is not finite: its norm is known after the step.
        """
        engine = self.trainer.model
        if hasattr(engine, "get_global_grad_norm"):
            self._is_zero_step = engine.is_gradient_accumulation_boundary()
            return
        norms = []
        for module in self.clipped_apart():
            parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
            if gradient_clip_val:
                norms.append(clip_grad_norm_(parameters, gradient_clip_val))
            else:
                norms.append(get_total_norm([parameter.grad for parameter in parameters]))  # type: ignore[misc]
        self._look_at(norms)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self._is_zero_step:
            self._is_zero_step = False
            self._look_at([torch.as_tensor(self.trainer.model.get_global_grad_norm(), device=self.device)])

    def _look_at(self, norms: Sequence[Tensor]) -> None:
        """Logs the first norm. Raises TrainingDiverged, in all processes, where a loss or norm of one is not finite."""
        losses = torch.stack([loss for loss, _ in self._unfinished])
        self.log("train/gradient_norm", norms[0])
        everything = losses.sum() + torch.stack(list(norms)).sum()
        if self.trainer.world_size > 1:
            everything = self.trainer.strategy.reduce(everything, reduce_op="sum")
        if not everything.isfinite():  # the one moment of a step at which the device is waited for
            keys = [key for loss, keys in self._unfinished if not loss.isfinite() for key in keys]
            keys = keys or [key for _, keys in self._unfinished for key in keys]
            raise TrainingDiverged(
                f"at step {self.global_step + 1} the loss is {losses.mean():.4g} and the gradient's norm "
                f"{sum(norms):.4g}, expected finite numbers; nothing was updated. The records were {keys}: look at "
                "them, or lower the learning rate and continue from the last checkpoint with resume=true"
            )
        self._unfinished.clear()

    def clipped_apart(self) -> list[nn.Module]:
        """The modules whose gradients are clipped each by its own norm. The first one's is logged."""
        return [self]

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def saved_state(self) -> dict[str, Tensor]:
        """What a checkpoint holds: all but frozen parameters, which come from the weights folder of the run."""
        parameters = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        buffers = {name: value for name, value in self.state_dict().items() if name not in parameters}
        return {**self.trained_parameters(), **buffers}  # tied weights once

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = self.saved_state().keys()
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "state_dict" in checkpoint:  # a sharded checkpoint has none: its trainer compares
            check_shapes(self.saved_state(), checkpoint["state_dict"], "the checkpoint")


def aligned(batch: Batch) -> Batch:
    """The batch, with every tensor at an address that torch would choose.

    Products of matrices may differ in their last bit with the address of the operands (MKL says so); numpy aligns less.
    """
    moved: dict[str, Any] = {
        field.name: value.clone()
        for field in fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor) and value.data_ptr() % _ALIGNMENT
    }
    return replace(batch, **moved)


class TrainingDiverged(ValueError):  # noqa: N818
    """A loss or gradient was not a finite number."""


def check_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Raises ValueError that names the first tensors of `found` which do not fit."""
    wrong = [f"{name} is missing" for name in expected.keys() - found.keys()]
    wrong += [
        f"{name} is {list(found[name].shape)}, expected {list(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    ]
    if wrong:
        raise ValueError(
            f"{what} was made with other settings: {'; '.join(sorted(wrong)[:3])}; "
            "use the networks and the task that it was made with, or start a new run with output=<another folder>"
        )
