"""The wire: what is said arrives, and whatever else arrives is refused with a code and the field at fault."""

import json
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode

from gamegen_x.schema.control_signal import ControlSignal
from gamegen_x.serve import wire_docs
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.protocol import (
    CLIENT_MESSAGES,
    MAX_CLIENT_BYTES,
    SERVER_MESSAGES,
    Ack,
    Hello,
    Input,
    Role,
    Text,
    WireError,
    decode_client,
    decode_server,
    encode,
    encode_text,
    error,
    tag_of,
)

PRESS = Input(seq=7, tick=41, seat=1, keys=b"\x01\x00\x05\x00", ack_state=38, ack_event=3, ack_frame=9, t_client=1.5)
packed = msgspec.msgpack.encode


def refused(data):
    with pytest.raises(WireError) as caught:
        decode_client(data)
    return caught.value


def test_a_message_is_the_same_after_the_wire_as_bytes_and_as_text():
    assert decode_client(encode(PRESS)) == PRESS
    assert decode_client(encode_text(PRESS)) == PRESS
    assert decode_server(encode(error(ErrorCode.ROOM_FULL))).is_retryable


def test_four_ticks_of_keys_take_less_than_forty_bytes():
    assert len(encode(msgspec.structs.replace(PRESS, seq=100_000, tick=100_000, keys=bytes(8)))) < 40


def test_fields_with_a_default_may_be_left_out_at_the_end():
    assert decode_client(packed([1, "ggx.v1", "cave"])) == Hello("ggx.v1", "cave", Role.PLAYER)


def test_the_control_signal_of_the_schema_is_understood():
    signal = ControlSignal(1.25, ("w",), True, "let it snow")
    assert decode_client(signal.to_json()) == signal


def code_of(data):
    """None where it is a message."""
    try:
        decode_client(data)
    except WireError as mistake:
        return mistake.to_message().code
    return None


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", ""),
        (packed([2, 1, 2**40, 0, b"ab", 0, 0, 0, 0.0]), "tick"),
        (packed([2, 1, 2, 0, b"ab", 0, 0, 0, float("nan")]), "t_client"),
        (packed([2, 1, 2, 0, b"ab", 0, 0, 0, float("inf")]), "t_client"),
        (packed([2, 1, 2, 0, b"abc", 0, 0, 0, 0.0]), "keys"),
        (packed([2, 1, 2, 0, b"", 0, 0, 0, 0.0]), "keys"),
        (packed([2, -1, 2, 0, b"ab", 0, 0, 0, 0.0]), "seq"),
        (packed([2, True, 2, 0, b"ab", 0, 0, 0, 0.0]), "seq"),
        (packed([2, 1, 2, 0, "ab", 0, 0, 0, 0.0]), "keys"),
        (packed([99]), "kind"),
        (packed({"kind": 1}), ""),
        (packed([1, "ggx.v1", "cave", "king"]), "role"),
        (packed([1, "x" * 65, "cave"]), "protocol"),
        (packed([3, 1, "x" * 513]), "text"),
        (packed([3, 1, "let it\x00snow"]), "text"),
        (packed([3, 1, ""]), "text"),
        (packed([3, 1, "snow", "more"]), ""),
        (encode(PRESS)[:-3], ""),
        (encode(PRESS) + b"x", ""),
        (b"\x93\x03\x01\xa2\xff\xfe", ""),
        (b"\x91" * 4000, "kind"),
        (b"\x92\x05" + b"\x91" * 3000, "t0"),
        ("[5,NaN]", ""),
        ("[5,1e999]", "t0"),
        ("[" * 4000, ""),
        ("[5,\ud800]", ""),
        ('{"type":"control","timestamp":1' + "0" * 400 + "}", "timestamp"),
        ('{"type":"control","timestamp":true}', "timestamp"),
        ('{"type":"control","timestamp":1,"keyboard":{"keys":[1]}}', "keyboard.keys"),
        ('{"type":"control","timestamp":1,"instruction":{"text":"a\\u0000"}}', "instruction.text"),
        ('{"type":"control","timestamp":' + "[" * 3000, ""),
        ('{"type":"contro', ""),
    ],
)
def test_what_is_no_message_is_refused_with_the_field_at_fault(data, field):
    mistake = refused(data)
    assert mistake.code is ErrorCode.MALFORMED
    assert mistake.field == field
    assert "Traceback" not in mistake.to_message().message


def test_what_is_too_long_is_refused_before_it_is_read():
    assert refused(packed([3, 1, "x" * MAX_CLIENT_BYTES])).code is ErrorCode.TOO_LARGE


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
near_misses = st.builds(lambda tag, rest: [tag, *rest], st.integers(0, 30), st.lists(anything, max_size=10))


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=200), near_misses.map(packed), anything.map(packed), st.text(max_size=200)))
def test_whatever_comes_is_a_message_or_a_refusal(data):
    assert code_of(data) in (None, ErrorCode.MALFORMED, ErrorCode.TOO_LARGE)


@settings(max_examples=100)
@given(st.integers(0, 40), st.integers(0, 255))
def test_a_flipped_byte_is_a_message_or_a_refusal(place, value):
    data = bytearray(encode(PRESS))
    data[place % len(data)] = value
    assert code_of(bytes(data)) in (None, ErrorCode.MALFORMED)


def test_every_error_code_says_what_it_means_and_the_close_codes_are_private_or_registered():
    closes = [code.meaning.close for code in ErrorCode if code.meaning.close]
    assert all(code.meaning.said for code in ErrorCode)
    assert all(4400 <= close < 4600 for close in closes if close != CloseCode.SERVICE_RESTART)
    assert len(set(closes)) == len(closes)


def test_no_two_kinds_have_one_number():
    numbers = [tag_of(kind) for kind in (*CLIENT_MESSAGES, *SERVER_MESSAGES)]
    assert len(set(numbers)) == len(numbers)


def test_the_page_says_what_the_types_say():
    assert wire_docs.PAGE.read_text() == wire_docs.page(), "run python -m gamegen_x.serve.wire_docs"


def test_the_page_names_every_field_and_its_example_is_a_message():
    page = wire_docs.page()
    for kind in (*CLIENT_MESSAGES, *SERVER_MESSAGES):
        assert f"### {tag_of(kind)} {kind.__name__}" in page
        for name in kind.__struct_fields__:
            assert f"| `{name}` |" in page
    example = re.search(r"```json\n(.*?)\n```", page, re.DOTALL)[1]
    assert decode_client(example).keys == tuple(json.loads(example)["keyboard"]["keys"])


def test_text_of_any_language_arrives():
    assert decode_client(encode(Text(1, "يتساقط الثلج ❄"))).text == "يتساقط الثلج ❄"
    assert decode_client(encode(Ack(3, 4, 5))).decode_ms == 0
