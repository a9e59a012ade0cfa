"""GameGenX: MSDiT steered by InstructNet; the one place where players are folded into the batch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, cast

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gamegen_x.models.instructnet import InstructNet
from gamegen_x.models.layers.attention import SelfAttention
from gamegen_x.models.layers.expectation import Expectation
from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.models.layers.modulation import VideoMetadata
from gamegen_x.models.msdit import Block, MSDiT
from gamegen_x.models.players.company import Company, PlayerMix


@dataclass(frozen=True)
class Conditions:
    """All that a generated clip is asked to follow. Text and instruction are a clip's, keys are each player's.

    Absent things are said so: a text or instruction row whose mask is all false, `has_actions` or `has_prompt` false.
    """

    text: Float[Tensor, "b l d_text"]
    text_mask: Bool[Tensor, "b l"]
    fps: Float[Tensor, " b"]
    num_frames: Float[Tensor, " b"]  # video frames of the clip or window
    actions: Float[Tensor, "b p t f k"]  # keys held at each of the f video frames inside a latent frame
    has_actions: Bool[Tensor, "b p"]
    instruction: Float[Tensor, "b li d_text"]
    instruction_mask: Bool[Tensor, "b li"]
    is_instructed: Bool[Tensor, "b t"]  # latent frames to which the instruction applies
    video_prompt: Float[Tensor, "b p t c h w"] | None
    has_prompt: Bool[Tensor, " b"]
    is_player: Bool[Tensor, "b p"] | None = None  # false for an empty seat; None: everybody is there
    near: Bool[Tensor, "b t p p"] | None = None  # the row's player may see the column's tokens; None: all may
    seats: Int[Tensor, "b p"] | None = None  # by which players are told apart; None: 0, 1, 2 ...
    state: Float[Tensor, "b p t c_state h w"] | None = None  # the world's truth, drawn where each player sees it
    has_state: Bool[Tensor, " b"] | None = None  # None: all clips, where there is a state

    def without_text(self) -> Conditions:
        return replace(self, text_mask=torch.zeros_like(self.text_mask))

    def without_instruction(self, start: int) -> Conditions:
        """Nothing is asked from latent frame `start` on."""
        is_instructed = self.is_instructed.clone()
        is_instructed[:, start:] = False
        return replace(self, is_instructed=is_instructed)

    def clips(self, count: int) -> Conditions:
        """The conditions of the first clips."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        shorter: dict[str, Any] = {name: value[:count] for name, value in values if value is not None}
        return replace(self, **shorter)

    def frames(self, start: int, stop: int | None) -> Conditions:
        """The same conditions for latent frames start to stop (not included), or to the end."""
        return replace(
            self,
            actions=self.actions[:, :, start:stop],
            is_instructed=self.is_instructed[:, start:stop],
            video_prompt=None if self.video_prompt is None else self.video_prompt[:, :, start:stop],
            near=None if self.near is None else self.near[:, start:stop],
            state=None if self.state is None else self.state[:, :, start:stop],
        )


class GameGenX(nn.Module):
    """Predicts the velocity of every player's latents. A single player is the case p = 1.

    Without an InstructNet, or with `is_steered` false, the foundation simply continues the world. A causal model can be
    shown its context once: `past` keeps what later passes over new frames need of it, with the same result.
    """

    def __init__(self, msdit: MSDiT, instructnet: InstructNet | None) -> None:
        super().__init__()
        self.msdit = msdit
        self.instructnet = instructnet
        if instructnet is not None and instructnet.carry is not None and not msdit.preconditioned:
            raise ValueError(
                "what InstructNet carries over is an expectation; set msdit.preconditioned=true, or "
                "instructnet.carry=null"
            )
        self.mixes = [module for module in self.modules() if isinstance(module, PlayerMix)]

    @property
    def num_slots(self) -> int | None:
        """How many players there may be; None where players do not see each other, and any number may be."""
        return min((mix.num_slots for mix in self.mixes), default=None)

    @property
    def seats_are_drawn(self) -> bool:
        return any(mix.seats_are_drawn for mix in self.mixes)

    def forward(
        self,
        latents: Float[Tensor, "b p t c h w"],
        time: Float[Tensor, "b p t"],  # 0 = noise, 1 = data; context frames stand at 1
        conditions: Conditions,
        is_steered: bool = True,
        past: PastFrames | None = None,
        expected: Expectation | None = None,  # players folded into the batch; None: what `expect` says
    ) -> Float[Tensor, "b p t c h w"]:
        num_players = latents.shape[1]
        each_player = partial(_each_player, num_players=num_players)
        msdit, size = self.msdit, latents.shape[-2:]
        metadata = VideoMetadata(
            height=latents.new_full((latents.shape[0] * num_players,), size[0] * msdit.spatial_factor),
            width=latents.new_full((latents.shape[0] * num_players,), size[1] * msdit.spatial_factor),
            num_frames=each_player(conditions.num_frames),
            fps=each_player(conditions.fps),
        )
        tokens = msdit.embed(_fold(latents))
        if conditions.state is not None:
            has_state = None if conditions.has_state is None else each_player(conditions.has_state)
            tokens = msdit.told(tokens, _fold(conditions.state), has_state)
        company = self._company(conditions, latents.shape[2], tokens.shape[2])
        condition = msdit.condition(_fold(time), metadata)
        modulation = msdit.modulation(condition)
        residuals: list[Tensor] = []
        if self.instructnet is not None and is_steered:
            prompt = conditions.video_prompt
            given = expected
            expected = (PastFrames() if past is None else past).expect_once(
                _fold(latents), lambda before: self._expect(before, conditions) if given is None else given
            )
            residuals = self.instructnet(
                tokens,
                modulation,
                expected,
                _fold(conditions.actions),
                _fold(conditions.has_actions),
                each_player(conditions.instruction),
                each_player(conditions.instruction_mask),
                each_player(conditions.is_instructed),
                None if prompt is None else _fold(prompt),
                each_player(conditions.has_prompt),
                past,
                company,
            )
        velocity = msdit.predict(
            _fold(latents),
            _fold(time),
            tokens,
            condition,
            modulation,
            each_player(conditions.text),
            each_player(conditions.text_mask),
            residuals,
            past,
            company,
            expected,
        )
        return rearrange(velocity, "(b p) ... -> b p ...", p=num_players)

    def expect(self, shown: Float[Tensor, "b p t c h w"], conditions: Conditions) -> Expectation | None:
        """What the keys lead to from each frame before, players folded into the batch; None: nothing is expected."""
        return self._expect(PastFrames().frame_before(_fold(shown)), conditions)

    def _expect(self, frame_before: Float[Tensor, "bp t c h w"], conditions: Conditions) -> Expectation | None:
        if self.instructnet is None:
            return None
        each_player = partial(_each_player, num_players=conditions.has_actions.shape[1])
        return self.instructnet.expect(
            frame_before,
            _fold(conditions.actions),
            _fold(conditions.has_actions),
            each_player(conditions.instruction),
            each_player(conditions.instruction_mask),
            each_player(conditions.is_instructed),
            None if conditions.state is None else _fold(conditions.state),
            None if conditions.has_state is None else each_player(conditions.has_state),
        )

    def temporal_attentions(self) -> list[SelfAttention]:
        """Those that a memory of past frames holds keys and values of, in the order in which a pass calls them."""
        steering = [] if self.instructnet is None else [each.block for each in self.instructnet.blocks]
        blocks = cast(list[Block], [*steering, *self.msdit.blocks])
        return [block.attention for block in blocks if block.temporal]

    def _company(self, conditions: Conditions, num_frames: int, num_tokens: int) -> Company | None:
        """Who sees whom; None for a single player, and where the networks do not mix players."""
        num_clips, num_players = conditions.has_actions.shape
        if self.num_slots is None or num_players == 1:
            return None
        if num_players > self.num_slots:
            raise ValueError(f"these networks have slots for {self.num_slots} players, got {num_players}")
        is_player = conditions.is_player
        if is_player is None:
            is_player = torch.ones(num_clips, num_players, dtype=torch.bool, device=conditions.has_actions.device)
        return Company.of(is_player, conditions.near, conditions.seats, num_frames, num_tokens)


def _fold(value: Tensor) -> Tensor:
    """Players folded into the batch."""
    return rearrange(value, "b p ... -> (b p) ...")


def _each_player(value: Tensor, num_players: int) -> Tensor:
    """A clip's value for each of its players, folded into the batch."""
    return repeat(value, "b ... -> (b p) ...", p=num_players)
