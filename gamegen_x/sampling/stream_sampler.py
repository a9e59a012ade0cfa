"""StreamSampler: worlds that run on and on, a latent frame a step, many in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from einops import repeat
from jaxtyping import Float, UInt8
from torch import Tensor

from gamegen_x.diffusion.guidance import guided
from gamegen_x.diffusion.solvers import SOLVERS, ScalarVelocity, limited, solver_times
from gamegen_x.models.gamegen import Conditions
from gamegen_x.models.instructnet import actions_per_latent
from gamegen_x.models.layers.kv_cache import WindowPast
from gamegen_x.models.vae import DecoderStream
from gamegen_x.sampling.live_networks import PRECISIONS, live_model, live_vae, picture_unit
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.noise import MAX_COUNTER, noise_at
from gamegen_x.sampling.settings import SamplerSettings
from gamegen_x.sampling.stream import Standing, Stream, Words
from gamegen_x.sampling.stream_batch import Layout, StreamBatch, conditions_of, passes
from gamegen_x.sampling.truth import Told, Truth
from gamegen_x.schema.trace import MAX_PLAYERS
from gamegen_x.schema.weights_folder import DISTILLED

STREAMED_KINDS = ("causal", DISTILLED)


class StreamSampler:
    """Holds the networks and how to sample them; what a world remembers is in its Stream, nothing is kept here.

    A step denoises one latent frame of every player against a frozen past, then commits: one more pass, over the clean
    frame at time 1, makes the keys and values that later frames see. So a frame's past is what it was when it was made,
    and the model sees a sliding window of `window` latent frames in each of its temporal attentions.

    For `instruction_latents` steps an instruction leads as strongly as `instruction_guidance` says, which costs one
    more pass for each of the solver's. With `uses_small_decoder` pictures come from the weights' small decoder, where
    they have one. A pass of the networks costs about as much as `pass_players` more players in it would: that decides
    which streams go together.
    """

    def __init__(
        self,
        networks: Networks,
        settings: SamplerSettings,
        *,
        num_slots: int,
        undo_ticks: int,
        precision: str,
        uses_small_decoder: bool,
        pass_players: float,
    ) -> None:
        if networks.kind not in STREAMED_KINDS or not networks.model.msdit.causal:
            raise ValueError(
                f"a stream needs weights whose kind is one of {list(STREAMED_KINDS)}, these are {networks.kind!r}; "
                "use ClipSampler for them, or train causal ones (msdit=tiny)"
            )
        if networks.vae.chunk_frames is not None:
            raise ValueError(
                f"a stream needs a VAE that codes without chunks, this one has chunk_frames={networks.vae.chunk_frames}"
            )
        if settings.block != 1 or settings.window < 2:
            raise ValueError(
                "a stream makes block = 1 latent frame a step in a window of 2 or more, "
                f"got {settings.block} and {settings.window}"
            )
        if not 1 <= num_slots <= MAX_PLAYERS or undo_ticks < 0:
            raise ValueError(
                f"need 1 <= num_slots <= {MAX_PLAYERS} and undo_ticks >= 0, got {num_slots} and {undo_ticks}"
            )
        if pass_players < 0:
            raise ValueError(f"pass_players is at least 0, got {pass_players}")
        if precision not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}, expected one of {list(PRECISIONS)}")
        self.networks = networks
        self.settings = settings
        self.model = live_model(networks.model, PRECISIONS[precision])
        small = networks.small_decoder if uses_small_decoder else None
        self.vae = live_vae(networks.vae if small is None else networks.vae.with_decoder(small), PRECISIONS[precision])
        self.solve = SOLVERS[settings.solver]
        self.times = solver_times(settings.num_steps, settings.shift)
        self.pass_players = pass_players
        self.num_slots = num_slots
        self.undo_ticks = undo_ticks
        size = (networks.height // networks.vae.spatial_factor, networks.width // networks.vae.spatial_factor)
        self.latent_shape = (networks.vae.latent_channels, *size)
        channels = networks.model.msdit.state_channels
        self.state_shape = None if channels is None else (channels, *size)
        self.layout = Layout(
            num_heads=tuple(each.num_heads for each in self.model.temporal_attentions()),
            num_lanes=1 if settings.guidance == 1 else 2,
            fps=networks.fps,
            num_frames=float(settings.window * networks.vae.temporal_factor),
            dtype=PRECISIONS[precision],
            device=networks.device,
        )

    @torch.inference_mode()
    def start(
        self,
        prompt: str,
        session: int,
        num_players: int,
        context: Float[Tensor, "p t 3 h_video w_video"] | None = None,
        actions: Float[Tensor, "p t k"] | None = None,
        told: Told | None = None,
        truth: Truth | None = None,
    ) -> Stream:
        """A new world with its first players in slots 0, 1, ..., who have seen the context frames (in [-1, 1]), if any.

        `actions` are the keys of the context, `told` its state. The session is the seed of everything that will happen.
        `truth` is the world at the last frame of the context: every step takes it on by the keys and tells it.
        """
        if not 1 <= num_players <= self.num_slots:
            raise ValueError(f"a stream has 1 to {self.num_slots} players (its slots), got {num_players}")
        if not 0 <= session <= MAX_COUNTER:
            raise ValueError(f"a session is a whole number from 0 to 2**64 - 1, got {session}")
        self._check_context(context, actions, num_players)
        self._check_told_context(told, context)
        if truth is not None and (self.state_shape is None or truth.world.num_players > self.num_slots):
            raise ValueError(
                f"a truth is for weights that are told a state, and of at most {self.num_slots} players (the slots); "
                f"this one has {truth.world.num_players}, the weights' state has channels, height and width "
                f"{self.state_shape}"
            )
        stream = self._blank(session, self.num_slots, num_players, self._words(prompt, None))
        if context is not None:
            self._watch(stream, context, actions, told)
        stream.standing = replace(stream.standing, truth=truth)
        return Stream(session, stream.ring, stream.standing, self.undo_ticks)

    @torch.inference_mode()
    def step(
        self,
        streams: Sequence[Stream],
        actions: Sequence[Float[Tensor, "..."]],  # [p f k] each, of all slots
        told: Sequence[Told | None] | None = None,
        on_drawn: Callable[[int, UInt8[Tensor, "p f 3 h w"]], None] = lambda place, frames: None,  # noqa: ARG005
    ) -> list[UInt8[Tensor, "p f 3 h w"]]:
        """Advances every world by one latent frame. `actions` are the keys held at each of its video frames, by slot.

        `told` is for streams that step no truth of their own: what is true of this frame, from whoever knows.
        `on_drawn` gets each stream's place and frames as soon as they are drawn: before the model has taken them in,
        and before the streams of later passes. An empty slot's keys are not looked at and its frames are black. Where
        an argument is wrong ValueError is raised before any stream has changed, and says which one it was.
        """
        self._check_batch(streams, actions)
        news = self._news(streams, actions, told)
        running = [i for i, stream in enumerate(streams) if stream.slots]
        frames = [self._black(stream) for stream in streams]
        for i, stream in enumerate(streams):
            if not stream.slots:
                on_drawn(i, frames[i])
        for part in passes([len(streams[i].slots) for i in running], self.pass_players):
            chosen = [running[i] for i in part]
            batch = StreamBatch([streams[i] for i in chosen], self.layout)
            keys = batch.gather([actions[i] for i in chosen])
            conditions = batch.conditions(keys, has_actions=True, told=[news[i][1] for i in chosen])
            latents = self.denoise(batch, conditions)
            for i, slots, made in zip(chosen, batch.columns, self.decode(batch, latents), strict=True):
                frames[i][slots] = made[: len(slots)].cpu()
                on_drawn(i, frames[i])
            self.commit(batch, latents, conditions)
        for stream, (truth, _) in zip(streams, news, strict=True):
            stream.end_tick(replace(stream.standing, tick=stream.tick + 1, truth=truth))
        return frames

    def denoise(self, batch: StreamBatch, conditions: Conditions) -> Float[Tensor, "b p c h w"]:
        """The next clean latent frames. Streams stay as they are."""

        def looked(past: WindowPast, asked: Conditions) -> ScalarVelocity:
            return lambda latents, now: self._look(past, latents, now, asked)

        lead = batch.lead(self.settings.instruction_guidance, self.settings.instruction_latents)
        unheard = looked(batch.past.under_other_conditions(), conditions.without_instruction(0))
        led = guided(looked(batch.past, conditions), unheard, lead)

        def velocity(latents: Tensor, now: float) -> Tensor:
            made = led(latents, now)
            if self.layout.num_lanes == 1:
                return made
            with_prompt, without = made.chunk(2)
            return with_prompt + (self.settings.guidance - 1) * (with_prompt - without)

        noise = batch.gather(
            [
                torch.stack(
                    [
                        noise_at(stream.session, stream.tick, slot, 0, self.latent_shape)
                        for slot in range(stream.num_slots)
                    ]
                )
                for stream in batch.streams
            ]
        )
        return limited(self.solve(velocity, noise.to(self.layout.device), self.times), self.settings.limit)

    def commit(self, batch: StreamBatch, latents: Float[Tensor, "b p c h w"], conditions: Conditions) -> None:
        """Shows the model the clean frames once, and keeps what later frames shall see of them."""
        self._look(batch.past, latents, 1.0, conditions)
        batch.commit(latents)

    def decode(
        self, batch: StreamBatch, latents: Float[Tensor, "b p c h w"]
    ) -> UInt8[Tensor, "b p f 3 h_video w_video"]:
        """Pixels of the new frames; the streams' decoders go on."""
        num_parts = len(batch.streams[0].standing.decoder)
        past = [batch.gather([stream.standing.decoder[i] for stream in batch.streams]) for i in range(num_parts)]
        after, video = self._decoded([part.flatten(0, 1) for part in past], latents.flatten(0, 1))
        for i, (stream, slots) in enumerate(zip(batch.streams, batch.columns, strict=True)):
            decoder = []
            for old, new in zip(stream.standing.decoder, after, strict=True):
                changed = old.clone()
                changed[slots] = new.unflatten(0, latents.shape[:2])[i, : len(slots)]
                decoder.append(changed)
            stream.standing = replace(stream.standing, decoder=tuple(decoder))
        return video.unflatten(0, latents.shape[:2])

    @torch.inference_mode()
    def instruct(self, stream: Stream, instruction: str | None) -> None:
        """From the next step on the world is asked to follow this sentence, or none. Its truth hears it, too."""
        standing = stream.standing
        truth = standing.truth
        if truth is not None and instruction:
            truth = truth.told(instruction)
        words = replace(self._instructed(standing.words, instruction), since=stream.tick)
        stream.standing = replace(standing, words=words, truth=truth)

    @torch.inference_mode()
    def join(
        self,
        stream: Stream,
        slot: int,
        context: Float[Tensor, "t 3 h_video w_video"] | None = None,
        actions: Float[Tensor, "t k"] | None = None,
        told: Told | None = None,  # of this player's view only
    ) -> None:
        """Seats a player in an empty slot, who has seen these frames, or nothing. Nobody else notices."""
        if not 0 <= slot < stream.num_slots or slot in stream.slots:
            empty = sorted(set(range(stream.num_slots)) - set(stream.slots))
            raise ValueError(f"slot {slot} is not free; the empty slots of this stream are {empty}")
        seen = None if context is None else context[None]
        keys = None if actions is None else actions[None]
        self._check_context(seen, keys, 1)
        self._check_told_context(told, seen)
        self._seat(stream, slot, True)
        if seen is not None:
            alone = self._blank(stream.session, 1, 1, stream.standing.words)
            self._watch(alone, seen, keys, told)
            self._copy(alone, stream, slot)

    def leave(self, stream: Stream, slot: int) -> None:
        """Frees a player's slot. Nobody else notices."""
        if slot not in stream.slots:
            raise ValueError(f"nobody holds slot {slot}; the players of this stream hold {stream.slots}")
        self._seat(stream, slot, False)

    def reset_context(self, stream: Stream, slots: Sequence[int] | None = None) -> None:
        """Forgets the past of these players, or of all: a view was cut, and the next frame follows from nothing."""
        chosen = stream.slots if slots is None else list(slots)
        strangers = sorted(set(chosen) - set(stream.slots))
        if strangers:
            raise ValueError(f"nobody holds slots {strangers}; the players of this stream hold {stream.slots}")
        stream.forget(chosen)

    def rewind(self, stream: Stream, ticks: int) -> None:
        """See Stream.rewind: the same steps taken again give the same bits."""
        stream.rewind(ticks)

    def check(self, stream: Stream, actions: Float[Tensor, "..."]) -> None:
        """Raises ValueError where a stream cannot be stepped with these actions."""
        expected = (stream.num_slots, self.networks.vae.temporal_factor, self.networks.action_space.num_keys)
        if tuple(actions.shape) != expected:
            raise ValueError(
                f"actions have shape [slots, video frames of a step, keys] = {expected}, got {tuple(actions.shape)}; "
                f"the keys are {list(self.networks.action_space.keys)}"
            )
        if not ((actions >= 0) & (actions <= 1)).all():
            raise ValueError("actions hold NaN or numbers outside [0, 1]; a key is held (1) or not (0)")

    def _check_batch(self, streams: Sequence[Stream], actions: Sequence[Tensor]) -> None:
        if not streams or len(actions) != len(streams) or len({id(stream) for stream in streams}) != len(streams):
            raise ValueError(
                f"a step takes one or more different streams and actions for each, got {len(streams)} streams "
                f"({len({id(stream) for stream in streams})} different) and actions for {len(actions)}"
            )
        for i, (stream, keys) in enumerate(zip(streams, actions, strict=True)):
            try:
                self.check(stream, keys)
            except ValueError as mistake:
                raise ValueError(f"stream {i} of the batch: {mistake}") from None

    def _check_context(self, context: Tensor | None, actions: Tensor | None, num_players: int) -> None:
        if context is None:
            if actions is not None:
                raise ValueError("actions of a context came without the context; give both or neither")
            return
        networks, unit = self.networks, self.networks.vae.unit_frames
        expected = (num_players, 3, networks.height, networks.width)
        if context.ndim != 5 or (context.shape[0], *context.shape[2:]) != expected:
            raise ValueError(
                f"first frames are [p t 3 h w] with p, 3, h, w = {expected}, got {tuple(context.shape)}; "
                f"resize them, these weights make {networks.height}x{networks.width} video"
            )
        if context.shape[1] == 0 or context.shape[1] % unit or not torch.isfinite(context).all():
            raise ValueError(
                f"first frames are one or more whole units of {unit}, of finite numbers; got {context.shape[1]} frames"
            )
        shape = (num_players, context.shape[1], networks.action_space.num_keys)
        if actions is not None and (tuple(actions.shape) != shape or not torch.isfinite(actions.float()).all()):
            raise ValueError(f"actions of the first frames are finite [p t k] = {shape}, got {tuple(actions.shape)}")

    def _check_told_context(self, told: Told | None, context: Tensor | None) -> None:
        if told is None:
            return
        if context is None:
            raise ValueError("a told state came without the first frames that it is of; give both or neither")
        num_latents = context.shape[1] // self.networks.vae.temporal_factor
        self._check_told(told, len(context), num_latents)

    def _check_told(self, told: Told, most_players: int, num_latents: int) -> None:
        num_players = len(told.state)
        if self.state_shape is None:
            raise ValueError("these weights are told no state; leave it out")
        expected = (num_players, num_latents, *self.state_shape)
        if tuple(told.state.shape) != expected or not 1 <= num_players <= most_players:
            raise ValueError(
                f"a told state is [p t c h w] = {expected} with at most {most_players} players, "
                f"got {tuple(told.state.shape)}"
            )
        if told.near is not None and tuple(told.near.shape) != (num_latents, num_players, num_players):
            raise ValueError(
                f"who is near whom is [t p p] = {(num_latents, num_players, num_players)}, got {tuple(told.near.shape)}"
            )
        if not torch.isfinite(told.state).all():
            raise ValueError("the told state holds NaN or infinity")

    def _news(
        self, streams: Sequence[Stream], actions: Sequence[Tensor], told: Sequence[Told | None] | None
    ) -> list[tuple[Truth | None, Told | None]]:
        """The truth of each stream after this step, where it has one, and what is told of the step."""
        given = [None] * len(streams) if told is None else list(told)
        if len(given) != len(streams):
            raise ValueError(f"a step of {len(streams)} streams takes as many told states, got {len(given)}")
        for i, (stream, one) in enumerate(zip(streams, given, strict=True)):
            if one is not None and stream.standing.truth is not None:
                raise ValueError(f"stream {i} of the batch steps a truth of its own and cannot be told another")
            if one is not None:
                self._check_told(one, stream.num_slots, 1)
        return [
            (None, one) if stream.standing.truth is None else stream.standing.truth.after(_held(stream, keys))
            for stream, one, keys in zip(streams, given, actions, strict=True)
        ]

    def _look(self, past: WindowPast, latents: Tensor, now: float, conditions: Conditions) -> Tensor:
        """One pass over a latent frame `[b p c h w]` in all lanes: its velocity in float32."""
        frames = repeat(latents, "b p c h w -> (lanes b) p 1 c h w", lanes=self.layout.num_lanes)
        time = torch.full(frames.shape[:3], now, device=frames.device)
        return self.model(frames.to(self.layout.dtype), time, conditions, True, past)[:, :, 0].float()

    def _decoded(self, past: Sequence[Tensor], latents: Tensor) -> tuple[list[Tensor], Tensor]:
        """Rows `[n c h w]` after their past: what the decoder keeps, and pixels."""
        num_rows, missing = len(latents), -len(latents) % picture_unit()

        def filled(rows: Tensor) -> Tensor:
            return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows

        scaled = filled(latents / self.networks.latent_scale + self.networks.latent_shift).to(self.layout.dtype)
        after, video = self.vae.decode_next(DecoderStream(tuple(filled(part) for part in past)), scaled[:, None])
        pixels = ((video[:num_rows].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return [part[:num_rows] for part in after.past], pixels

    def _blank(self, session: int, num_slots: int, num_players: int, words: Words) -> Stream:
        """A stream that has seen nothing."""
        layout, patch = self.layout, self.model.msdit.patch
        dim = self.model.msdit.last.in_features
        num_tokens = self.latent_shape[1] // patch * (self.latent_shape[2] // patch)
        ring = torch.zeros(
            self.settings.window - 1, layout.num_lanes, len(layout.num_heads), 2, num_slots, num_tokens, dim,
            dtype=layout.dtype, device=layout.device,
        )  # fmt: skip
        silence = torch.zeros(num_slots, *self.latent_shape, device=layout.device)
        kept, _ = self._decoded([], silence)
        standing = Standing(
            tick=0,
            head=0,
            is_live=tuple(slot < num_players for slot in range(num_slots)),
            is_there=torch.zeros(num_slots, self.settings.window - 1, dtype=torch.bool),
            last=silence,
            decoder=tuple(torch.zeros_like(part) for part in kept),
            words=words,
            truth=None,
        )
        return Stream(session, ring, standing, undo_ticks=0)

    def _watch(self, stream: Stream, context: Tensor, actions: Tensor | None, told: Told | None) -> None:
        """Shows all players of a stream these video frames, one latent frame after another."""
        latents = self.networks.encode(context.to(self.layout.device))
        num_players, num_latents = latents.shape[:2]
        num_keys, num_inside = self.networks.action_space.num_keys, self.networks.vae.temporal_factor
        if actions is None:
            keys = torch.zeros(num_players, num_latents, num_inside, num_keys)
        else:
            keys = actions_per_latent(actions.float(), self.networks.vae.coding)
        for t in range(num_latents):
            batch = StreamBatch([stream], self.layout)
            conditions = batch.conditions(
                keys[None, :, t], has_actions=actions is not None, told=[None if told is None else told.frame(t)]
            )
            self.commit(batch, latents[None, :, t], conditions)
            self.decode(batch, latents[None, :, t])

    def _seat(self, stream: Stream, slot: int, is_live: bool) -> None:
        stream.forget([slot])
        lives = list(stream.standing.is_live)
        lives[slot] = is_live
        stream.standing = replace(stream.standing, is_live=tuple(lives))

    def _copy(self, alone: Stream, stream: Stream, slot: int) -> None:
        """Gives a slot the memory of a stream of one player, frames of equal age to equal age."""
        is_there = stream.standing.is_there.clone()
        for theirs, ours in zip(alone.age_order, stream.age_order, strict=True):
            if alone.standing.is_there[0, theirs]:
                stream.write(ours, [slot], alone.ring[theirs])
                is_there[slot, ours] = True
        parts = []
        for old, new in zip(stream.standing.parts, alone.standing.parts, strict=True):
            changed = old.clone()
            changed[slot] = new[0]
            parts.append(changed)
        stream.standing = replace(stream.standing, is_there=is_there, last=parts[0], decoder=tuple(parts[1:]))

    def _words(self, prompt: str, instruction: str | None) -> Words:
        text, text_mask = self.networks.text_encoder.encode([prompt])
        return self._instructed(Words(text, text_mask, text, text_mask, False), instruction)

    def _instructed(self, words: Words, instruction: str | None) -> Words:
        """Words under an instruction, read by the networks once for all steps to come."""
        tokens, mask = self.networks.text_encoder.encode([instruction or ""])
        words = replace(words, instruction=tokens, instruction_mask=mask, is_instructed=bool(instruction), read=None)
        layout, msdit = self.layout, self.model.msdit
        frames = torch.zeros(1, 1, *self.latent_shape, device=layout.device)
        num_keys = self.networks.action_space.num_keys
        keys = torch.zeros(
            layout.num_lanes,
            1,
            1,
            self.networks.vae.temporal_factor,
            num_keys,
            device=layout.device,
            dtype=layout.dtype,
        )
        conditions = conditions_of(
            [words], layout, keys, torch.zeros(layout.num_lanes, 1, dtype=torch.bool, device=layout.device)
        )
        num_rows = layout.num_lanes * (self.latent_shape[1] // msdit.patch) * (self.latent_shape[2] // msdit.patch)
        nothing = [
            (
                blank := torch.zeros(
                    num_rows, 0, heads, msdit.last.in_features // heads, dtype=layout.dtype, device=layout.device
                ),
                blank,
            )
            for heads in layout.num_heads
        ]
        past = WindowPast(nothing, torch.zeros(num_rows, 0, dtype=torch.bool, device=layout.device), None, None)
        self._look(past, frames, 1.0, conditions)
        return replace(words, read=tuple(past.heard))

    def _black(self, stream: Stream) -> UInt8[Tensor, "p f 3 h w"]:
        networks = self.networks
        shape = (stream.num_slots, networks.vae.temporal_factor, 3, networks.height, networks.width)
        return torch.zeros(shape, dtype=torch.uint8)


def _held(stream: Stream, actions: Tensor) -> Tensor:
    """The keys of all slots, where those of empty ones are not held."""
    is_live = torch.tensor(stream.standing.is_live, device=actions.device)
    return actions * is_live[:, None, None]
