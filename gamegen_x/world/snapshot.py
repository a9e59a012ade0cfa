"""Snapshots of a world: quantise, delta, keyframe, hash.

A state is any tree of frozen dataclasses whose leaves are numpy arrays, ints and tuples of `Event`. Fractions are
rounded to a grid of 2^-28, fine enough for a step on the sphere and exact in 32 bits up to 8.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gamegen_x.world.events import Event, Scope

State = TypeVar("State")
GRID = 2.0**28
FORMAT = 1
_KEYFRAME, _DELTA = b"GGXK", b"GGXD"

Quantised = dict[str, npt.NDArray[Any]]  # integers and truths, by the path of their field; ints have shape []


def quantise(state: object) -> Quantised:
    """Every number of a state as integers, in the order of its fields. Events are left to `keyframe` and `delta`."""
    return {name: _to_integers(value) for name, value in _leaves(state, "")}


def settled(state: State) -> State:
    """The state with every fraction on the grid: what quantising it and reading it back would give."""
    return _rebuilt(state, "", quantise(state))


def state_hash(state: object) -> str:
    """16 hexadecimal digits over the whole quantised state and its events: equal only where everything is equal."""
    digest = hashlib.blake2b(digest_size=8)
    for name, array in quantise(state).items():
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(_events_to_bytes(state))
    return digest.hexdigest()


def keyframe(state: object) -> bytes:
    """A whole state as bytes, for those who join or have lost step."""
    arrays = b"".join(np.ascontiguousarray(array).tobytes() for array in quantise(state).values())
    return _sealed(_KEYFRAME, arrays, _events_to_bytes(state))


def read_keyframe(data: bytes, like: State) -> State:
    """The state in a keyframe; `like` is any state of the same world. Raises ValueError on anything else."""
    arrays, events = _opened(_KEYFRAME, data)
    expected = quantise(like)
    size = sum(array.nbytes for array in expected.values())
    if len(arrays) != size:
        raise ValueError(f"the keyframe holds {len(arrays)} bytes of state, this world has {size}")
    found, place = {}, 0
    for name, array in expected.items():
        raw = arrays[place : place + array.nbytes]
        found[name] = np.frombuffer(raw, array.dtype).reshape(array.shape)
        place += array.nbytes
    return _rebuilt(like, "", found, events)


def delta(before: object, after: object) -> bytes:
    """What changed between two states of one world, as bytes: much smaller than a keyframe."""
    old, new = quantise(before), quantise(after)
    parts = []
    for name, array in new.items():
        is_changed = (old[name] != array).reshape(-1)
        parts.append(struct.pack("<?", bool(is_changed.any())))
        if is_changed.any():
            parts += [np.packbits(is_changed).tobytes(), array.reshape(-1)[is_changed].tobytes()]
    return _sealed(_DELTA, bytes.fromhex(state_hash(before)) + b"".join(parts), _events_to_bytes(after))


def apply_delta(before: State, data: bytes) -> State:
    """The state that follows `before`. Raises ValueError where the delta belongs to another state."""
    changes, events = _opened(_DELTA, data)
    if changes[:8].hex() != state_hash(before):
        raise ValueError(
            f"the delta follows state {changes[:8].hex()}, got state {state_hash(before)}; ask for a keyframe"
        )
    place, found = 8, {}
    for name, old in quantise(before).items():
        array = old.reshape(-1).copy()
        has_changes = changes[place] != 0
        place += 1
        if has_changes:
            width = (array.size + 7) // 8
            bits = np.unpackbits(np.frombuffer(changes[place : place + width], np.uint8), count=array.size).astype(bool)
            place += width
            size = int(bits.sum()) * array.itemsize
            array[bits] = np.frombuffer(changes[place : place + size], array.dtype)
            place += size
        found[name] = array.reshape(old.shape)
    return _rebuilt(before, "", found, events)


def _leaves(node: object, path: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for field in fields(node):  # type: ignore[arg-type]
        value, name = getattr(node, field.name), f"{path}{field.name}"
        if is_dataclass(value):
            found += _leaves(value, f"{name}.")
        elif not isinstance(value, tuple):
            found.append((name, value))
    return found


def _rebuilt(node: Any, path: str, arrays: Quantised, events: tuple[Event, ...] | None = None) -> Any:
    values: dict[str, Any] = {}
    for field in fields(node):
        value, name = getattr(node, field.name), f"{path}{field.name}"
        if is_dataclass(value):
            values[field.name] = _rebuilt(value, f"{name}.", arrays)
        elif isinstance(value, tuple):
            values[field.name] = value if events is None else events
        else:
            values[field.name] = _from_integers(arrays[name], value)
    return replace(node, **values)


def _to_integers(value: Any) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind == "f":
        return np.rint(array * GRID).astype("<i4")
    return array.astype("<i8") if array.ndim == 0 else array


def _from_integers(array: npt.NDArray[Any], like: Any) -> Any:
    if isinstance(like, int):
        return int(array)
    return array / GRID if like.dtype.kind == "f" else array


def _events_to_bytes(state: object) -> bytes:
    events = [
        [event.kind, event.scope.value, event.where, event.subject]
        for field in fields(state)  # type: ignore[arg-type]
        if isinstance(getattr(state, field.name), tuple)
        for event in getattr(state, field.name)
    ]
    return json.dumps(events, separators=(",", ":")).encode()


def _sealed(magic: bytes, body: bytes, events: bytes) -> bytes:
    head = struct.pack("<4sBII", magic, FORMAT, len(body), len(events))
    return head + body + events + struct.pack("<I", zlib.crc32(head + body + events))


def _opened(magic: bytes, data: bytes) -> tuple[bytes, tuple[Event, ...]]:
    size = struct.calcsize("<4sBII")
    if len(data) < size + 4 or data[:4] != magic or data[4] != FORMAT:
        raise ValueError(
            f"expected a {magic.decode()} snapshot of format {FORMAT}, got {data[:5]!r} and {len(data)} bytes"
        )
    *_, body_size, events_size = struct.unpack("<4sBII", data[:size])
    if len(data) != size + body_size + events_size + 4 or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise ValueError("the snapshot is damaged: its length or checksum is wrong")
    events = json.loads(data[size + body_size : -4])
    return data[size : size + body_size], tuple(Event(kind, Scope(scope), *where) for kind, scope, *where in events)
