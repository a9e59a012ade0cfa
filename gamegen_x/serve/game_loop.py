"""GameLoop: the clock of one room. Keys, world, pictures, and again, by an absolute schedule."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gamegen_x.games.door import Frame as Picture
from gamegen_x.serve.clock import Pacer
from gamegen_x.serve.frame_codec import EncodedBlock, Tier
from gamegen_x.serve.ladder import FULL, Ladder, LadderRules
from gamegen_x.serve.played_world import ServedWorld
from gamegen_x.serve.protocol import Frame
from gamegen_x.serve.room import Block, Room
from gamegen_x.serve.seat import SPECTATOR, Seat

HALF_RATE, LOWER_RESOLUTION = "half_rate", "lower_resolution"  # steps of the ladder that the loop acts on
HALVED = "halved"  # the only step of a single line
THIN_SHARE = 0.8  # of the pictures get through: a line with less is too thin
NUM_TIMES = 512  # of each series: the newest


class BlockViews(Protocol):
    """Makes the pictures of one room while the event loop goes on. `ModelViews` asks another process for them."""

    can_skip: bool  # whether a block may go undrawn: a model must see them all

    @property
    def is_ready(self) -> bool:
        """Where not, the world stands still."""

    async def draw(self, block: Block) -> Sequence[Sequence[Picture]] | None:
        """Pictures `[t][p]` of a block; None where none could be made, and the world is to wait."""


class TickClock:
    """Monotonic time in ticks. Nothing looks at the time of day, so nobody can set it."""

    def __init__(self, fps: float) -> None:
        self.fps = fps

    def now(self) -> float:
        return time.monotonic() * self.fps

    async def sleep_until(self, tick: float) -> None:
        """Gives others a turn even where the moment is past."""
        await asyncio.sleep(max((tick - self.now()) / self.fps, 0.0))


@dataclass(eq=False)
class Viewer:
    """Somebody who looks at a room: where their messages wait, whose eyes they look through, and at which quality."""

    seat: Seat
    tier: Tier
    watches: int = 0  # the seat whose view a spectator sees
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    line: Ladder | None = None  # what their own line has room for

    def watch_line(self, now: float, rules: LadderRules) -> None:
        """Notices a line that is too thin for its tier, and later that it is not any more."""
        if self.line is None:
            self.line = Ladder(replace(rules, steps=(FULL, HALVED)))
        self.line.observe(now, self.seat.outbox.sent_share < THIN_SHARE)

    def tier_now(self, is_room_in_trouble: bool) -> Tier:
        """The tier they asked for, at half its size where the room or their line has no room for it."""
        is_thin = self.line is not None and self.line.has_reached(HALVED)
        return self.tier.halved() if is_room_in_trouble or is_thin else self.tier

    def view(self, here: Sequence[int]) -> int:
        """Whose pictures they see: their own; a spectator those of a player who is `here`, if anybody is."""
        if self.seat.number != SPECTATOR:
            return self.seat.number
        return self.watches if self.watches in here or not here else here[0]


@dataclass
class LoopTimes:
    """Milliseconds of the newest blocks: what a player's overlay and the load test show."""

    draw: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_TIMES))
    block: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_TIMES))  # from the keys to all outboxes
    late: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_TIMES))  # behind the schedule


class GameLoop:
    def __init__(
        self,
        room: Room,
        views: BlockViews,
        clock: TickClock,
        max_behind: int,  # blocks; then ticks are left out
        on_drawn: Callable[[Block, EncodedBlock], None] = lambda _block, _pictures: None,
    ) -> None:
        self.room, self.views, self.clock, self.max_behind = room, views, clock, max_behind
        self.on_drawn = on_drawn
        self.viewers: list[Viewer] = []
        self.times = LoopTimes()
        self.num_blocks = self.num_drawn = 0

    async def run(self) -> None:
        """Plays until cancelled. Ticks that cannot be kept are left out and counted, never made up for."""
        room = self.room
        block = room.rules.block
        start = math.ceil(self.clock.now() / block) * block  # all rooms in step: a model draws them together
        pacer = Pacer(block, self.max_behind, start, room.rules.sync.fixed_step)
        while True:
            await self.clock.sleep_until(pacer.next_at)
            self.times.late.append(self._milliseconds(self.clock.now() - pacer.next_at))
            if self.views.is_ready:
                await self._play_block()
            skipped = pacer.done(self.clock.now())
            room.is_overloaded = pacer.is_due(self.clock.now())  # already: no time is left between blocks
            if skipped:
                room.skip(skipped)

    def wake_everybody(self) -> None:
        for viewer in self.viewers:
            viewer.wake.set()

    async def _play_block(self) -> None:
        began = self.clock.now()
        block = self.room.advance(began)
        self.num_blocks += 1
        self.wake_everybody()
        is_skipped = self.views.can_skip and self.num_blocks % 2 == 1 and self.room.ladder.has_reached(HALF_RATE)
        if block is None or is_skipped:
            return
        reflects = {seat.number: seat.inputs.newest for seat in self.room.seats}
        pictures = await self.views.draw(block)
        self.times.draw.append(self._milliseconds(self.clock.now() - began))
        if pictures is None:
            return
        encoded = EncodedBlock(pictures)
        self.num_drawn += 1
        await self._send(block, encoded, reflects)
        self.room.mark_delivered(block.last_tick)
        self.on_drawn(block, encoded)
        self.times.block.append(self._milliseconds(self.clock.now() - began))

    async def _send(self, block: Block, pictures: EncodedBlock, reflects: Mapping[int, int]) -> None:
        """First what is encoded at once; then what takes longer, each view and tier in a thread of its own."""
        here = [(each, each.view(self.room.here), self._tier(each)) for each in self.viewers if each.seat.is_here]
        due = [(viewer, view, tier) for viewer, view, tier in here if self.num_drawn % tier.every == 0]
        quick = [(viewer, view, tier) for viewer, view, tier in due if not tier.is_slow]
        slow = [(viewer, view, tier) for viewer, view, tier in due if tier.is_slow]
        self._hand_over(quick, block, pictures, reflects)
        to_encode = {(view, tier) for _, view, tier in slow}
        await asyncio.gather(*(asyncio.to_thread(pictures.payload, view, tier) for view, tier in to_encode))
        self._hand_over(slow, block, pictures, reflects)

    def _hand_over(
        self, due: Sequence[tuple[Viewer, int, Tier]], block: Block, pictures: EncodedBlock, reflects: Mapping[int, int]
    ) -> None:
        for viewer, view, tier in due:
            if viewer in self.viewers:  # who left meanwhile has seen enough
                reflected = min(reflects.get(viewer.seat.number, -1), block.last_tick)
                viewer.seat.outbox.put(self._frame(block, tier, pictures.payload(view, tier), reflected))
                viewer.watch_line(self.clock.now(), self.room.rules.ladder)
        self.wake_everybody()

    def _frame(self, block: Block, tier: Tier, payload: bytes, reflects: int) -> Frame:
        return Frame(
            seq=self.num_drawn,
            tick=block.first_tick,
            count=len(block.states),
            codec=tier.codec,
            is_key=True,
            input_tick=reflects,
            t_generated=self._milliseconds(self.clock.now()),
            payload=payload,
        )

    def _tier(self, viewer: Viewer) -> Tier:
        return viewer.tier_now(self.room.ladder.has_reached(LOWER_RESOLUTION))

    def _milliseconds(self, ticks: float) -> float:
        return ticks * 1000 / self.clock.fps


class TruthViews:
    """The world's own renderer, in a thread."""

    is_ready = can_skip = True

    def __init__(self, world: ServedWorld) -> None:
        self.world = world

    async def draw(self, block: Block) -> Sequence[Sequence[Picture]] | None:
        return await asyncio.to_thread(self.world.draw, block.states, block.keys)
