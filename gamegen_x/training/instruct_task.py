"""Stage two: InstructNet learns to follow players; the foundation is frozen, or follows along."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.models.gamegen import Conditions, GameGenX
from gamegen_x.models.instructnet import InstructNet
from gamegen_x.models.msdit import MSDiT
from gamegen_x.training.flow_task import CONTEXT_NOISE, CONTEXT_NOISE_LEVEL, CONTROLS, OVERDUE, FlowTask
from gamegen_x.training.randomness import Moment

CONTROL_KINDS = ("text", "keys", "video_prompt")
Controls = Mapping[str, Bool[Tensor, " b"]]


class InstructTask(FlowTask):
    """Trains InstructNet on clips of which each is controlled in one of the ways that `mix` lists with their shares.

    `unfreeze` is "none" (the paper), "all" or "last_<n>": the foundation's last n blocks and its last layer.
    """

    def __init__(
        self,
        *,
        msdit: MSDiT,
        instructnet: InstructNet,
        unfreeze: str,
        mix: Sequence[Mapping[str, Any]],
        context_noise: float,
        overdue: Overdue,
        **shared: Any,
    ) -> None:
        super().__init__(model=GameGenX(msdit, instructnet), **shared)
        self.mix = ControlMix(mix)
        self.context_noise = context_noise  # the largest deviation of noise on context frames
        self.overdue = overdue
        for network in (msdit, self.text_encoder):
            network.requires_grad_(False).eval()
        for part in unfrozen(msdit, unfreeze):
            part.requires_grad_(True)

    def weights_loaded(self, names: set[str]) -> None:
        if "instructnet" not in names and self.model.instructnet is not None:
            self.model.instructnet.start_from(self.model.msdit)

    def conditions(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Conditions:
        controls = self._controls(batch, moment)
        instruction, instruction_mask = self.tokens(batch.instructions)
        keys_known = batch.is_player if batch.has_actions is None else batch.is_player & batch.has_actions
        return replace(
            self.uncontrolled(batch, num_latent_frames, moment),
            has_actions=controls["keys"][:, None] & keys_known,
            instruction=instruction,
            instruction_mask=instruction_mask,
            is_instructed=self._instructed_frames(batch, num_latent_frames, moment),
            video_prompt=self._video_prompt(batch, num_latent_frames),
            has_prompt=controls["video_prompt"] & batch.has_video_prompt,
        )

    def blur_context(
        self, latents: Float[Tensor, "b p t c h w"], is_generated: Bool[Tensor, "b p t"], moment: Moment
    ) -> Float[Tensor, "b p t c h w"]:
        """Gaussian noise on context frames, of a strength drawn per player: sampled context is never quite real."""
        if not self.context_noise:
            return latents
        generator = moment.generator(CONTEXT_NOISE_LEVEL)
        deviation = self.context_noise * torch.rand(latents.shape[:2], generator=generator).to(latents.device)
        level = deviation[:, :, None] * ~is_generated
        return latents + rearrange(level, "b p t -> b p t 1 1 1") * moment.noise_like(latents, CONTEXT_NOISE)

    def learned_frames(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Bool[Tensor, "b t"]:
        """All but those in which the world has not yet done what it was told too early."""
        return ~self._overdue_frames(batch, num_latent_frames, moment)

    def _controls(self, batch: Batch, moment: Moment) -> Controls:
        drawn = self.mix.draw(len(batch), moment.generator(CONTROLS))
        return {kind: flags.to(self.device) for kind, flags in drawn.items()}

    def _instructed_frames(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Bool[Tensor, "b t"]:
        """Latent frames from the one in which an instruction is given."""
        frames = torch.arange(num_latent_frames, device=self.device)
        given = (frames >= self._first_instructed(batch)[:, None]) & self._is_instructed(batch, moment)[:, None]
        return given | self._overdue_frames(batch, num_latent_frames, moment)

    def _overdue_frames(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Bool[Tensor, "b t"]:
        frames = torch.arange(num_latent_frames, device=self.device)
        num_overdue = self.overdue.draw(len(batch), moment.generator(OVERDUE)).to(self.device)
        first = self._first_instructed(batch)[:, None]
        return (frames >= first - num_overdue[:, None]) & (frames < first) & self._is_instructed(batch, moment)[:, None]

    def _is_instructed(self, batch: Batch, moment: Moment) -> Bool[Tensor, " b"]:
        """Which clips are told their instruction at all."""
        has_text = torch.tensor([bool(text) for text in batch.instructions], device=self.device)
        return has_text & self._controls(batch, moment)["text"]

    def _first_instructed(self, batch: Batch) -> Float[Tensor, " b"]:
        starts = batch.instruction_starts
        if batch.latents is None:  # as the rows of cached latents do, frames follow the chunks of the VAE
            coding = self.vae.coding
            rows = [
                coding.latent_of(int(start)) * coding.temporal_factor if start > 0 else start
                for start in starts.tolist()
            ]
            starts = torch.tensor(rows, dtype=starts.dtype, device=starts.device)
        return torch.div(starts, self.vae.temporal_factor, rounding_mode="floor")

    def _video_prompt(self, batch: Batch, num_latent_frames: int) -> Float[Tensor, "b p t c h w"]:
        if batch.video_prompt_latents is not None:
            return batch.video_prompt_latents.float()
        if batch.video_prompt is not None:
            return self.encode(batch.video_prompt)
        # Zeros stand for no prompt, so that every parameter is in the graph of every step (DDP counts them).
        if batch.latents is not None:
            return torch.zeros_like(batch.latents, dtype=torch.float32)
        assert batch.video is not None
        num_clips, num_players, _, _, height, width = batch.video.shape
        size = (height // self.vae.spatial_factor, width // self.vae.spatial_factor)
        shape = (num_clips, num_players, num_latent_frames, self.vae.latent_channels, *size)
        return torch.zeros(shape, device=self.device)


class Overdue:
    """A share of the clips is told its instruction up to `max_frames` latent frames before the world follows it.

    A recorded world follows at once, so that its past never lags behind what was said; that of play may. What is
    learned of such a clip begins where the world follows: whatever it still looks like, now it does what it was told.
    """

    def __init__(self, *, share: float, max_frames: int) -> None:
        if not 0 <= share <= 1 or max_frames < 1:
            raise ValueError(f"share is between 0 and 1 and max_frames at least 1, got {share} and {max_frames}")
        self.share = share
        self.max_frames = max_frames

    def draw(self, num_clips: int, generator: torch.Generator) -> Int[Tensor, " b"]:
        """How many latent frames too early each clip is told."""
        counts = torch.randint(1, self.max_frames + 1, (num_clips,), generator=generator)
        return counts * (torch.rand(num_clips, generator=generator) < self.share)


class ControlMix:
    """Ways in which clips are controlled, e.g. `[{share: 0.2, controls: []}, {share: 0.8, controls: [text, keys]}]`."""

    def __init__(self, ways: Sequence[Mapping[str, Any]]) -> None:
        unknown = sorted({kind for way in ways for kind in way["controls"]} - set(CONTROL_KINDS))
        total = sum(way["share"] for way in ways)
        if unknown or abs(total - 1) > 1e-6 or any(way["share"] < 0 for way in ways):
            raise ValueError(
                f"task.mix lists shares that sum to 1 and controls of {list(CONTROL_KINDS)}; "
                f"got a sum of {total:g} and unknown controls {unknown}"
            )
        self.shares = torch.tensor([float(way["share"]) for way in ways])
        self.has = {kind: torch.tensor([kind in way["controls"] for way in ways]) for kind in CONTROL_KINDS}

    def draw(self, num_clips: int, generator: torch.Generator) -> Controls:
        """For each kind of control, which clips have it."""
        ways = torch.multinomial(self.shares, num_clips, replacement=True, generator=generator)
        return {kind: has[ways] for kind, has in self.has.items()}


def unfrozen(msdit: MSDiT, unfreeze: str) -> list[nn.Module | nn.Parameter]:
    """The parts of a foundation that `unfreeze` names. Raises ValueError where it names none."""
    if unfreeze == "none":
        return []
    if unfreeze == "all":
        return [msdit]
    wanted = re.fullmatch(r"last_(\d+)", unfreeze)
    if wanted is None or not 0 < int(wanted[1]) <= len(msdit.blocks):
        raise ValueError(
            f"task.unfreeze is 'none', 'all' or 'last_<n>' with n up to {len(msdit.blocks)} blocks, got {unfreeze!r}"
        )
    return [*msdit.blocks[-int(wanted[1]) :], msdit.last_table, msdit.last]
