"""The order of samples and every random choice within them: pure functions of (seed, epoch, index).

Nothing here keeps a state or depends on the version of a library, so a run that resumes, on other workers or with
another number of ranks, meets the same samples with the same choices.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = 6


def mix(*words: int) -> int:
    """One well-mixed 64-bit number from several integers (the finaliser of SplitMix64, folded over them)."""
    state = _GOLDEN
    for word in words:
        state = _finalise(state ^ _finalise((word + _GOLDEN) & _MASK))
    return state


def shuffled(position: int, size: int, seed: int, epoch: int) -> int:
    """Which of `size` things stands at `position` in this epoch's order: a permutation, without writing it down.

    A Feistel network over the next power of four, walked until it falls inside.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    keys = _round_keys(seed, epoch)
    value = position
    while True:
        left, right = value >> half, value & low
        for key in keys:
            left, right = right, left ^ (_finalise((key + right * _GOLDEN) & _MASK) & low)
        value = left << half | right
        if value < size:
            return value


@functools.lru_cache(maxsize=8)
def _round_keys(seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(mix(seed, epoch, number) for number in range(_ROUNDS))


class Draws:
    """The random choices of one sample, in the order in which they are asked for."""

    def __init__(self, *words: int) -> None:
        self._key = mix(*words)
        self._count = 0

    def integer(self, stop: int) -> int:
        """Uniform in 0 ... stop - 1."""
        self._count += 1
        return _finalise((self._key + self._count * _GOLDEN) & _MASK) * stop >> 64

    def uniform(self) -> float:
        """Uniform in [0, 1)."""
        return self.integer(1 << 53) / (1 << 53)

    def pick(self, shares: Mapping[str, float]) -> str | None:
        """A name by its share; None for what the shares leave to 1."""
        point = self.uniform()
        for name, share in shares.items():
            point -= share
            if point < 0:
                return name
        return None


def _finalise(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
