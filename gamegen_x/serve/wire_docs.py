"""Writes docs/wire.md from the types of the protocol: `python -m gamegen_x.serve.wire_docs`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from gamegen_x.schema.files import atomic_file
from gamegen_x.serve import protocol
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.protocol import CLIENT_MESSAGES, PROTOCOL, SERVER_MESSAGES, Leaf, Limits, Message, tag_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "wire.md"
_FIELD = re.compile(r"^    (\w+): [^#]*?(?:  # (.*))?$", re.MULTILINE)

INTRODUCTION = f"""\
# The wire `{PROTOCOL}`

Generated from `gamegen_x/serve/protocol.py` by `python -m gamegen_x.serve.wire_docs`: change it there.

Subprotocol `{PROTOCOL}` of a WebSocket. A message is an array; its first item is the number of its kind, the others are
its fields in the order below. Fields with a default may be left out at the end; nothing may be added. Binary frames
hold MessagePack, text frames the same array as JSON (with bytes as base64), and the server answers in the form of the
Hello. A client's message has at most {protocol.MAX_CLIENT_BYTES} bytes. A message of the server that a client does not
know is to be skipped.

A text frame that holds a JSON *object* is the control signal of `gamegen_x/schema/control_signal.py`, for those who
want to press a key from a shell:

```json
{{"type": "control", "timestamp": 1.25, "keyboard": {{"keys": ["w"], "state": true}},
 "instruction": {{"text": "Let it snow.", "parameters": {{}}}}}}
```

Its keys act from the next tick that the room has not begun, and stay down until a signal with `"state": false`.

Ticks count the video frames of the world from 0. Times in milliseconds are of a clock that never jumps.
"""

STATES = """\
## States

`Welcome.layout` lists the arrays of a state. All their numbers, one array after the other in C order, are one vector of
32-bit integers; fractions count 1/2^28. The vector is *folded*: in every 3x3 of an `axes` array, with columns right, up
and position, the position is replaced by what remains of it after subtracting the product of the others,
`position - rint((right x up) / 2^28)`, where each of the three products is `a*b - c*d` in doubles. Axes are nearly
orthonormal, so what remains is a few units. All integers wrap around at 32 bits.

`hash` is xxh32, seed 0, over the folded vector's little-endian bytes. A `blob` says how to make the folded vector of a
tick from that of its `base` (zeros for a Keyframe) by adding differences:

1. a bit for each group of eight numbers, least significant first: 1 where something in it changed;
2. a byte for each such group, with a bit for each of its numbers;
3. two bits for each changed number, least significant first, filled up to whole bytes: the width of its difference
   in bytes, less one;
4. each difference in its width; signed, little-endian, in their order.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            INTRODUCTION,
            "## From a client\n",
            *(_section(kind) for kind in CLIENT_MESSAGES),
            "## From the server\n",
            *(_section(kind) for kind in SERVER_MESSAGES),
            "## Parts of messages\n",
            *(_section(kind) for kind in (Leaf, Limits)),
            STATES,
            _errors(),
        ]
    )


def _section(kind: type[Message]) -> str:
    number = f"{tag_of(kind)} " if kind.__struct_config__.tag is not None else ""
    lines = [f"### {number}{kind.__name__}\n", inspect.cleandoc(kind.__doc__ or ""), ""]
    fields = msgspec.structs.fields(kind)
    if fields:
        comments = dict(_comments(kind))
        lines += ["| | field | type | default | |", "|---|---|---|---|---|"]
        for place, field in enumerate(fields, 1 if number else 0):
            default = "" if field.required else f"`{_plain(field.default)}`"
            said = comments[field.name].replace("|", "\\|")
            lines.append(f"| {place} | `{field.name}` | {_type(field.type)} | {default} | {said} |")
        lines.append("")
    return "\n".join(lines)


def _comments(kind: type[Message]) -> Iterator[tuple[str, str]]:
    """What the source says behind each field."""
    yield from _FIELD.findall(inspect.getsource(kind))


def _type(annotation: Any) -> str:
    info = msgspec.inspect.type_info(annotation)
    return _described(info)


def _described(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.IntType(ge=low, le=high):
            return "integer" if low is None else f"integer, {low} to {high}"
        case msgspec.inspect.FloatType(ge=low, le=high):
            return "number" if low is None else f"number, {low} to {high:g}"
        case msgspec.inspect.StrType(min_length=low, max_length=high, pattern=pattern):
            size = "" if high is None else f", {f'{low} to' if low else 'at most'} {high} characters"
            return f"text{size}{', no control characters' if pattern else ''}"
        case msgspec.inspect.BytesType(min_length=low, max_length=high):
            return "bytes" if high is None else f"bytes, {low} to {high}"
        case msgspec.inspect.EnumType(cls=choices):
            return f"[{choices.__name__}](#errors)" if choices is ErrorCode else _choices(choices)
        case msgspec.inspect.VarTupleType(item_type=item):
            return f"array of {_described(item)}"
        case msgspec.inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case msgspec.inspect.DictType():
            return "map of facts"
        case msgspec.inspect.BoolType():
            return "truth"
    raise ValueError(f"docs/wire.md has no words for {info}; add them to _described")


def _choices(enum: type[Enum]) -> str:
    return " or ".join(f'"{choice.value}"' for choice in enum)


def _plain(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else '""' if value == "" else value)


def _errors() -> str:
    lines = [
        "## Errors\n",
        "The codes of `Error.code`. Where a close code is given, the socket is closed with it after the Error.",
        "",
        "| code | retryable | close | |",
        "|---|---|---|---|",
    ]
    for code in ErrorCode:
        meaning = code.meaning
        retry = "yes" if meaning.is_retryable else "no"
        lines.append(f"| `{code.value}` | {retry} | {meaning.close or ''} | {meaning.said} |")
    return "\n".join([*lines, ""])


def main() -> None:
    with atomic_file(PAGE) as path:
        path.write_text(page())
    print(PAGE)


if __name__ == "__main__":
    main()
