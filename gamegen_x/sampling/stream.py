"""Stream: all that one running world remembers. Weights are elsewhere; two streams share nothing that changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gamegen_x.sampling.truth import Truth


@dataclass(frozen=True)
class Words:
    """The prompt and the instruction in force: tokens of one clip, and what the networks made of them (rows: lanes)."""

    text: Float[Tensor, "1 l d_text"]
    text_mask: Bool[Tensor, "1 l"]
    instruction: Float[Tensor, "1 li d_text"]
    instruction_mask: Bool[Tensor, "1 li"]
    is_instructed: bool
    since: int = 0  # the tick at which it was given
    read: tuple[tuple[Tensor, ...], ...] | None = None


@dataclass(frozen=True)
class Standing:
    """Where a stream stands between two calls, apart from its ring. Every change makes a new one."""

    tick: int  # steps taken
    head: int  # the ring's place that the next frame takes; the oldest frame stands there
    is_live: tuple[bool, ...]  # by slot
    is_there: Bool[Tensor, "p r"]  # which places hold a frame of this player
    last: Float[Tensor, "p c h w"]  # the latent frame made last, zeros where there is none
    decoder: tuple[Float[Tensor, "p ..."], ...]  # what the VAE's causal layers saw last
    words: Words
    truth: Truth | None  # the world that is told to the networks, where they step it themselves

    @property
    def parts(self) -> tuple[Float[Tensor, "p ..."], ...]:
        """The tensors that each step makes anew."""
        return (self.last, *self.decoder)


@dataclass
class _Tick:
    """How to come back to the end of one step: its standing, and what has been overwritten since, in order."""

    standing: Standing
    overwritten: list[tuple[int, list[int], Tensor]] = field(default_factory=list)  # place, slots, old values


class Stream:
    """One world's memory: a ring of keys and values, a standing, and a log that undoes both.

    `ring[place]` holds one latent frame of all slots: keys and values of every temporal attention, of every lane (a
    second lane is the world without its prompt, for guidance). An empty slot's rows are dead weight that nobody reads.
    """

    def __init__(
        self, session: int, ring: Float[Tensor, "r lanes a 2 p n d"], standing: Standing, undo_ticks: int
    ) -> None:
        self.session = session
        self.ring = ring
        self.standing = standing
        self._log = deque([_Tick(standing)], maxlen=undo_ticks + 1)

    @property
    def tick(self) -> int:
        return self.standing.tick

    @property
    def slots(self) -> list[int]:
        """The slots that players hold."""
        return [slot for slot, is_live in enumerate(self.standing.is_live) if is_live]

    @property
    def num_slots(self) -> int:
        return len(self.standing.is_live)

    @property
    def age_order(self) -> list[int]:
        """The ring's places, oldest frame first."""
        size = len(self.ring)
        return [(self.standing.head + age) % size for age in range(size)]

    @torch.inference_mode()
    def write(self, place: int, slots: Sequence[int], values: Float[Tensor, "lanes a 2 p n d"]) -> None:
        """Overwrites a place of the ring for some slots, and logs what stood there."""
        rows = list(slots)
        self._log[-1].overwritten.append((place, rows, self.ring[place][:, :, :, rows]))
        self.ring[place][:, :, :, rows] = values

    def end_tick(self, standing: Standing) -> None:
        """A step is done: from here on the log can come back to this standing."""
        self.standing = standing
        self._log.append(_Tick(standing))

    @torch.inference_mode()
    def rewind(self, ticks: int) -> None:
        """Back to the end of the step `ticks` steps ago, bit for bit; joins, leaves and words since are undone too.

        Raises ValueError where the log is not so deep.
        """
        deepest = self.undo_depth
        if not 1 <= ticks <= deepest:
            raise ValueError(
                f"cannot rewind {ticks} ticks: the log of this stream holds the last {deepest} "
                f"(it keeps at most undo_ticks = {(self._log.maxlen or 1) - 1}); "
                "rewind less, or start a stream anew from stored frames"
            )
        for _ in range(ticks):
            self._undo(self._log.pop())
        self._undo(self._log[-1])
        self._log[-1].overwritten.clear()
        self.standing = self._log[-1].standing

    @property
    def undo_depth(self) -> int:
        """How many steps the log can take back now."""
        return len(self._log) - 1

    def undo_bytes(self) -> int:
        """What the log holds beyond the stream itself, without empty slots."""
        rings = sum(old.nbytes for tick in self._log for _, _, old in tick.overwritten)
        now = {id(part) for part in self.standing.parts}
        parts = {id(part): part.nbytes for tick in self._log for part in tick.standing.parts}
        return rings + sum(size for part, size in parts.items() if part not in now) * len(self.slots) // self.num_slots

    def snapshot_bytes(self) -> int:
        """What a copy of the players' memory would hold, without empty slots."""
        whole = self.ring.nbytes + sum(part.nbytes for part in self.standing.parts)
        return whole * len(self.slots) // self.num_slots

    def _undo(self, tick: _Tick) -> None:
        for place, rows, old in reversed(tick.overwritten):
            self.ring[place][:, :, :, rows] = old

    def forget(self, slots: Sequence[int]) -> None:
        """These players have no past any more. The ring's values stay until they are overwritten."""
        gone = torch.zeros(self.num_slots, dtype=torch.bool)
        gone[list(slots)] = True
        last, *decoder = (
            part.masked_fill(gone.to(part.device).view(-1, *[1] * (part.ndim - 1)), 0) for part in self.standing.parts
        )
        is_there = self.standing.is_there & ~gone[:, None]
        self.standing = replace(self.standing, is_there=is_there, last=last, decoder=tuple(decoder))
