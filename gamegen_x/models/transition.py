"""Transition: where everybody is seen next, from where they were seen and the keys that are held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Memory:
    """What is remembered at a frame: the recurrent state, and the frame's own facts."""

    hidden: Float[Tensor, "b d"]
    places: Float[Tensor, "b p q 2"]
    seen: Float[Tensor, "b p q"]  # 1 where somebody is seen


class Transition(nn.Module):
    """A recurrent network (GRU) that steps the places in all players' views by a video frame.

    It stands where a game has no rules at hand (a recurrent world model of facts, not of pixels: Ha & Schmidhuber 2018,
    section 2.3, without the mixture). Places are in halves of a picture from its middle, so in [-1, 1] where they are
    inside. `num_views` players look, `num_seen` may be seen in each view.
    """

    frequencies: Tensor

    def __init__(
        self, num_views: int, num_seen: int, num_keys: int, hidden: int, num_frequencies: int, fastest: float
    ) -> None:
        super().__init__()
        self.num_views, self.num_seen, self.num_keys = num_views, num_seen, num_keys
        self.fastest = fastest  # halves of a picture a frame; what moves farther jumps, and has no speed
        self.register_buffer("frequencies", torch.pi * 2.0 ** torch.arange(num_frequencies), persistent=False)
        pairs = num_views * num_seen
        num_features = pairs * (2 * (1 + 2 * num_frequencies) + 2 + 1) + num_views * num_keys
        self.into = nn.Sequential(nn.Linear(num_features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.cell = nn.GRUCell(hidden, hidden)
        last = nn.Linear(hidden, pairs * 3)
        nn.init.zeros_(last.weight)  # at first everybody stands
        nn.init.zeros_(last.bias)
        self.out = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.SiLU(), last)

    def begin(self, places: Float[Tensor, "b p q 2"], seen: Float[Tensor, "b p q"]) -> Memory:
        """Nothing is known but one frame. Raises ValueError where it is of other views than the network's."""
        if tuple(seen.shape[1:]) != (self.num_views, self.num_seen):
            raise ValueError(
                f"facts of {seen.shape[1]} views in which {seen.shape[2]} may be seen, but the transition network "
                f"learned {self.num_views} and {self.num_seen}; set transition.num_views and transition.num_seen"
            )
        return Memory(places.new_zeros(len(places), self.cell.hidden_size), places, seen)

    def forward(
        self, memory: Memory, before: Float[Tensor, "b p q 2"], held: Float[Tensor, "b p k"]
    ) -> tuple[Memory, Float[Tensor, "b p q"]]:
        """The next frame, in which the keys `held` act, and logits of who is seen in it.

        `before` are the places a frame before the memory's: how everybody moved. The memory's own facts are what was
        foreseen last; whoever knows better writes that into it. Gradients flow through the sum of all changes, not
        through what is read of a place: fine waves of it would make them explode.
        """
        places, before = memory.places.detach(), before.detach()
        angles = places[..., None] * self.frequencies
        moved = (places - before).clamp(-self.fastest, self.fastest) / self.fastest
        features = [places, angles.sin(), angles.cos(), moved, memory.seen, held]
        read = self.into(torch.cat([feature.flatten(1) for feature in features], dim=1))
        hidden = self.cell(read, memory.hidden)
        change, logits = (
            self.out(torch.cat([hidden, read], dim=1)).unflatten(1, (*memory.seen.shape[1:], 3)).split([2, 1], dim=-1)
        )
        logits = logits.squeeze(-1)
        return Memory(hidden, memory.places + change, (logits > 0).to(places.dtype)), logits

    def rollout(
        self,
        places: Float[Tensor, "b t p q 2"],
        seen: Float[Tensor, "b t p q"],
        held: Float[Tensor, "b t p k"],
        is_given: Bool[Tensor, "steps b"],
    ) -> tuple[Float[Tensor, "b steps p q 2"], Float[Tensor, "b steps p q"]]:
        """Places and logits of frames 1 to t - 1. Frame i is foreseen from the true frame i - 1 in the clips in which
        `is_given[i - 1]` is true, from the network's own one in the others. The first is given to all.
        """
        memory = self.begin(places[:, 0], seen[:, 0])
        before = memory.places
        foreseen, logits = [], []
        for frame in range(1, places.shape[1]):
            now = memory.places
            memory, logit = self(memory, before, held[:, frame])
            foreseen.append(memory.places)
            logits.append(logit)
            given = is_given[frame - 1][:, None, None]
            before = now
            memory = Memory(
                memory.hidden,
                torch.where(given[..., None], places[:, frame], memory.places),
                torch.where(given, seen[:, frame], memory.seen),
            )
        return torch.stack(foreseen, dim=1), torch.stack(logits, dim=1)
