import contextlib
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Caption, Instruction
from gamegen_x.schema.control_signal import ControlSignal
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.shard_record import ShardRecord
from gamegen_x.schema.trace import TextEvent, Trace

SPACE = ActionSpace("test", ("w", "a", "s", "d", "space"))
multi_hots = st.lists(st.lists(st.integers(0, 1), min_size=5, max_size=5), min_size=1, max_size=12)


@given(st.sets(st.sampled_from(SPACE.keys)))
def test_held_keys_survive_the_vector(held):
    assert set(SPACE.decode(SPACE.encode(held))) == held


@given(multi_hots)
def test_actions_survive_the_key_string(rows):
    actions = np.array(rows, np.uint8)
    assert np.array_equal(SPACE.parse(SPACE.format(actions)), actions)


def test_a_key_string_is_read_in_any_case():
    assert SPACE.format(SPACE.parse("W*2 w+D _*3")) == "w*2 w+d*1 _*3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spce", "did you mean 'space'"),
        ("w*x", "cannot read"),
        ("", "empty"),
        ("w*0", "empty"),
        ("w+fly*3", "unknown key 'fly'"),
        ("w24", r"W\*24"),
        ("w*4 d*1000000000000", "more than 1000000 frames"),
    ],
)
def test_a_wrong_key_string_is_refused_with_what_is_known(text, message):
    with pytest.raises(ValueError, match=message):
        SPACE.parse(text)


def test_an_action_space_survives_json():
    assert ActionSpace.from_dict(json.loads(json.dumps(SPACE.to_dict()))) == SPACE


@pytest.mark.parametrize("keys", [(), ("w", "W"), ("a+b",), ("_",)])
def test_an_action_space_with_unusable_keys_is_refused(keys):
    with pytest.raises(ValueError, match="key"):
        ActionSpace("bad", keys)


def test_a_sentence_is_heard_in_the_middle_or_where_it_was_asked_for_and_never_after_the_end():
    assert Instruction.said("Snow.", None, 48) == Instruction("Snow.", 24)
    assert Instruction.said("Snow.", None, 48, num_given=16) == Instruction("Snow.", 32)
    assert Instruction.said("Snow.", 3, 48) == Instruction("Snow.", 3)
    assert Instruction.said("", 48, 48) is None
    with pytest.raises(ValueError, match="instruction_frame=48 is beyond the clip, whose 48 frames are 0 to 47"):
        Instruction.said("Snow.", 48, 48)


def test_captions_and_instructions_keep_the_papers_lengths():
    with pytest.raises(ValueError, match="1 to 20 words, got 21"):
        Caption(summary="word " * 21)
    with pytest.raises(ValueError, match="1 to 15 words, got 16"):
        Instruction("word " * 16, 0)
    with pytest.raises(ValueError, match="frame 0 or later"):
        Instruction("Let it snow.", -1)
    caption = Caption(summary="A red player walks.", misc="overhead")
    assert Caption.from_dict(json.loads(json.dumps(caption.to_dict()))) == caption


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.sampled_from(SPACE.keys)),
    st.booleans(),
    st.text(max_size=20),
)
def test_a_control_signal_survives_the_wire(timestamp, keys, is_down, text):
    signal = ControlSignal(timestamp, tuple(keys), is_down, text, {"strength": 1})
    assert ControlSignal.from_json(signal.to_json()) == signal


@pytest.mark.parametrize(
    "message",
    [
        "not json", "[]", '{"type":"chat"}', '{"type":"control"}', '{"type":"control","timestamp":true}',
        '{"type":"control","timestamp":NaN}', '{"type":"control","timestamp":1,"keyboard":[]}',
        '{"type":"control","timestamp":1,"keyboard":{"keys":"w"}}',
        '{"type":"control","timestamp":1,"keyboard":{"keys":["w"],"state":1}}',
        '{"type":"control","timestamp":1,"instruction":{"text":5}}',
        '{"type":"control","timestamp":1,"instruction":{"text":"snow \\ud800"}}', b"\xff\xfe", "[" * 100_000,
    ],
)  # fmt: skip
def test_a_malformed_control_signal_is_a_value_error(message):
    with pytest.raises(ValueError):
        ControlSignal.from_json(message)


def a_record(**changes):
    values = {
        "key": "clip-000",
        "videos": (b"one", b"two"),
        "num_frames": 4,
        "height": 64,
        "width": 64,
        "fps": 24.0,
        "action_space": SPACE,
        "actions": np.eye(4, 10, dtype=np.uint8).reshape(4, 2, 5),
        "caption": Caption(summary="Two players meet."),
        "source": "snowglobe",
        "instructions": (Instruction("Let it snow.", 2),),
        "scores": {"motion": 0.25},
        "state": {"weather": np.arange(4, dtype=np.uint8)},
        "facts": {"weather": ("clear", "rain")},
    }
    return ShardRecord(**{**values, **changes})


def test_a_record_survives_its_members():
    record = a_record()
    read = ShardRecord.from_sample(record.to_sample())
    assert np.array_equal(read.actions, record.actions)
    assert np.array_equal(read.state["weather"], record.state["weather"])
    for name in ("key", "videos", "caption", "instructions", "scores", "facts", "action_space", "fps"):
        assert getattr(read, name) == getattr(record, name), name


@pytest.mark.parametrize("member", ["json", "actions.npy", "state.npz"])
def test_a_record_with_damaged_bytes_is_read_or_a_value_error(member):
    sample, draw = a_record().to_sample(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(sample[member])
        for _ in range(draw.choice((1, 2, 8))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with contextlib.suppress(ValueError):
            ShardRecord.from_sample({**sample, member: bytes(damaged)})


@pytest.mark.parametrize("member", ["json", "actions.npy", "view0.mp4", "view1.mp4"])
def test_a_missing_member_is_named(member):
    sample = a_record().to_sample()
    del sample[member]
    with pytest.raises(ValueError, match=r"clip-000.*(missing)"):
        ShardRecord.from_sample(sample)


def test_a_pickle_in_a_shard_is_refused(tmp_path):
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    import pickle

    for payload in (pickle.dumps(Bomb()), b"\x93NUMPY\x01\x00broken", b""):
        sample = a_record().to_sample()
        sample["actions.npy"] = payload
        with pytest.raises(ValueError, match="clip-000"):
            ShardRecord.from_sample(sample)
    assert not canary.exists()


def test_actions_of_a_wrong_shape_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(4, 2, 5\), got \(4, 1, 5\)"):
        a_record(actions=np.zeros((4, 1, 5), np.uint8))


def a_trace(folder):
    actions = np.zeros((4, 1, 5), np.uint8)
    actions[1:3, 0, 0] = 1
    return Trace(
        folder=folder,
        game="snowglobe",
        seed=7,
        fps=24.0,
        action_space=SPACE,
        players=("ab12",),
        actions=actions,
        state={"pose": np.zeros((4, 1, 3, 3), np.float32)},
        text_events=(TextEvent(2, 0, "Let it snow."),),
        facts={"weather": ("clear", "snow")},
        outcome={"score": 1},
    )


def test_a_trace_survives_its_folder(tmp_path):
    trace = a_trace(tmp_path / "t")
    trace.save()
    read = Trace.load(tmp_path / "t")
    assert np.array_equal(read.actions, trace.actions)
    for name in ("game", "seed", "players", "text_events", "facts", "outcome", "action_space"):
        assert getattr(read, name) == getattr(trace, name), name


def test_a_trace_tells_when_keys_go_down_and_up(tmp_path):
    a_trace(tmp_path).save()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    keys = [(event["frame"], event["key"], event["is_down"]) for event in events if event["type"] == "key"]
    assert keys == [(1, "w", True), (3, "w", False)]


@pytest.mark.parametrize("name", ["trace.json", "events.jsonl", "actions.npy", "state.npz"])
def test_an_unfinished_or_damaged_trace_names_its_file(tmp_path, name):
    a_trace(tmp_path).save()
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(ValueError, match="not a readable trace"):
        Trace.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"not a finished trace: {name} is missing"):
        Trace.load(tmp_path)


def half_written(path):
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        temporary.write_text(str(1 / 0))


def test_a_file_may_be_read_by_whoever_reads_others_here(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_file(tmp_path / "secret") as temporary:
        temporary.touch(mode=0o600)
    assert (tmp_path / "secret").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "value.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(ZeroDivisionError):
        half_written(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
