"""StreamBatch: several streams of different player counts as the tensors of one pass, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from gamegen_x.models.gamegen import Conditions
from gamegen_x.models.layers.kv_cache import WindowPast
from gamegen_x.sampling.stream import Stream, Words
from gamegen_x.sampling.truth import Told


@dataclass(frozen=True)
class Layout:
    """What every stream of a sampler has in common."""

    num_heads: tuple[int, ...]  # of each temporal attention, in the order of calls
    num_lanes: int  # 2 with guidance: every world also without its prompt
    fps: float
    num_frames: float  # video frames of a window: what the model is told about length
    dtype: torch.dtype
    device: torch.device


class StreamBatch:
    """Streams side by side: `b` lanes times streams, `p` columns, as many as the fullest stream has players.

    Empty slots take no column, so they cost nothing; where another stream has more players the columns left over are
    filled with nothing and thrown away.
    """

    def __init__(self, streams: Sequence[Stream], layout: Layout) -> None:
        self.streams = list(streams)
        self.layout = layout
        self.columns = [stream.slots for stream in streams]
        self.num_columns = max(len(slots) for slots in self.columns)
        self.past = self._past()

    def gather(self, values: Sequence[Shaped[Tensor, "slots ..."]]) -> Shaped[Tensor, "b p ..."]:
        """The rows of players, one tensor a stream with all its slots, as columns."""
        return torch.stack([self._columns(value[slots]) for value, slots in zip(values, self.columns, strict=True)])

    def conditions(
        self, actions: Float[Tensor, "b p f k"], *, has_actions: bool, told: Sequence[Told | None]
    ) -> Conditions:
        """What the next frame is asked to follow, in all lanes. `told`: of this one frame, for each stream."""
        lanes, device = self.layout.num_lanes, self.layout.device
        actions = repeat(actions, "b p f k -> (lanes b) p 1 f k", lanes=lanes)
        has = torch.full(actions.shape[:2], has_actions, device=device)
        asked = conditions_of(
            [stream.standing.words for stream in self.streams], self.layout, actions.to(device, self.layout.dtype), has
        )
        return replace(asked, **self._company(), **self._told(told))

    def lead(self, scale: float, num_steps: int) -> float | Float[Tensor, "b 1 1 1 1"]:
        """How strongly the instruction of each stream leads its next frame; 1 where none was given just now."""
        is_led = [
            stream.standing.words.is_instructed and stream.tick < stream.standing.words.since + num_steps
            for stream in self.streams
        ]
        if scale == 1 or not any(is_led):
            return 1.0
        scales = torch.where(torch.tensor(is_led * self.layout.num_lanes), scale, 1.0)
        return rearrange(scales.to(self.layout.device), "b -> b 1 1 1 1")

    def _company(self) -> dict[str, Tensor]:
        """Who is there, and in which seat: columns move up when somebody leaves, seats do not."""
        filled = [(*slots, *([0] * (self.num_columns - len(slots)))) for slots in self.columns]
        is_player = [[column < len(slots) for column in range(self.num_columns)] for slots in self.columns]
        lanes, device = self.layout.num_lanes, self.layout.device
        return {
            "seats": torch.tensor(filled * lanes, device=device),
            "is_player": torch.tensor(is_player * lanes, device=device),
        }

    def _told(self, told: Sequence[Told | None]) -> dict[str, Tensor]:
        """The drawn state of each column; a stream that is told nothing may stand beside others that are."""
        known = [one for one in told if one is not None]
        if not known:
            return {}
        lanes, layout = self.layout.num_lanes, self.layout
        nothing = torch.zeros_like(known[0].state[:1, 0])
        states = [
            nothing.expand(stream.num_slots, -1, -1, -1) if one is None else _filled(one.state[:, 0], stream.num_slots)
            for stream, one in zip(self.streams, told, strict=True)
        ]
        state = repeat(self.gather(states), "b p c h w -> (lanes b) p 1 c h w", lanes=lanes)
        has_state = torch.tensor([one is not None for one in told] * lanes, device=layout.device)
        conditions = {"state": state.to(layout.device, layout.dtype), "has_state": has_state}
        if any(one.near is not None for one in known):
            near = torch.stack([self._near(one, slots) for one, slots in zip(told, self.columns, strict=True)])
            conditions["near"] = repeat(near, "b p q -> (lanes b) 1 p q", lanes=lanes).to(layout.device)
        return conditions

    def _near(self, told: Told | None, slots: list[int]) -> Bool[Tensor, "p p"]:
        near = torch.ones(self.num_columns, self.num_columns, dtype=torch.bool)
        if told is not None and told.near is not None:
            known = told.near[0].cpu()
            inside = [slot for slot in slots if slot < len(known)]
            near[: len(inside), : len(inside)] = known[inside][:, inside]
        return near

    def commit(self, latents: Float[Tensor, "b p c h w"]) -> None:
        """Puts the keys and values of the last pass, over these frames, into the rings in place of the oldest ones."""
        made = torch.stack([torch.stack([key.flatten(2), value.flatten(2)]) for key, value in self.past.made])
        made = rearrange(
            made,
            "a two (lanes b p n) 1 d -> b lanes a two p n d",
            lanes=self.layout.num_lanes,
            b=len(self.streams),
            p=self.num_columns,
        )
        for stream, slots, values, frames in zip(self.streams, self.columns, made, latents, strict=True):
            place = stream.standing.head
            stream.write(place, slots, values[:, :, :, : len(slots)])
            is_there = stream.standing.is_there.clone()
            is_there[:, place] = False
            is_there[slots, place] = True
            last = stream.standing.last.clone()
            last[slots] = frames[: len(slots)]
            head = (place + 1) % len(stream.ring)
            stream.standing = replace(stream.standing, head=head, is_there=is_there, last=last)

    def _past(self) -> WindowPast:
        lanes = self.layout.num_lanes
        rings = torch.stack(
            [
                self._columns(stream.ring[stream.age_order][:, :, :, :, slots], axis=4)
                for stream, slots in zip(self.streams, self.columns, strict=True)
            ]
        )
        layers = rearrange(rings, "b r lanes a two p n d -> a two (lanes b p n) r d")
        is_there = self.gather([stream.standing.is_there[:, stream.age_order] for stream in self.streams])
        last = self.gather([stream.standing.last for stream in self.streams]).to(self.layout.dtype)
        return WindowPast(
            [
                (key.unflatten(-1, (num_heads, -1)), value.unflatten(-1, (num_heads, -1)))
                for (key, value), num_heads in zip(layers, self.layout.num_heads, strict=True)
            ],
            repeat(is_there, "b p r -> (lanes b p n) r", lanes=lanes, n=rings.shape[-2]).to(self.layout.device),
            self._read(),
            repeat(last, "b p c h w -> (lanes b p) 1 c h w", lanes=lanes),
        )

    def _read(self) -> list[tuple[Tensor, ...]]:
        """What the networks made of the streams' texts, a row for every player of every lane."""
        heard = [stream.standing.words.read or () for stream in self.streams]
        return [
            tuple(
                repeat(torch.stack(of_streams, dim=1), "lanes b ... -> (lanes b p) ...", p=self.num_columns)
                for of_streams in zip(*parts, strict=True)
            )
            for parts in zip(*heard, strict=True)
        ]

    def _columns(self, values: Tensor, axis: int = 0) -> Tensor:
        missing = self.num_columns - values.shape[axis]
        if missing == 0:
            return values
        shape = list(values.shape)
        shape[axis] = missing
        return torch.cat([values, values.new_zeros(shape)], dim=axis)


def passes(num_players: Sequence[int], pass_players: float) -> list[list[int]]:
    """Which streams go through the networks together, by their numbers of players.

    Each stream of a pass costs as much as the fullest, and each pass as much as `pass_players` players: the sum is the
    least there is. So many rooms of one player are not blown up to the size of one of eight.
    """
    order = sorted(range(len(num_players)), key=lambda i: num_players[i])
    cheapest: list[tuple[float, list[list[int]]]] = [(0.0, [])]
    for end in range(1, len(order) + 1):
        fullest = num_players[order[end - 1]]
        cost, begin = min((cheapest[at][0] + pass_players + (end - at) * fullest, at) for at in range(end))
        cheapest.append((cost, [*cheapest[begin][1], order[begin:end]]))
    return cheapest[-1][1]


def _filled(rows: Tensor, num_slots: int) -> Tensor:
    """Rows of the first slots, and nothing for the others."""
    return torch.cat([rows, rows.new_zeros(num_slots - len(rows), *rows.shape[1:])])


def conditions_of(
    words: Sequence[Words],
    layout: Layout,
    actions: Float[Tensor, "b p 1 f k"],
    has_actions: Bool[Tensor, "b p"],
) -> Conditions:
    """Conditions of one latent frame. The second lane has no prompt."""
    lanes, num_clips = layout.num_lanes, layout.num_lanes * len(words)

    def each(values: list[Tensor]) -> Tensor:
        return torch.cat(values * lanes).to(layout.device)

    text_mask = each([one.text_mask for one in words])
    text_mask[len(words) :] = False
    instructed = torch.tensor([one.is_instructed for one in words] * lanes, device=layout.device)
    return Conditions(
        text=each([one.text for one in words]).to(layout.dtype),
        text_mask=text_mask,
        fps=torch.full((num_clips,), layout.fps, device=layout.device),
        num_frames=torch.full((num_clips,), layout.num_frames, device=layout.device),
        actions=actions,
        has_actions=has_actions,
        instruction=each([one.instruction for one in words]).to(layout.dtype),
        instruction_mask=each([one.instruction_mask for one in words]),
        is_instructed=instructed[:, None],
        video_prompt=None,
        has_prompt=torch.zeros(num_clips, dtype=torch.bool, device=layout.device),
    )
