"""EMA: an average of the weights over past steps, used wherever the networks are looked at."""

# ruff: noqa: ARG002  (a hook takes what Lightning hands over)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn


class EMA(L.Callback):
    """Averages every trained parameter in float32 after each optimizer step.

    The decay rises with the number of updates s as min(decay, (1 + s) / (warm_up + s)), so that the random start is
    soon forgotten. Validation, previews and exports run with the average; the average is part of every checkpoint.
    """

    def __init__(self, *, decay: float, warm_up: float) -> None:
        if not 0 <= decay < 1 or warm_up < 1:
            raise ValueError(f"need 0 <= decay < 1 and warm_up >= 1, got {decay} and {warm_up}")
        self.decay = decay
        self.warm_up = warm_up
        self.num_updates = 0
        self.average: dict[str, Tensor] = {}
        self._set_aside: list[Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trained = _trained(pl_module)
        self.average = {
            name: self.average.get(name, parameter).detach().to(parameter.device, torch.float32, copy=True)
            for name, parameter in trained.items()
        }

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.num_updates:
            return  # gradients are still being accumulated
        decay = min(self.decay, (1 + self.num_updates) / (self.warm_up + self.num_updates))
        weights: list[Tensor] = [parameter.detach() for parameter in _trained(pl_module).values()]
        if weights[0].dtype != torch.float32:
            weights = [weight.float() for weight in weights]
        torch._foreach_lerp_(list(self.average.values()), weights, 1 - decay)
        self.num_updates = trainer.global_step

    @contextmanager
    def applied(self, pl_module: L.LightningModule) -> Iterator[None]:
        """Lends the networks their average weights."""
        self._swap_in(pl_module)
        try:
            yield
        finally:
            self._swap_out(pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._swap_out(pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if self._set_aside:
            self._swap_out(pl_module)

    @torch.no_grad()
    def _swap_in(self, pl_module: L.LightningModule) -> None:
        if self._set_aside:
            return
        weights = list(_trained(pl_module).values())
        self._set_aside = [weight.detach().clone() for weight in weights]
        torch._foreach_copy_(weights, list(self.average.values()))

    @torch.no_grad()
    def _swap_out(self, pl_module: L.LightningModule) -> None:
        torch._foreach_copy_(list(_trained(pl_module).values()), self._set_aside)
        self._set_aside = []

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_updates = state_dict["num_updates"]
        self.average = state_dict["average"]


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
