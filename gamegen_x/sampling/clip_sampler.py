"""Clips from a prompt, first frames, keys, instructions and video prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from gamegen_x.diffusion.guidance import guided
from gamegen_x.diffusion.solvers import SOLVERS, ScalarVelocity, limited, solver_times
from gamegen_x.models.gamegen import Conditions
from gamegen_x.models.instructnet import actions_per_latent
from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.settings import SamplerSettings
from gamegen_x.schema.caption import Instruction


@dataclass(frozen=True)
class SampleRequest:
    """What `b` clips shall show, each of `p` views.

    `num_frames` counts all video frames, the `context` ones included. `actions` are the keys of all of them; None
    leaves the worlds to themselves. `instructions[i]` may change while clip i runs: the latest that has begun holds.
    """

    prompts: Sequence[str]
    num_frames: int
    seed: int
    num_players: int = 1
    actions: Float[Tensor, "b p t_video k"] | None = None
    context: Float[Tensor, "b p t_context 3 h_video w_video"] | None = None  # in [-1, 1]
    instructions: Sequence[Sequence[Instruction]] = field(default_factory=tuple)
    video_prompt: Float[Tensor, "b p t_video 3 h_video w_video"] | None = None  # in [-1, 1]
    use_instructnet: bool = True
    state: Float[Tensor, "b p t c_state h w"] | None = None  # of every latent frame, the last whole unit included
    near: Bool[Tensor, "b t p p"] | None = None  # who is near enough to see whom, latent frame by latent frame
    is_player: Bool[Tensor, "b p"] | None = None  # false for an empty seat; None: all are there


class ClipSampler:
    """Samples latents a block at a time, within a `window` of latents that holds what came before, and decodes them.

    At most `block` latent frames are denoised together: 1 for a causal model that plays on, the whole window for the
    paper's, of which later blocks are half.
    The first `instruction_latents` frames of an instruction are led by it as strongly as `instruction_guidance` says.
    """

    def __init__(self, networks: Networks, settings: SamplerSettings) -> None:
        self.networks = networks
        self.settings = settings
        self.solve = SOLVERS[settings.solver]
        self.times = solver_times(settings.num_steps, settings.shift)

    def with_solver(self, solver: str, num_steps: int) -> ClipSampler:
        """The same networks, sampled in other steps."""
        return ClipSampler(self.networks, replace(self.settings, solver=solver, num_steps=num_steps))

    @torch.inference_mode()
    def sample(
        self, request: SampleRequest, on_progress: Callable[[int, int], None] | None = None
    ) -> Float[Tensor, "b p t 3 h w"]:
        """The clips in [-1, 1], context first. The same request gives the same clips, whatever ran before.

        `on_progress` is told how many latent frames are done, and of how many.
        """
        self._check(request)
        networks, vae = self.networks, self.networks.vae
        num_clips, num_players = len(request.prompts), request.num_players
        num_frames = request.num_frames + -request.num_frames % vae.unit_frames  # the last unit is made whole, then cut
        num_latents = vae.num_latent_frames(num_frames)
        conditions = self._conditions(request, num_latents)
        latents = self._context(request)
        generator = torch.Generator().manual_seed(request.seed)
        noise = torch.randn(
            num_latents,  # frames first: a longer clip begins like a shorter one
            num_clips,
            num_players,
            vae.latent_channels,
            networks.height // vae.spatial_factor,
            networks.width // vae.spatial_factor,
            generator=generator,
        ).to(networks.device)
        spoken: tuple[Instruction | None, ...] = (None,) * num_clips
        while (done := latents.shape[2]) < num_latents:
            stop = min(done + self.block_after(done), num_latents)
            start = max(0, stop - self.settings.window)
            now = self._spoken_before(request, stop)
            if now != spoken:
                spoken, conditions = now, self._instructed(conditions, now)
            fresh = self._block(
                latents[:, :, start:],
                rearrange(noise[done:stop], "t b p c h w -> b p t c h w"),
                conditions.frames(start, stop),
                self._lead(now, done, stop),
                request.use_instructnet,
            )
            latents = torch.cat([latents, fresh], dim=2)
            if on_progress is not None:
                on_progress(stop, num_latents)
        video = networks.decode(rearrange(latents, "b p ... -> (b p) ..."), num_frames)[:, : request.num_frames]
        video = rearrange(video, "(b p) ... -> b p ...", p=num_players)
        if request.context is not None:
            video[:, :, : request.context.shape[2]] = request.context.to(video)
        return video

    def block_after(self, done: int) -> int:
        """How many latent frames come next: a clip that goes on sees at least half a window of what was."""
        window = self.settings.window
        return min(self.settings.block, window - min(done, window // 2))

    def _block(
        self,
        context: Float[Tensor, "b p t_context c h w"],
        noise: Float[Tensor, "b p t_new c h w"],
        conditions: Conditions,
        lead: float | Float[Tensor, "b 1 t_new 1 1 1"],
        use_instructnet: bool,
    ) -> Float[Tensor, "b p t_new c h w"]:
        """Denoises new latent frames beside clean context, which stands at time 1."""

        def led(asked: Conditions) -> ScalarVelocity:
            heard = self._velocity(context, asked, use_instructnet)
            unheard = self._velocity(context, asked.without_instruction(context.shape[2]), use_instructnet)
            return guided(heard, unheard, lead)

        velocity = guided(led(conditions), led(conditions.without_text()), self.settings.guidance)
        return limited(self.solve(velocity, noise, self.times), self.settings.limit)

    def _lead(
        self, spoken: Sequence[Instruction | None], start: int, stop: int
    ) -> float | Float[Tensor, "b 1 t 1 1 1"]:
        """How strongly each clip's instruction leads latent frames start to stop; 1 where nobody is led."""
        length, coding = self.settings.instruction_latents, self.networks.vae.coding
        is_led = torch.tensor(
            [
                [
                    one is not None and 0 <= latent - coding.latent_of(one.frame) < length
                    for latent in range(start, stop)
                ]
                for one in spoken
            ]
        )
        if self.settings.instruction_guidance == 1 or not is_led.any():
            return 1.0
        scales = torch.where(is_led, self.settings.instruction_guidance, 1.0).to(self.networks.device)
        return rearrange(scales, "b t -> b 1 t 1 1 1")

    def _velocity(
        self, context: Float[Tensor, "b p t_context c h w"], conditions: Conditions, use_instructnet: bool
    ) -> ScalarVelocity:
        """The velocity of new frames after this context. A causal model looks at the context once, for all steps."""
        model, num_context = self.networks.model, context.shape[2]
        past: PastFrames | None = None

        def cached(latents: Tensor, now: float) -> Tensor:
            nonlocal past
            if past is None:
                past = PastFrames()
                model(
                    context,
                    context.new_ones(context.shape[:3]),
                    conditions.frames(0, num_context),
                    use_instructnet,
                    past,
                )
                past.freeze()
            time = latents.new_full(latents.shape[:3], now)
            return model(latents, time, conditions.frames(num_context, None), use_instructnet, past)

        def whole(latents: Tensor, now: float) -> Tensor:
            everything = torch.cat([context, latents], dim=2)
            time = everything.new_ones(everything.shape[:3])
            time[:, :, num_context:] = now
            return model(everything, time, conditions, use_instructnet)[:, :, num_context:]

        return cached if model.msdit.causal and num_context else whole

    def _context(self, request: SampleRequest) -> Float[Tensor, "b p t c h w"]:
        networks = self.networks
        if request.context is None:
            size = (networks.height // networks.vae.spatial_factor, networks.width // networks.vae.spatial_factor)
            empty = (len(request.prompts), request.num_players, 0, networks.vae.latent_channels, *size)
            return torch.zeros(empty, device=networks.device)
        context = rearrange(request.context.to(networks.device), "b p ... -> (b p) ...")
        return rearrange(networks.encode(context), "(b p) ... -> b p ...", p=request.num_players)

    def _conditions(self, request: SampleRequest, num_latents: int) -> Conditions:
        networks = self.networks
        device, num_clips, num_players = networks.device, len(request.prompts), request.num_players
        frames_per_latent = networks.vae.temporal_factor
        text, text_mask = networks.text_encoder.encode(list(request.prompts))
        if request.actions is None:
            shape = (num_clips, num_players, num_latents, frames_per_latent, networks.action_space.num_keys)
            actions = torch.zeros(shape)
        else:
            flat = rearrange(request.actions.float(), "b p t k -> (b p) t k")
            missing = -flat.shape[1] % networks.vae.unit_frames
            flat = torch.nn.functional.pad(flat, (0, 0, 0, missing))
            actions = actions_per_latent(flat, networks.vae.coding)
            actions = rearrange(actions, "(b p) ... -> b p ...", p=num_players)
        prompt = None
        if request.video_prompt is not None:
            flat = rearrange(request.video_prompt.to(device), "b p ... -> (b p) ...")
            missing = -flat.shape[1] % networks.vae.unit_frames
            flat = networks.encode(torch.cat([flat, flat[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1))
            prompt = rearrange(flat, "(b p) ... -> b p ...", p=num_players)
        silence, silence_mask = networks.text_encoder.encode([""] * num_clips)
        return Conditions(
            text=text.float(),  # a pretrained encoder may speak bfloat16
            text_mask=text_mask,
            fps=torch.full((num_clips,), networks.fps, device=device),
            num_frames=torch.full(
                (num_clips,), float(self._told_latents(num_latents) * frames_per_latent), device=device
            ),
            actions=actions.to(device),
            has_actions=torch.full((num_clips, num_players), request.actions is not None, device=device),
            instruction=silence.float(),
            instruction_mask=silence_mask,
            is_instructed=torch.zeros(num_clips, num_latents, dtype=torch.bool, device=device),
            video_prompt=prompt,
            has_prompt=torch.full((num_clips,), prompt is not None, device=device),
            is_player=None if request.is_player is None else request.is_player.to(device),
            near=None if request.near is None else request.near.to(device),
            state=None if request.state is None else request.state.to(device, torch.float32),
        )

    def _told_latents(self, num_latents: int) -> int:
        """How long a clip is said to be. A causal model is told its window, since it does not know when a clip ends."""
        window = self.settings.window
        return window if self.networks.model.msdit.causal else min(window, num_latents)

    def _spoken_before(self, request: SampleRequest, latent: int) -> tuple[Instruction | None, ...]:
        """The latest instruction of each clip that begins before a latent frame."""
        spoken = request.instructions or [()] * len(request.prompts)
        begun = ([one for one in each if self.networks.vae.coding.latent_of(one.frame) < latent] for each in spoken)
        return tuple(max(each, key=lambda one: one.frame, default=None) for each in begun)

    def _instructed(self, conditions: Conditions, spoken: Sequence[Instruction | None]) -> Conditions:
        """Conditions under these instructions, each in force from its own latent frame to the end."""
        tokens, mask = self.networks.text_encoder.encode([one.text if one else "" for one in spoken])
        is_instructed = torch.zeros_like(conditions.is_instructed)
        for i, one in enumerate(spoken):
            if one is not None:
                is_instructed[i, self.networks.vae.coding.latent_of(one.frame) :] = True
        return replace(conditions, instruction=tokens.float(), instruction_mask=mask, is_instructed=is_instructed)

    def _check(self, request: SampleRequest) -> None:
        networks = self.networks
        num_clips, num_players = len(request.prompts), request.num_players
        if num_clips == 0 or request.num_frames < 1:
            raise ValueError("a request needs at least one prompt (it may be empty) and one frame")
        if request.actions is not None:
            expected = (num_clips, num_players, request.num_frames, networks.action_space.num_keys)
            if tuple(request.actions.shape) != expected:
                raise ValueError(f"actions have shape [b p t k] = {expected}, got {tuple(request.actions.shape)}")
            if not torch.isfinite(request.actions.float()).all():
                raise ValueError("actions hold NaN or infinity; a key is held (1) or not (0)")
        for name, video in (("context", request.context), ("video_prompt", request.video_prompt)):
            if video is None:
                continue
            expected_size = (num_clips, num_players, 3, networks.height, networks.width)
            if (*video.shape[:2], *video.shape[3:]) != expected_size:
                raise ValueError(
                    f"{name} is [b p t 3 h w] with b, p, 3, h, w = {expected_size}, got {tuple(video.shape)}; "
                    f"these weights make {networks.height}x{networks.width} video"
                )
        if request.context is not None:
            num_context, coding = request.context.shape[2], networks.vae.coding
            is_whole = coding.ends_a_latent(num_context)
            if num_context >= request.num_frames or not is_whole:
                ends = (n for n in count(1) if coding.ends_a_latent(n))
                first = ", ".join(str(n) for n in islice(ends, 6))
                raise ValueError(
                    f"context ends with a latent frame, so it has {first}, ... frames, and is shorter than "
                    f"num_frames = {request.num_frames}, got {num_context} frames"
                )
        self._check_players(request)
        if request.instructions and len(request.instructions) != num_clips:
            raise ValueError(f"instructions are one list a clip: {num_clips} lists, got {len(request.instructions)}")

    def _check_players(self, request: SampleRequest) -> None:
        """Who is there, who sees whom, and what the world's state is."""
        networks, model = self.networks, self.networks.model
        num_clips, num_players = len(request.prompts), request.num_players
        if model.num_slots is not None and num_players > model.num_slots:
            raise ValueError(f"these weights have slots for {model.num_slots} players, got {num_players}")
        num_frames = request.num_frames + -request.num_frames % networks.vae.unit_frames
        num_latents = networks.vae.num_latent_frames(num_frames)
        size = (networks.height // networks.vae.spatial_factor, networks.width // networks.vae.spatial_factor)
        state_channels = model.msdit.state_channels
        if request.state is not None and state_channels is None:
            raise ValueError("these weights are told no state; leave it out")
        for name, value, expected in (
            ("is_player", request.is_player, (num_clips, num_players)),
            ("near", request.near, (num_clips, num_latents, num_players, num_players)),
            ("state", request.state, (num_clips, num_players, num_latents, state_channels, *size)),
        ):
            if value is not None and tuple(value.shape) != expected:
                raise ValueError(f"{name} has shape {expected}, got {tuple(value.shape)}")
        if request.state is not None and not torch.isfinite(request.state).all():
            raise ValueError("the state holds NaN or infinity")
