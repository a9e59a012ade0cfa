"""The keys of one seat, by tick: what has come, in whatever order, and a guess where nothing has."""

from __future__ import annotations

from enum import Enum

SEQ_WINDOW = 64  # Inputs that may overtake each other


class Verdict(Enum):
    """What became of the keys of one tick."""

    NEW = "new"
    KNOWN = "known"
    CHANGED = "changed"  # other keys were given before: those stay


class InputBuffer:
    """Keys as bits. What is guessed depends on what was given, never on when it came.

    A guess repeats the newest keys before it, without those that act once (`one_shot`), for `hold_ticks`; after that
    nothing is held.
    """

    def __init__(self, one_shot: int, hold_ticks: int) -> None:
        self.one_shot, self.hold_ticks = one_shot, hold_ticks
        self.given: dict[int, int] = {}
        self.tapped: dict[int, int] = {}  # on top of what is given or guessed
        self.newest = -1  # tick
        self.complete = -1  # every tick up to this one was given, or is final

    def give(self, tick: int, bits: int) -> Verdict:
        known = self.given.get(tick)
        if known is not None:
            return Verdict.KNOWN if known == bits else Verdict.CHANGED
        self.given[tick] = bits
        self.newest = max(self.newest, tick)
        self._complete_from(self.complete)
        return Verdict.NEW

    def tap(self, tick: int, bits: int) -> None:
        """Keys that act in one tick, whatever is given or guessed for it, and change no guess."""
        self.tapped[tick] = self.tapped.get(tick, 0) | bits

    def at(self, tick: int, is_guessing: bool = True) -> int:
        """The keys of a tick, given or guessed."""
        bits = self.given.get(tick)
        if bits is None:
            bits = self._guess(tick) if is_guessing else 0
        return bits | self.tapped.get(tick, 0)

    def _guess(self, tick: int) -> int:
        for earlier in range(tick - 1, tick - 1 - self.hold_ticks, -1):
            bits = self.given.get(earlier)
            if bits is not None:
                return bits & ~self.one_shot
        return 0

    def ended(self, tick: int) -> InputBuffer:
        """What is left of the keys when their player has gone after a tick: nothing is held from the next one on."""
        rest = InputBuffer(self.one_shot, self.hold_ticks)
        rest.given = {each: bits for each, bits in self.given.items() if each <= tick}
        rest.tapped = dict(self.tapped)
        rest.give(tick + 1, 0)
        return rest

    def depth(self, tick: int) -> int:
        """How many ticks are given ahead of one."""
        return max(0, self.newest - tick)

    def settle(self, tick: int) -> None:
        """Ticks up to this one are final. What guesses may still need is kept, the rest forgotten."""
        self._complete_from(max(self.complete, tick))
        oldest = tick - self.hold_ticks
        if len(self.given) > 2 * self.hold_ticks:
            self.given = {each: bits for each, bits in self.given.items() if each > oldest}
        for each in [each for each in self.tapped if each <= tick]:
            del self.tapped[each]

    def _complete_from(self, tick: int) -> None:
        while tick + 1 in self.given:
            tick += 1
        self.complete = tick


class SeqWindow:
    """Which numbered messages have come: each is taken once, whether it was early or late; the very old are refused."""

    def __init__(self) -> None:
        self.newest = -1
        self._seen = 0  # bit i: newest - i has come

    def take(self, seq: int) -> bool:
        """Whether this one is new."""
        if seq > self.newest:
            self._seen = (self._seen << (seq - self.newest) if seq - self.newest < SEQ_WINDOW else 0) | 1
            self._seen &= (1 << SEQ_WINDOW) - 1
            self.newest = seq
            return True
        age = self.newest - seq
        if age >= SEQ_WINDOW or self._seen >> age & 1:
            return False
        self._seen |= 1 << age
        return True

    @property
    def loss(self) -> float:
        """The share of the last numbers that have not come."""
        expected = min(self.newest + 1, SEQ_WINDOW)
        return 1 - self._seen.bit_count() / expected if expected else 0.0


def bits_of(keys: bytes) -> list[int]:
    """The ticks of `Input.keys`, oldest first."""
    return [int.from_bytes(keys[place : place + 2], "little") for place in range(0, len(keys), 2)]


def bytes_of(bits: list[int]) -> bytes:
    return b"".join(each.to_bytes(2, "little") for each in bits)
