"""Stage three, where it is wanted: a student that looks once makes what its teacher makes in many looks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.diffusion.flow import data_at_end, distribution_matching_loss, flow_matching_loss, point_on_flow
from gamegen_x.models.gamegen import Conditions
from gamegen_x.training.flow_task import MADE_NOISE, NOISE, after_past, surprise_at
from gamegen_x.training.instruct_task import InstructTask
from gamegen_x.training.player_weight import player_weight
from gamegen_x.training.randomness import Moment

_LATEST = 0.98  # time at which two scores are compared; Yin et al. 2024 leave out the last 2 %, too


class DistillTask(InstructTask):
    """Distribution matching distillation (Yin et al. 2024) of a causal model after pasts that the student made itself.

    Student, teacher and fake score begin as the same weights. The student makes every frame in one step from noise,
    after `past`. What it made is noised again, to times as the teacher learned (`draw_times`): the teacher says what
    data it sees there, and so does the fake score, which learns only from what the student makes; the student goes
    where they differ. So its frames are as likely as the teacher's, not their mean. `truth_weight` of the mean square
    error to what really came keeps it at what was asked for. The teacher is led by instructions as strongly as
    `instruction_guidance` says, so that the student is without a second look.

    One optimizer and one backward pass, so this runs under every trainer; gradients of student and fake score are
    clipped apart, but for ZeRO's, which are clipped as one.
    """

    def __init__(self, *, truth_weight: float, instruction_guidance: float, **shared: Any) -> None:
        super().__init__(**shared)
        if self.past is None or not self.past.own_share or any(self.past.own_times):
            raise ValueError(
                "a student learns on its own play, which it makes in one step from noise: set past=teacher, "
                f"past.own_share above 0 and past.own_times=[0.0, 0.0], got {self.past}"
            )
        if truth_weight < 0 or instruction_guidance < 1:
            raise ValueError(
                f"truth_weight is at least 0 and instruction_guidance at least 1, got {truth_weight} and "
                f"{instruction_guidance}"
            )
        self.truth_weight = truth_weight
        self.instruction_guidance = instruction_guidance
        self.teacher = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.fake_score = copy.deepcopy(self.model).requires_grad_(True)
        assert self.fake_score.instructnet is not None
        for part in self.fake_score.instructnet.parts_of_expect():  # what keys lead to is the teacher's to say
            part.requires_grad_(False)

    def weights_loaded(self, names: set[str]) -> None:
        super().weights_loaded(names)
        for other in (self.teacher, self.fake_score):
            other.load_state_dict(self.model.state_dict())

    def clipped_apart(self) -> list[nn.Module]:
        return [self.model, self.fake_score]

    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        latents = self.latents(batch)
        num_frames = latents.shape[2]
        conditions = self.conditions(batch, num_frames, moment)
        past = self.shown_past(batch, latents, conditions, moment)
        time, is_generated = self.times(latents, moment)
        shown = self.blur_context(past, torch.zeros_like(is_generated), moment)
        counted = is_generated & batch.is_player[:, :, None] & self.learned_frames(batch, num_frames, moment)[:, None]
        weight = player_weight(batch, self.player_weight)

        expected = self.model.expect(shown, conditions)
        given = None if expected is None else expected.detach()
        noise, start = moment.noise_like(latents, NOISE), torch.zeros_like(time)
        made = data_at_end(noise, after_past(self.model, shown, noise, start, conditions, given).float(), start)

        time = time.clamp(max=_LATEST)
        point = point_on_flow(made.detach(), moment.noise_like(latents, MADE_NOISE), time)
        taught = self._taught(shown, point.latents, time, conditions)
        with torch.no_grad():
            foreseen = self.teacher.expect(shown, conditions)
        seen = after_past(self.fake_score, shown, point.latents, time, conditions, foreseen).float()
        real, fake = (data_at_end(point.latents, velocity, time) for velocity in (taught, seen.detach()))

        losses = {
            "matched": distribution_matching_loss(made, real, fake, counted, weight),
            "truth": flow_matching_loss(made, latents, counted, weight),
            "fake_score": flow_matching_loss(seen, point.velocity, counted, weight),
        }
        loss = losses["matched"] + self.truth_weight * losses["truth"] + losses["fake_score"]
        if expected is not None:
            losses["surprise"] = surprise_at(latents, expected, counted, weight)
            loss = loss + losses["surprise"]
        return {"loss": loss, **losses}

    @torch.no_grad()
    def _taught(self, shown: Tensor, latents: Tensor, time: Tensor, conditions: Conditions) -> Tensor:
        """The teacher's velocity, led away from what it would be if nothing had been said."""

        def looked(asked: Conditions) -> Tensor:
            return after_past(self.teacher, shown, latents, time, asked, self.teacher.expect(shown, asked)).float()

        heard = looked(conditions)
        if self.instruction_guidance == 1:
            return heard
        unheard = looked(conditions.without_instruction(0))
        return unheard + self.instruction_guidance * (heard - unheard)
