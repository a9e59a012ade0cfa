"""MuonAdamW: Muon for the hidden matrices and AdamW for all the rest, in one optimizer; learning rates by step."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adamw import adamw

NamedParameters = Iterable[tuple[str, nn.Parameter]]
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # K. Jordan, "Muon: an optimizer for hidden layers", 2024
_EPSILON = 1e-7  # of the same


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer, so that schedules, averaged weights, resume and every trainer see only one.

    A group with `num_parts` is Muon's: each parameter, flattened to rows x columns, is cut into that many equal pieces
    of rows (3 for a fused query-key-value projection) and each piece is orthogonalised by itself. The other groups are
    AdamW's, fused. Every parameter needs its whole gradient: use AdamW alone where a trainer cuts parameters to pieces.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                update = self._muon if "num_parts" in group else self._adamw
                update(group, parameters)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])

        alike: dict[tuple[int, int], list[int]] = defaultdict(list)  # pieces of one shape are orthogonalised at once
        pieces = [update.reshape(group["num_parts"], update.shape[0] // group["num_parts"], -1) for update in nesterov]
        for index, piece in enumerate(pieces):
            alike[piece.shape[1], piece.shape[2]].append(index)
        updates: list[Tensor] = list(nesterov)
        for (rows, columns), indices in alike.items():
            stacked = orthogonalise(torch.cat([pieces[index] for index in indices]), group["num_iterations"])
            scaled = stacked.float() * math.sqrt(max(1.0, rows / columns))
            for index, update in zip(indices, scaled.split(group["num_parts"]), strict=True):
                updates[index] = update.reshape(nesterov[index].shape).to(nesterov[index].dtype)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalise(matrices: Float[Tensor, "n rows columns"], num_iterations: int) -> Float[Tensor, "n rows columns"]:
    """The nearest semi-orthogonal matrices, roughly: singular values come to lie near 1. Newton-Schulz, in bfloat16."""
    a, b, c = _NEWTON_SCHULZ
    flat = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if flat else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_EPSILON)
    for _ in range(num_iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if flat else x


def muon_adamw(
    parameters: NamedParameters,
    *,
    muon_lr: float,
    muon_momentum: float,
    muon_iterations: int,
    muon_weight_decay: float,
    adamw_lr: float,
    adamw_betas: Sequence[float],
    adamw_eps: float,
    adamw_weight_decay: float,
    adamw_names: Sequence[str],
    fused_names: Mapping[str, int],
) -> MuonAdamW:
    """Muon for every matrix or convolution, AdamW for vectors and for the names that `adamw_names` finds.

    `adamw_names` are regular expressions searched in a parameter's name: embeddings, norms, modulation, first and last
    layers. `fused_names` tells how many matrices lie on top of one another in parameters so named (`{"qkv": 3}`).
    """
    muon: dict[int, list[nn.Parameter]] = defaultdict(list)
    rest: dict[bool, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in parameters:
        if parameter.ndim < 2 or any(re.search(pattern, name) for pattern in adamw_names):
            rest[parameter.ndim >= 2].append(parameter)
            continue
        num_parts = next((count for pattern, count in fused_names.items() if re.search(pattern, name)), 1)
        if parameter.shape[0] % num_parts:
            raise ValueError(f"{name} has {parameter.shape[0]} rows; fused_names wants to cut them into {num_parts}")
        muon[num_parts].append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": found,
            "num_parts": num_parts,
            "lr": muon_lr,
            "momentum": muon_momentum,
            "num_iterations": muon_iterations,
            "weight_decay": muon_weight_decay,
        }
        for num_parts, found in sorted(muon.items())
    ]
    return MuonAdamW(groups + _adamw_groups(rest, adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay))


def adamw_only(
    parameters: NamedParameters, *, lr: float, betas: Sequence[float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW for everything; vectors are not decayed. With `weight_decay` 0 this is Adam."""
    rest: dict[bool, list[nn.Parameter]] = defaultdict(list)
    for _, parameter in parameters:
        rest[parameter.ndim >= 2].append(parameter)
    return torch.optim.AdamW(_adamw_groups(rest, lr, betas, eps, weight_decay), fused=True)


def _adamw_groups(
    parameters: Mapping[bool, list[nn.Parameter]], lr: float, betas: Sequence[float], eps: float, weight_decay: float
) -> list[dict[str, Any]]:
    return [
        {
            "params": found,
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay if is_matrix else 0.0,
            "fused": True,
        }
        for is_matrix, found in sorted(parameters.items(), reverse=True)
    ]


class WarmUp:
    """The share of the learning rate at each step: a straight rise over `warm_up_steps`, then all of it."""

    def __init__(self, *, warm_up_steps: int) -> None:
        self.warm_up_steps = warm_up_steps

    def __call__(self, step: int) -> float:
        return min(1.0, (step + 1) / max(1, self.warm_up_steps))


class WarmUpCosine:
    """A straight rise over `warm_up_share` of all steps, then half a cosine down to `final_share`."""

    def __init__(self, *, warm_up_share: float, total_steps: int, final_share: float) -> None:
        if not 0 <= warm_up_share < 1 or total_steps < 1:
            raise ValueError(
                f"need 0 <= schedule.warm_up_share < 1 and at least one step, got {warm_up_share} and {total_steps}; "
                "a run without an end wants schedule=constant"
            )
        self.warm_up_steps = round(warm_up_share * total_steps)
        self.total_steps = total_steps
        self.final_share = final_share

    def __call__(self, step: int) -> float:
        rise = min(1.0, (step + 1) / max(1, self.warm_up_steps))
        done = min(1.0, max(0.0, (step - self.warm_up_steps) / (self.total_steps - self.warm_up_steps)))
        return rise * (self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * done)))
