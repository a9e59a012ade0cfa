"""States as vectors of 32-bit integers, and what changed between two of them as few bytes.

`docs/wire.md` has the format. Made for a tick's budget: a state of 64 things is packed and read in a tenth of a
millisecond, by numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from gamegen_x.serve.protocol import Leaf
from gamegen_x.world.snapshot import GRID, quantise

Vector = npt.NDArray[np.int32]
AXES, FRACTION, INTEGER, TRUTH = "axes", "fraction", "integer", "truth"
_KINDS = (AXES, FRACTION, INTEGER, TRUTH)  # their order in a vector: axes first, so that they are one block of 3 3
_NUMBERS_IN_AXES = 9
_MAX_WIDTH = 4  # bytes of a difference


@dataclass(frozen=True)
class Packed:
    """One state as it was sent or received: its vector, folded, and the hash of that."""

    tick: int
    folded: Vector
    hash: int


class StateCodec:
    """How the states of one world are laid out as vectors; both ends have the same from `Welcome.layout`."""

    def __init__(self, layout: Sequence[Leaf]) -> None:
        self.layout = tuple(layout)
        kinds = [leaf.kind for leaf in self.layout]
        if set(kinds) - set(_KINDS) or kinds != sorted(kinds, key=_KINDS.index):
            raise ValueError(f"a layout has leaves of the kinds {_KINDS}, in this order, got {kinds}")
        sizes = [int(np.prod(leaf.shape)) for leaf in self.layout]
        self.size = sum(sizes)
        self.num_axes = sum(size for size, kind in zip(sizes, kinds, strict=True) if kind == AXES) // _NUMBERS_IN_AXES
        self.places = np.cumsum([0, *sizes]).tolist()
        self._num_groups = -(-self.size // 8)
        self._zeros = np.zeros(self.size, np.int32)

    @classmethod
    def of_state(cls, like: object) -> StateCodec:
        """The codec of a world, from any of its states."""
        leaves = [
            Leaf(name, _kind_of(attrgetter(name)(like)), tuple(array.shape)) for name, array in quantise(like).items()
        ]
        return cls(sorted(leaves, key=lambda leaf: _KINDS.index(leaf.kind)))

    def pack(self, tick: int, state: object) -> Packed:
        """A state of this world, ready to be sent."""
        return self.packed(tick, self.vector(state))

    def packed(self, tick: int, vector: Vector) -> Packed:
        folded = vector.copy()
        self._positions_of(folded)[...] -= self._products(folded)
        return Packed(tick, folded, hash_of(folded))

    def unpacked(self, packed: Packed) -> Vector:
        """The vector of a state."""
        vector = packed.folded.copy()
        self._positions_of(vector)[...] += self._products(vector)
        return vector

    def vector(self, state: object) -> Vector:
        """All numbers of a state; fractions are rounded to the grid."""
        values = self._values(state)
        fractions, integers = values[: self._num_fractional], values[self._num_fractional :]
        vector = np.empty(self.size, np.int32)
        split = self.places[self._num_fractional]
        if fractions:
            scaled = np.concatenate([value.ravel() for value in fractions])
            scaled *= GRID
            vector[:split] = np.rint(scaled, out=scaled)
        vector[split:] = np.concatenate([v.ravel() if isinstance(v, np.ndarray) else (v,) for v in integers])
        return vector

    def arrays(self, packed: Packed) -> dict[str, npt.NDArray[Any]]:
        """The arrays of a state by name, as the world has them: fractions, integers, truths."""
        found: dict[str, npt.NDArray[Any]] = {}
        vector = self.unpacked(packed)
        for place, leaf in zip(self.places, self.layout, strict=False):
            array: npt.NDArray[Any] = vector[place : place + int(np.prod(leaf.shape))].reshape(leaf.shape)
            if leaf.kind in (AXES, FRACTION):
                array = array / GRID
            found[leaf.name] = array.astype(bool) if leaf.kind == TRUTH else array
        return found

    def difference(self, base: Packed | None, new: Packed) -> bytes:
        """How to make `new` from `base`, or from nothing."""
        change = new.folded if base is None else new.folded - base.folded
        is_changed = change.astype(bool)
        bits = np.packbits(is_changed, bitorder="little")
        is_group = bits.astype(bool)
        values = change[is_changed.nonzero()[0]]
        magnitude = values ^ (values >> 31)  # without the sign, in the bits that are needed beside it
        widths = _FIRST_OF_WIDTH.searchsorted(magnitude, "right")
        raw = values.view(np.uint8).reshape(-1, _MAX_WIDTH)
        parts = (
            np.packbits(is_group, bitorder="little"),
            bits[is_group],
            np.packbits(_BITS_OF_WIDTH[widths], bitorder="little"),
            raw[_LOW_BYTES[widths]],
        )
        return b"".join(part.data for part in parts)

    def apply(self, base: Packed | None, tick: int, blob: bytes) -> Packed:
        """The state that a difference makes of `base`. Raises ValueError where the bytes are no difference."""
        data = np.frombuffer(blob, np.uint8)
        place = -(-self._num_groups // 8)
        is_group = np.unpackbits(data[:place], bitorder="little")[: self._num_groups].view(bool)
        num_groups = int(np.count_nonzero(is_group))
        bits = np.zeros(self._num_groups, np.uint8)
        if len(is_group) < self._num_groups or place + num_groups > len(data):
            raise _cut_short(blob)
        bits[is_group] = data[place : place + num_groups]
        place += num_groups
        where = np.unpackbits(bits, bitorder="little").nonzero()[0]
        num_bytes = -(-len(where) // 4)
        widths = _WIDTHS_IN_BYTE[data[place : place + num_bytes]].ravel()[: len(where)]
        place += num_bytes
        is_sent = _HIGH_BYTES[widths]
        if place + np.count_nonzero(is_sent) != len(data) or (len(where) and where[-1] >= self.size):
            raise _cut_short(blob)
        values = np.zeros(len(where), np.int32)
        # At the top of each number, so that a shift brings the sign.
        values.view(np.uint8).reshape(-1, _MAX_WIDTH)[is_sent] = data[place:]
        folded = (self._zeros if base is None else base.folded).copy()
        folded[where] += values >> _SHIFT_OF[widths]
        return Packed(tick, folded, hash_of(folded))

    def _positions_of(self, vector: Vector) -> Vector:
        return vector[: self.num_axes * _NUMBERS_IN_AXES].reshape(-1, _NUMBERS_IN_AXES)[:, 2::3]

    def _products(self, vector: Vector) -> Vector:
        """right x up of every 3x3, on the grid `[n 3]`; in the order of operations of docs/wire.md: all ends agree."""
        axes = vector[: self.num_axes * _NUMBERS_IN_AXES].reshape(-1, _NUMBERS_IN_AXES).astype(np.float64)
        products = axes[:, _LEFT] * axes[:, _RIGHT]
        product = np.rint((products[:, :3] - products[:, 3:]) * (1 / GRID))
        return product.astype(np.int64).astype(np.int32)  # wraps where the axes are no axes

    @cached_property
    def _num_fractional(self) -> int:
        return sum(leaf.kind in (AXES, FRACTION) for leaf in self.layout)

    @cached_property
    def _values(self) -> attrgetter[Any]:
        return attrgetter(*(leaf.name for leaf in self.layout))


# In a 3x3 of columns right, up, position: right[1,2,0] * up[2,0,1] - right[2,0,1] * up[1,2,0].
_LEFT, _RIGHT = np.array([3, 6, 0, 6, 0, 3]), np.array([7, 1, 4, 4, 7, 1])
# By the width of a difference less one, 0 to 3:
_FIRST_OF_WIDTH = np.array([1 << 7, 1 << 15, 1 << 23], np.int32)  # the first magnitude that is one wider
_BITS_OF_WIDTH = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.uint8)
_LOW_BYTES = np.tri(_MAX_WIDTH, dtype=bool)  # of four, those that are sent
_HIGH_BYTES = _LOW_BYTES[:, ::-1].copy()
_WIDTHS_IN_BYTE = np.arange(256)[:, None] >> np.arange(0, 8, 2) & 3  # the four that a byte holds
_SHIFT_OF = np.array([24, 16, 8, 0], np.int32)  # brings a value down from the top of 32 bits


def hash_of(vector: Vector) -> int:
    """xxh32 over the whole quantised state, folded: equal vectors have equal hashes, others differ but once in 2^32."""
    return xxhash.xxh32_intdigest(vector.data)


def _kind_of(value: Any) -> str:
    array = np.asarray(value)
    if array.dtype.kind == "f":
        return AXES if array.shape[-2:] == (3, 3) else FRACTION
    if array.dtype.kind == "b":
        return TRUTH
    if array.size and (array.min() < -(2**31) or array.max() >= 2**31):
        raise ValueError(f"a state's integers have 32 bits on the wire, got {int(array.min())} to {int(array.max())}")
    return INTEGER


def _cut_short(blob: bytes) -> ValueError:
    return ValueError(f"{len(blob)} bytes are no difference of two states of this world; ask for a keyframe")
