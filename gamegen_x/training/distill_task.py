"""Stage three: a student that looks once makes what its teacher makes in many steps, on play of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.diffusion.flow import data_at_end, distribution_matching_loss, flow_matching_loss, point_on_flow
from gamegen_x.training.flow_task import NOISE, TIMES, after_past, surprise_at
from gamegen_x.training.instruct_task import InstructTask
from gamegen_x.training.player_weight import player_weight
from gamegen_x.training.randomness import Moment

COMPARED_NOISE = 12  # a purpose of random draws


class DistillTask(InstructTask):
    """Distribution matching distillation (Yin et al. 2024) of a causal model after pasts that the student made itself.

    Student, teacher and critic begin as the same weights. The student makes every frame in one step from noise, after
    `past`. What it made is noised again, to a time between `compared_times`: the teacher says what data it sees there,
    and so does the critic, which learns only from what the student makes; the student goes where they differ. So its
    frames are as likely as the teacher's, not their mean. `truth_weight` of the mean square error to what really came
    keeps it at what was asked for. One optimizer, one backward pass; gradients are clipped apart.
    """

    def __init__(self, *, compared_times: Sequence[float], truth_weight: float, **shared: Any) -> None:
        super().__init__(**shared)
        if self.past is None:
            raise ValueError("a student learns on its own play, and past is null; set past=teacher")
        low, high = compared_times
        if not 0 <= low <= high < 1:
            raise ValueError(f"compared_times are two times from 0 to below 1, got {list(compared_times)}")
        if truth_weight < 0:
            raise ValueError(f"truth_weight is at least 0, got {truth_weight}")
        self.compared_times = low, high
        self.truth_weight = truth_weight
        self.teacher = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.critic = copy.deepcopy(self.model).requires_grad_(True)
        assert self.critic.instructnet is not None
        for part in self.critic.instructnet.expecting():  # what keys lead to is the teacher's to say
            part.requires_grad_(False)

    def weights_loaded(self, names: set[str]) -> None:
        super().weights_loaded(names)
        for other in (self.teacher, self.critic):
            other.load_state_dict(self.model.state_dict())

    def clipped_apart(self) -> list[nn.Module]:
        return [self.model, self.critic]

    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        latents = self.latents(batch)
        num_frames = latents.shape[2]
        conditions = self.conditions(batch, num_frames, moment)
        past = self.shown_past(batch, latents, conditions, moment)
        start = torch.zeros(latents.shape[:3], device=self.device)
        shown = self.blur_context(past, start.bool(), moment)
        counted = batch.is_player[:, :, None] & self.learned_frames(batch, num_frames, moment)[:, None]
        weight = player_weight(batch, self.player_weight)

        expected = self.model.expect(shown, conditions)
        noise = moment.noise_like(latents, NOISE)
        given = None if expected is None else expected.detach()
        made = data_at_end(noise, after_past(self.model, shown, noise, start, conditions, given).float(), start)

        low, high = self.compared_times
        drawn = torch.rand(latents.shape[:2], generator=moment.generator(TIMES)).to(self.device)
        time = repeat(low + (high - low) * drawn, "b p -> b p t", t=num_frames)
        point = point_on_flow(made.detach(), moment.noise_like(latents, COMPARED_NOISE), time)
        with torch.no_grad():
            foreseen = self.teacher.expect(shown, conditions)
            taught = after_past(self.teacher, shown, point.latents, time, conditions, foreseen).float()
        seen = after_past(self.critic, shown, point.latents, time, conditions, foreseen).float()
        real, fake = (data_at_end(point.latents, velocity, time) for velocity in (taught, seen.detach()))

        matched = distribution_matching_loss(made, real, fake, counted, weight)
        truth = flow_matching_loss(made, latents, counted, weight)
        critic = flow_matching_loss(seen, point.velocity, counted, weight)
        losses = {"matched": matched, "truth": truth, "critic": critic}
        loss = matched + self.truth_weight * truth + critic
        if expected is not None:
            losses["surprise"] = surprise_at(latents, expected, counted, weight)
            loss = loss + losses["surprise"]
        return {"loss": loss, **losses}
