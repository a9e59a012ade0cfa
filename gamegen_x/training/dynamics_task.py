"""The transition network: it learns from recordings how keys move players, where a game's rules are not at hand."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.models.transition import Transition
from gamegen_x.training.randomness import Moment
from gamegen_x.training.task import Task

_GIVEN, _NOISE = range(2)


class DynamicsTask(Task):
    """L1 of the places that are known, and cross-entropy of which are.

    The first `warm_up_frames` of a window are given. After them a clip goes on from what the network itself foresaw,
    as it will be used, and teaches where it is not `lost`: farther astray. The share
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
        known_weight: float,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if min(warm_up_frames, soon_frames) < 1 or not 0 <= given_share <= 1:
            raise ValueError(
                "task.warm_up_frames and soon_frames are at least 1 and task.given_share a share between 0 and 1, got "
                f"{warm_up_frames}, {soon_frames} and {given_share}"
            )
        if min(lost, place_noise, known_weight) < 0:
            raise ValueError("task.lost, place_noise and known_weight are not below 0")
        self.transition = transition
        self.warm_up_frames = warm_up_frames
        self.soon_frames = soon_frames
        self.given_share = given_share
        self.lost = lost
        self.place_noise = place_noise
        self.known_weight = known_weight

    def networks(self) -> dict[str, nn.Module]:
        return {"transition": self.transition}

    def latent_normalisation(self) -> tuple[float, float]:
        """It knows no latents."""
        return 0.0, 1.0

    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        if batch.places is None or batch.known is None:
            raise ValueError("task=dynamics learns from data.content=facts, and this batch has none")
        true, known = batch.places, batch.known
        if true.shape[1] < self.warm_up_frames + self.soon_frames:
            raise ValueError(
                f"windows have {true.shape[1]} frames, task.warm_up_frames and task.soon_frames need "
                f"{self.warm_up_frames + self.soon_frames}; set data.num_frames"
            )
        given = true + self.place_noise * moment.noise_like(true, _NOISE) if self.training else true
        held = rearrange(batch.actions, "b p t k -> b t p k")
        is_given = self._is_given(known, moment)
        foreseen, logits = self.transition.rollout(given, known.float(), held, is_given)
        if self.training:
            is_whole = batch.is_player.all(dim=1)  # a world does not begin with somebody who is not there
            self.transition.keep(true[is_whole, 0], known[is_whole, 0].float())
            self.transition.note(true.movedim(2, 1)[batch.is_player])
        error = (foreseen - true[:, 1:]).abs().sum(-1)
        asked = self._asked(batch, known[:, 1:])
        weight = asked * known[:, 1:]
        if self.training:
            weight = weight * ((error < self.lost) | rearrange(is_given[:-1], "t b -> b t 1 1"))
        places = _mean(error, weight)
        knowing = _mean(
            F.binary_cross_entropy_with_logits(logits.float(), known[:, 1:].float(), reduction="none"), asked
        )
        losses = {"places_l1": places, "known_bce": knowing, "loss": places + self.known_weight * knowing}
        if not self.training:
            first = self.warm_up_frames - 1  # the last frame that is given, and the place of the next in `error`
            soon = slice(first, first + self.soon_frames)
            weight = weight[:, soon] * known[:, first : first + 1]
            losses["soon_l1"] = _mean(error[:, soon], weight)
            standing = (true[:, first : first + 1] - true[:, 1:][:, soon]).abs().sum(-1)
            losses["soon_l1_if_all_stood"] = _mean(standing, weight)
        return losses

    def _is_given(self, known: Bool[Tensor, "b t p q"], moment: Moment) -> Bool[Tensor, "t b"]:
        """From which true frames the next one is foreseen, clip by clip."""
        is_given = torch.zeros(known.shape[1], len(known), dtype=torch.bool, device=known.device)
        is_given[: self.warm_up_frames] = True
        if self.training:
            is_given[:, : moment.part_of(len(known), self.given_share, _GIVEN)] = True  # clips have no order
        return is_given

    def _asked(self, batch: Batch, known: Bool[Tensor, "b t p q"]) -> Float[Tensor, "b t p q"]:
        """1 for the views of players who are there, in clips in which the keys of all of them are known."""
        asked = batch.is_player
        if batch.has_actions is not None:
            asked = asked & (batch.has_actions | ~batch.is_player).all(dim=1, keepdim=True)
        return rearrange(asked, "b p -> b 1 p 1").expand_as(known).float()


def _mean(values: Float[Tensor, "*shape"], weight: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    return (values * weight).sum() / weight.sum().clamp(min=1)
