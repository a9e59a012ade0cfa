"""FlowTask: what the stages of the flow share: encode, noise, predict, compare."""

# ruff: noqa: ARG002  (not every task looks at everything)

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gamegen_x.data.batch import Batch
from gamegen_x.diffusion.flow import data_at_end, flow_matching_loss, point_on_flow, surprise
from gamegen_x.diffusion.time_sampling import FrameTimes
from gamegen_x.models.gamegen import Conditions, GameGenX
from gamegen_x.models.instructnet import actions_per_latent
from gamegen_x.models.layers.expectation import Expectation
from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.models.text_encoder import TextEncoder
from gamegen_x.models.vae import VideoVAE
from gamegen_x.training.player_weight import check_player_weight, player_weight
from gamegen_x.training.randomness import Moment
from gamegen_x.training.task import Task
from gamegen_x.training.text_cache import TextCache

# purposes of random draws
NOISE, TIMES, TEXT_DROP, CONTROLS, CONTEXT_NOISE, CONTEXT_NOISE_LEVEL, OWN_NOISE, OWN_TIMES = range(8)
STATE_DROP, SEATS, OVERDUE, OWN_CLIPS, MADE_NOISE = 8, 9, 10, 11, 12
Tokens = tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]


@dataclass(frozen=True)
class ShownPast:
    """What a causal model is shown as the past of every frame (teacher forcing), as it will be when it plays.

    A share of the clips is shown what the model itself makes of them in one step from a time between `own_times`: a
    past as blurred as the one that it will stand on after a while of play (resampled past, after Guo et al. 2025). A
    `played_share` is shown what a model made of them where it played them along from far before (`data.play_along`):
    what gathers over seconds of play is put right then, for what follows is the truth (after Ross et al. 2011, DAgger).

    With `own_passes` above 1 what the model made is in turn the past of what it makes: after so many passes over all
    frames at once a frame stands on as many of the model's own (a rollout by Jacobi iteration; Self-Forcing, Huang et
    al. 2025, makes the same frame by frame).
    """

    own_share: float
    own_times: Sequence[float]  # from, to
    own_passes: int
    played_share: float

    def __post_init__(self) -> None:
        low, high = self.own_times
        if not (0 <= self.own_share <= 1 and 0 <= low <= high <= 1):
            raise ValueError(
                f"own_share is a share and own_times are two times between 0 and 1, got {self.own_share} and "
                f"{list(self.own_times)}"
            )
        if self.own_passes < 1:
            raise ValueError(f"own_passes is at least 1, got {self.own_passes}")
        if self.played_share < 0 or self.own_share + self.played_share > 1 + 1e-9:  # .8 and .2 are 1 and a rounding
            raise ValueError(
                f"played_share and own_share are shares of the same clips, at least 0 and at most 1 together, got "
                f"{self.played_share} and {self.own_share}"
            )


class FlowTask(Task):
    """Rectified flow on the latents of a frozen autoencoder, given texts of which a share is dropped.

    With `past` every frame of a clip is learned after a past of its own; without, noisy frames stand beside each other
    and context frames beside them.
    """

    def __init__(
        self,
        *,
        vae: VideoVAE,
        text_encoder: TextEncoder,
        model: GameGenX,
        latent_scale: float,
        latent_shift: float,
        draw_times: Callable[[int, int, int, int, torch.Generator], FrameTimes],
        past: ShownPast | None,
        text_drop: float,
        text_cache: TextCache | None,
        state_drop: float,
        player_weight: float,
        gradient_checkpointing: bool,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if not 0 <= text_drop <= 1:
            raise ValueError(f"text_drop is a share between 0 and 1, got {text_drop}")
        if not 0 <= state_drop <= 1:
            raise ValueError(f"state_drop is a share between 0 and 1, got {state_drop}")
        check_player_weight(player_weight)
        if text_cache is not None and any(weight.requires_grad for weight in text_encoder.parameters()):
            raise ValueError("the embeddings of a text encoder that is trained change; set task.text_cache=null")
        if past is not None and not model.msdit.causal:
            raise ValueError("task.past teaches causal models; set task.past=null, or msdit.causal=true")
        if past is not None and gradient_checkpointing:
            raise ValueError(
                "a pass that looks at a past of its own cannot be run again; set task.gradient_checkpointing=false, or "
                "past=null"
            )
        for network in (model.msdit, model.instructnet):
            if network is not None:
                network.gradient_checkpointing = gradient_checkpointing
        self.vae = vae.requires_grad_(False).eval()
        self.text_encoder = text_encoder
        self.text_cache = text_cache
        self.model = model
        self.latent_scale = latent_scale
        self.latent_shift = latent_shift
        self.draw_times = draw_times
        self.past = past
        self.text_drop = text_drop
        self.state_drop = state_drop
        self.player_weight = player_weight

    def networks(self) -> dict[str, nn.Module]:
        found = {"vae": self.vae, "text_encoder": self.text_encoder, "msdit": self.model.msdit}
        return found if self.model.instructnet is None else found | {"instructnet": self.model.instructnet}

    def latent_normalisation(self) -> tuple[float, float]:
        return self.latent_shift, self.latent_scale

    @abstractmethod
    def conditions(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Conditions:
        """What the clips of a batch are asked to follow."""

    def losses(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        latents = self.latents(batch)
        num_frames = latents.shape[2]
        time, is_generated = self.times(latents, moment)
        point = point_on_flow(latents, moment.noise_like(latents, NOISE), time)
        conditions = self.conditions(batch, num_frames, moment)
        if self.past is None:
            seen, is_noisy = point.latents, is_generated
        else:
            seen, is_noisy = self.shown_past(batch, latents, conditions, moment), torch.zeros_like(is_generated)
        shown = self.blur_context(seen, is_noisy, moment)
        expected = self.model.expect(shown, conditions)
        given = None if expected is None else expected.detach()
        if self.past is None:
            velocity = self.model(shown, time, conditions, expected=given)
        else:
            velocity = after_past(self.model, shown, point.latents, time, conditions, given)
        counted = is_generated & batch.is_player[:, :, None] & self.learned_frames(batch, num_frames, moment)[:, None]
        weight = player_weight(batch, self.player_weight)
        flow = flow_matching_loss(velocity, point.velocity, counted, weight)
        if expected is None:
            return {"loss": flow}
        surprised = surprise_at(latents, expected, counted, weight)
        return {"loss": flow + surprised, "flow": flow, "surprise": surprised}

    def times(
        self, latents: Float[Tensor, "b p t c h w"], moment: Moment
    ) -> tuple[Float[Tensor, "b p t"], Bool[Tensor, "b p t"]]:
        """When every frame stands, and which are generated. Who see each other are sampled together."""
        num_clips, num_players, num_frames, _, height, width = latents.shape
        shared_by = 1 if self.model.num_slots is None else num_players
        drawn = self.draw_times(
            num_clips * num_players // shared_by, num_frames, height, width, moment.generator(TIMES)
        )
        time, is_generated = (
            rearrange(value.repeat_interleave(shared_by, 0), "(b p) t -> b p t", p=num_players).to(self.device)
            for value in (drawn.time, drawn.is_generated)
        )
        return time, is_generated

    @torch.no_grad()
    def shown_past(
        self, batch: Batch, latents: Float[Tensor, "b p t c h w"], conditions: Conditions, moment: Moment
    ) -> Float[Tensor, "b p t c h w"]:
        """The latents; the first clips' as the model makes them, the last ones' as they were played.

        Clips of a batch have no order.
        """
        assert self.past is not None
        own, played = self.past.own_share, self.past.played_share
        num_own = moment.part_of(len(latents), own, OWN_CLIPS)
        num_played = moment.part_of(len(latents), own + played, OWN_CLIPS) - num_own
        if played and batch.played is None:
            raise ValueError(f"past.played_share={played}, but nobody played these clips along: see data.play_along")
        if num_played:
            assert batch.played is not None
            latents = torch.cat([latents[:-num_played], batch.played[-num_played:].float()])
        return latents if num_own == 0 else self.own_past(latents, num_own, conditions, moment)

    @torch.no_grad()
    def own_past(
        self, latents: Float[Tensor, "b p t c h w"], num_own: int, conditions: Conditions, moment: Moment
    ) -> Float[Tensor, "b p t c h w"]:
        """The first `num_own` clips as the model makes them in one step, each pass after the past made by the last."""
        assert self.past is not None
        own = latents[:num_own]
        low, high = self.past.own_times
        clips, players, frames = own.shape[:3]
        shape = (clips, players) if self.model.num_slots is None else (clips, 1)  # who see each other do so together
        drawn = torch.rand(shape, generator=moment.generator(OWN_TIMES)).to(own.device).expand(clips, players)
        time = repeat(low + (high - low) * drawn, "b p -> b p t", t=frames)
        point = point_on_flow(own, moment.noise_like(own, OWN_NOISE), time)
        for _ in range(self.past.own_passes):
            velocity = after_past(self.model, own, point.latents, time, conditions.clips(num_own))
            own = data_at_end(point.latents, velocity.float(), time)
        return torch.cat([own, latents[num_own:]])

    def blur_context(
        self, latents: Float[Tensor, "b p t c h w"], is_generated: Bool[Tensor, "b p t"], moment: Moment
    ) -> Float[Tensor, "b p t c h w"]:
        """What the network is shown. Context frames are clean unless a task says otherwise."""
        return latents

    def learned_frames(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Bool[Tensor, "b t"]:
        """Latent frames that say what is asked. All of them, unless a task says otherwise."""
        return torch.ones(len(batch), num_latent_frames, dtype=torch.bool, device=self.device)

    @torch.no_grad()
    def latents(self, batch: Batch) -> Float[Tensor, "b p t c h w"]:
        if batch.latents is not None:
            return batch.latents.float()
        assert batch.video is not None
        return self.encode(batch.video)

    @torch.no_grad()
    def encode(self, video: Float[Tensor, "b p t_video 3 h_video w_video"]) -> Float[Tensor, "b p t c h w"]:
        mean = self.vae.encode(rearrange(video, "b p ... -> (b p) ...")).mean.float()
        normal = (mean - self.latent_shift) * self.latent_scale
        return rearrange(normal, "(b p) ... -> b p ...", p=video.shape[1])

    def tokens(self, texts: list[str]) -> Tokens:
        """Encodes each text once, however often it occurs."""
        different = list(dict.fromkeys(texts))
        if self.text_cache is None:
            tokens, mask = self.text_encoder(different)
        else:
            tokens, mask = (part.to(self.device) for part in self.text_cache.encode(different, self.text_encoder))
        rows = torch.tensor([different.index(text) for text in texts], device=tokens.device)
        return tokens[rows].float(), mask[rows]  # a pretrained encoder may speak bfloat16

    def captions(self, batch: Batch, moment: Moment) -> Tokens:
        """Captions, a share of them dropped, so that sampling can be guided."""
        tokens, mask = self.tokens(batch.captions)
        kept = torch.rand(len(batch), generator=moment.generator(TEXT_DROP)) >= self.text_drop
        return tokens, mask & kept.to(mask.device)[:, None]

    def uncontrolled(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Conditions:
        """Conditions of which only the text says anything."""
        text, text_mask = self.captions(batch, moment)
        num_clips, num_players = batch.is_player.shape
        frames_per_latent = self.vae.temporal_factor
        actions = rearrange(batch.actions, "b p t k -> (b p) t k")
        if batch.latents is None:
            actions = actions_per_latent(actions, self.vae.coding)
        else:  # the rows of cached latents are in order already
            actions = rearrange(actions, "bp (t f) k -> bp t f k", f=frames_per_latent)
        nothing = torch.zeros(num_clips, dtype=torch.bool, device=self.device)
        return Conditions(
            text=text,
            text_mask=text_mask,
            fps=batch.fps,
            num_frames=torch.full_like(batch.fps, batch.actions.shape[2]),
            actions=rearrange(actions, "(b p) t f k -> b p t f k", p=num_players),
            has_actions=repeat(nothing, "b -> b p", p=num_players),
            instruction=torch.zeros_like(text),
            instruction_mask=torch.zeros_like(text_mask),
            is_instructed=repeat(nothing, "b -> b t", t=num_latent_frames),
            video_prompt=None,
            has_prompt=nothing,
            is_player=batch.is_player,
            near=batch.near,
            seats=self._seats(num_clips, num_players, moment),
            **self._state(batch, moment),
        )

    def _seats(self, num_clips: int, num_players: int, moment: Moment) -> Int[Tensor, "b p"] | None:
        """Who sits where, by chance, where the networks are to be fair to all seats."""
        if not self.model.seats_are_drawn or self.model.num_slots is None:
            return None
        chances = torch.rand(num_clips, self.model.num_slots, generator=moment.generator(SEATS))
        return chances.argsort(dim=1)[:, :num_players].to(self.device)

    def _state(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """The drawn state, of which a share of the clips is told nothing."""
        if self.model.msdit.embed_state is None:
            return {}
        if batch.state is None:
            raise ValueError(
                "msdit has state_channels, but the data draws no state; choose state=poses or state=map, or "
                "msdit.state_channels=null"
            )
        kept = torch.rand(len(batch), generator=moment.generator(STATE_DROP)) >= self.state_drop
        return {"state": batch.state, "has_state": kept.to(self.device)}


def after_past(
    model: GameGenX,
    shown: Float[Tensor, "b p t c h w"],
    latents: Float[Tensor, "b p t c h w"],
    time: Float[Tensor, "b p t"],
    conditions: Conditions,
    expected: Expectation | None = None,  # of every frame; None: found on the way
) -> Float[Tensor, "b p t c h w"]:
    """The velocity of every frame, each after the frames of `shown` before it, which stand at time 1."""
    past = PastFrames(is_beside=True)
    before, num_before = shown[:, :, :-1], shown.shape[2] - 1
    model(
        before,
        torch.ones_like(time[:, :, :-1]),
        conditions.frames(0, num_before),
        past=past,
        expected=None if expected is None else expected.frames(0, num_before),
    )
    past.freeze()
    return model(latents, time, conditions, past=past, expected=expected)


def surprise_at(
    latents: Float[Tensor, "b p t c h w"],
    expected: Expectation,  # players folded into the batch
    counted: Bool[Tensor, "b p t"],
    weight: Float[Tensor, "b p t #c h w"] | None,
) -> Float[Tensor, ""]:
    """How little every player's latents were expected."""
    return surprise(
        rearrange(latents, "b p ... -> (b p) ..."),
        expected.mean,
        expected.deviation,
        rearrange(counted, "b p t -> (b p) t"),
        None if weight is None else rearrange(weight, "b p ... -> (b p) ..."),
    )
