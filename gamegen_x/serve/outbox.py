"""Outbox: what waits for one player, the most urgent first. Bounded: of pictures and states only the newest waits."""

from __future__ import annotations

import math
from collections import deque

from gamegen_x.serve.protocol import Correction, Delta, EventMessage, Frame, Keyframe, Message

MAX_CONTROL = 64  # then the oldest falls out: a client that asks so much and reads nothing needs no answer
MAX_EVENTS = 256  # then the newest is not taken: it is sent again until acknowledged
FEWEST_CREDITS, MOST_CREDITS = 2, 8
NUM_ROUND_TRIPS = 256  # of which the quickest counts: ten seconds of states
SHARE_FRAMES = 24  # over about so many frames


class Outbox:
    """Four queues: control, events, states, frames. With `has_priorities=False` whatever came first goes first.

    A frame takes a credit, an acknowledged one gives it back. Credits cover what fits into one round trip, and one
    more: the quickest round trip of late, since others waited behind pictures, times the share that gets through.
    So a thin line skips, and what a player sees is never older than it must be.
    """

    def __init__(self, has_priorities: bool = True) -> None:
        self.has_priorities = has_priorities
        self.round_trip = 1.0  # ticks, on average
        self._round_trips: deque[float] = deque(maxlen=NUM_ROUND_TRIPS)
        self.sent_share = 1.0  # of the frames that were put here lately
        self.num_skipped_frames = 0
        self._control: deque[tuple[int, Message]] = deque(maxlen=MAX_CONTROL)
        self._events: deque[tuple[int, Message]] = deque()
        self._state: tuple[int, Message] | None = None
        self._frame: tuple[int, Frame] | None = None
        self._count = 0
        self._on_their_way: deque[int] = deque()  # numbers of frames

    def __len__(self) -> int:
        return len(self._control) + len(self._events) + (self._state is not None) + (self._frame is not None)

    def put(self, message: Message) -> None:
        self._count += 1
        item = (self._count, message)
        if isinstance(message, Frame):
            is_skipped = self._frame is not None
            self.num_skipped_frames += is_skipped
            self.sent_share += (1.0 - is_skipped - self.sent_share) / SHARE_FRAMES
            self._frame = (self._count, message)
        elif isinstance(message, Keyframe | Delta):
            self._state = item
        elif isinstance(message, EventMessage | Correction):
            if len(self._events) < MAX_EVENTS:
                self._events.append(item)
        else:
            self._control.append(item)

    def take(self) -> Message | None:
        """The next message to send, or None where nothing may be sent now."""
        waiting = [queue[0] for queue in (self._control, self._events) if queue]
        if self._state is not None:
            waiting.append(self._state)
        if self._frame is not None and self.credits > 0:
            waiting.append(self._frame)
        if not waiting:
            return None
        item = waiting[0] if self.has_priorities else min(waiting, key=lambda each: each[0])
        self._remove(item)
        return item[1]

    @property
    def credits(self) -> int:
        """Frames that may still be on their way."""
        fitting = math.ceil(min(self._round_trips, default=1.0) * self.sent_share)
        window = min(max(fitting + 1, FEWEST_CREDITS), MOST_CREDITS)
        return window - len(self._on_their_way)

    def note_round_trip(self, ticks: float) -> None:
        """What it took until something that was sent was acknowledged."""
        self.round_trip += (ticks - self.round_trip) / 8
        self._round_trips.append(ticks)

    def acknowledge_frame(self, seq: int) -> None:
        while self._on_their_way and self._on_their_way[0] <= seq:
            self._on_their_way.popleft()

    def clear(self) -> None:
        """Forgets everything: whoever reads this box from now on begins anew."""
        self._control.clear()
        self._events.clear()
        self._state = self._frame = None
        self._on_their_way.clear()

    def _remove(self, item: tuple[int, Message]) -> None:
        if item is self._state:
            self._state = None
        elif self._frame is not None and item[1] is self._frame[1]:
            self._on_their_way.append(self._frame[1].seq)
            self._frame = None
        else:
            (self._control if self._control and self._control[0] is item else self._events).popleft()
