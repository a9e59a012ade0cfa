"""Keys and values of past frames, kept so that new frames can look at them without the past being computed again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gamegen_x.models.layers.expectation import Expectation

Past = TypeVar("Past", bound="PastFrames")


class PastFrames:
    """What the temporal attentions of a causal model made of context frames, in the order in which they are called.

    A pass over the context fills it; after `freeze`, any number of passes over new frames look at it and leave it as
    it is. Keys are kept before their norm and rotation, which depend on where the window begins. The context's latents
    are kept too, for networks that look at the frame before.

    New frames come after all of the past and see each other causally. With `is_beside` they are other versions of the
    same frames instead: new frame i stands at place i, and sees the past before it and itself. So one pass trains a
    model on every frame of a clip, each after a past of its own (teacher forcing).
    """

    def __init__(self, is_beside: bool = False) -> None:
        self.is_beside = is_beside
        self.latents: Tensor | None = None
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.is_frozen = False
        self.turn = 0
        self.expected: Expectation | None = None  # of the one frame after a frozen past

    def freeze(self) -> None:
        self.is_frozen = True

    def under_other_conditions(self: Past) -> Past:
        """The same frozen past, of which other conditions expect another frame."""
        other = copy.copy(self)
        other.expected = None
        return other

    def frame_before(self, latents: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """For each frame the frame before it; zeros where there was none."""
        known = latents[:, :0] if self.latents is None else self.latents
        if not self.is_frozen:
            self.latents = latents
        earlier = known if self.is_beside and self.is_frozen else torch.cat([known[:, -1:], latents[:, :-1]], dim=1)
        return F.pad(earlier, (0, 0, 0, 0, 0, 0, latents.shape[1] - earlier.shape[1], 0))

    def expect_once(
        self,
        latents: Float[Tensor, "b t c h w"],
        expect: Callable[[Float[Tensor, "b t c h w"]], Expectation | None],  # of the frame before each
    ) -> Expectation | None:
        """What is expected of these frames.

        Of one frame after a frozen past it is found in the first pass only: however noisy that frame is, the one before
        it and its keys stay as they are.
        """
        frame_before = self.frame_before(latents)
        if not self.is_frozen or latents.shape[1] > 1:
            return expect(frame_before)
        if self.expected is None:
            self.expected = expect(frame_before)
        return self.expected

    def with_past(
        self, key: Float[Tensor, "s n e d"], value: Float[Tensor, "s n e d"]
    ) -> tuple[Float[Tensor, "s m e d"], Float[Tensor, "s m e d"]]:
        """The keys and values that this attention may look at: those of the past, then the new ones."""
        if not self.is_frozen:
            self.kept.append((key, value))
            return key, value
        past_key, past_value = self.kept[self.turn]
        self.turn = (self.turn + 1) % len(self.kept)
        return torch.cat([past_key, key], dim=1), torch.cat([past_value, value], dim=1)

    def read_once(self, read: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What `read` makes of a text. A past that has read it already says what it made of it then."""
        return read()

    def places(self, num_keys: int, num_new: int) -> Int[Tensor, " m"]:
        """Where each key stands in time; queries stand where the last `num_new` keys do."""
        num_past = num_keys - num_new
        new = torch.arange(num_new)
        return torch.cat([torch.arange(num_past), new if self.is_beside and num_past else num_past + new])

    def mask(self, num_keys: int, num_new: int) -> Bool[Tensor, "*rows n m"]:
        """True where a new frame may look."""
        num_past = num_keys - num_new
        if not (self.is_beside and num_past):
            return torch.ones(num_new, num_keys, dtype=torch.bool).tril(num_past)
        return torch.cat(
            [torch.ones(num_new, num_past, dtype=torch.bool).tril(-1), torch.eye(num_new, dtype=torch.bool)], dim=1
        )


class WindowPast(PastFrames):
    """What one pass over the next frame of many worlds may look at; every row has a past of its own.

    `layers` are keys and values of the `r` frames before, oldest first, for each temporal attention in the order of
    calls. Where `is_there` is false a row has no such frame, and whatever stands in its place changes nothing. Passes
    leave all that as it is; the last one's own keys and values are found in `made`. `read` is what the networks made
    of texts before, in the order in which they ask; without it they read, and what they made is found in `heard`.
    `latents` are the frame before itself, zeros where a row has none.
    """

    def __init__(
        self,
        layers: Sequence[tuple[Float[Tensor, "s r e d"], Float[Tensor, "s r e d"]]],
        is_there: Bool[Tensor, "s r"],
        read: Sequence[tuple[Tensor, ...]] | None,
        latents: Float[Tensor, "rows 1 c h w"] | None,
    ) -> None:
        super().__init__()
        self.latents = latents
        self.kept = list(layers)
        self.freeze()
        self.made: list[tuple[Tensor, Tensor]] = []
        self.read = read
        self.heard: list[tuple[Tensor, ...]] = []
        self.reading = 0
        self.seen = torch.nn.functional.pad(is_there, (0, 1), value=True)[:, None, None]  # a new frame sees itself

    def with_past(
        self, key: Float[Tensor, "s n e d"], value: Float[Tensor, "s n e d"]
    ) -> tuple[Float[Tensor, "s m e d"], Float[Tensor, "s m e d"]]:
        if self.turn == 0:
            self.made = []
        self.made.append((key, value))
        return super().with_past(key, value)

    def read_once(self, read: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        if self.read is None:
            self.heard.append(read())
            return self.heard[-1]
        known = self.read[self.reading]
        self.reading = (self.reading + 1) % len(self.read)
        return known

    def mask(self, num_keys: int, num_new: int) -> Bool[Tensor, "*rows n m"]:
        return self.seen.expand(-1, -1, num_new, num_keys)
