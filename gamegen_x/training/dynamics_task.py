"""The transition network: it learns from recordings how keys move players, where a game's rules are not at hand."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.models.transition import Transition
from gamegen_x.training.randomness import Moment
from gamegen_x.training.task import Task

_GIVEN, _NOISE = range(2)


class DynamicsTask(Task):
    """L1 of the places of those who are seen, and cross-entropy of who is.

    The first `warm_up_frames` of a window are given. After them a clip goes on from what the network itself foresaw,
    as it will be used, and teaches where it is not `lost`: farther astray, in halves of a picture. The share
    `given_share` of the clips is given every frame. `place_noise` is the deviation of Gaussian noise on what is given.
    Validation says beside the error in places over the `soon_frames` after the warm-up what it would be if everybody
    stood still.
    """

    def __init__(
        self,
        *,
        transition: Transition,
        warm_up_frames: int,
        soon_frames: int,
        given_share: float,
        lost: float,
        place_noise: float,
        seen_weight: float,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if warm_up_frames < 1 or not 0 <= given_share <= 1:
            raise ValueError(
                "task.warm_up_frames is at least 1 and task.given_share a share between 0 and 1, got "
                f"{warm_up_frames} and {given_share}"
            )
        self.transition = transition
        self.warm_up_frames = warm_up_frames
        self.soon_frames = soon_frames
        self.given_share = given_share
        self.lost = lost
        self.place_noise = place_noise
        self.seen_weight = seen_weight

    def networks(self) -> dict[str, nn.Module]:
        return {"transition": self.transition}

    def latent_normalisation(self) -> tuple[float, float]:
        """It knows no latents."""
        return 0.0, 1.0

    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        if batch.places is None or batch.seen is None:
            raise ValueError("task=dynamics learns from data.content=facts, and this batch has none")
        true, seen = batch.places, batch.seen
        given = true + self.place_noise * moment.noise_like(true, _NOISE) if self.training else true
        held = batch.actions.movedim(1, 2)
        is_given = self._is_given(seen, moment)
        foreseen, logits = self.transition.rollout(given, seen.float(), held, is_given)
        error = (foreseen - true[:, 1:]).abs().sum(-1)
        weight = seen[:, 1:].float()
        if self.training:
            weight = weight * ((error < self.lost) | is_given.T[:, :, None, None])
        places = _mean(error, weight)
        seeing = F.binary_cross_entropy_with_logits(logits.float(), seen[:, 1:].float())
        losses = {"places_l1": places, "seen_bce": seeing, "loss": places + self.seen_weight * seeing}
        if not self.training:
            first = self.warm_up_frames
            soon = slice(first - 1, first - 1 + self.soon_frames)  # frame i + 1 is foreseen at i
            standing = (true[:, first - 1 : first] - true[:, 1:][:, soon]).abs().sum(-1)
            losses["soon_l1"] = _mean(error[:, soon], weight[:, soon])
            losses["soon_l1_if_all_stood"] = _mean(standing, weight[:, soon])
        return losses

    def _is_given(self, seen: Bool[Tensor, "b t p q"], moment: Moment) -> Bool[Tensor, "steps b"]:
        """In which clips frame 1, 2, ... is given once it was foreseen."""
        num_clips, num_frames = seen.shape[:2]
        is_given = torch.zeros(num_frames - 1, num_clips, dtype=torch.bool, device=seen.device)
        is_given[: self.warm_up_frames - 1] = True
        if self.training:
            is_given[:, : moment.part_of(num_clips, self.given_share, _GIVEN)] = True  # clips of a batch have no order
        return is_given


def _mean(values: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    return (values * weight).sum() / weight.sum().clamp(min=1)
