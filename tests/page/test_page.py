"""The page's own tests, run by node; and what Python says, for them to compare with."""

import json
import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, build
from gamegen_x.serve.delta import StateCodec
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.pebbles import Pebbles
from gamegen_x.serve.played_world import TruthWorld
from gamegen_x.serve.protocol import (
    CLIENT_MESSAGES,
    MAX_INPUT_COPIES,
    PROTOCOL,
    SERVER_MESSAGES,
    Ack,
    Delta,
    Error,
    EventMessage,
    Frame,
    HashReport,
    Hello,
    Input,
    Leave,
    Ping,
    Pong,
    Resync,
    ResyncReason,
    Role,
    Text,
    encode,
    tag_of,
)

HERE = Path(__file__).parent
FIRST_THAT_TELLS_MODULES = (20, 19)  # node finds out by itself that a .js file is a module
SAID = [
    Hello(PROTOCOL, "snow-hill", Role.PLAYER, "t", "r", 7),
    Input(7, 41, 1, b"\x01\x00\x05\x00", 38, 3, 9, 1.5),
    Input(300, -1, 1, b"\x01\x00", -1, 0, 0, 2.0),
    Text(2, "Let it snow – now."),
    Ack(3, 4, 5, 0.5, 1.0),
    Ping(12.0),
    HashReport(40, 2**32 - 1),
    Resync(ResyncReason.BASE),
    Leave(),
]
ANSWERED = [
    Delta(70000, 69990, b"\x01\x02", 2**31 + 5, -1, 3, 4, -7, 1),
    Frame(3, 40, 1, "jpeg", True, 39, 123.5, b"\xff\xd8"),
    EventMessage(9, 40, "joined", "room", -1, 2, "ä"),
    Pong(1.5, 2.0, 2.5, 40.25),
    Error(ErrorCode.ROOM_FULL, "every seat is taken", "", True, 5000),
]


def as_json(message):
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    plain = {name: value.value if hasattr(value, "value") else value for name, value in values.items()}
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in plain.items()}


def some(message):
    return {name: value for name, value in as_json(message).items() if name not in ("blob", "payload")}


def camel_case(name):
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def played(world, held_by_chance):
    codec, states, base = StateCodec.of_state(world.start()), [], None
    state, rng = world.start(), np.random.default_rng(1)
    for tick in range(12):
        state = world.advanced(state, held_by_chance(rng))
        new = codec.pack(tick, state)
        blob = codec.difference(base, new)
        states.append(
            {
                "tick": tick,
                "base": None if base is None else base.tick,
                "blob": blob.hex(),
                "hash": new.hash,
                "vector": codec.unpacked(new).tolist(),
            }
        )
        if tick % 3 == 0:
            base = new
    layout = [msgspec.to_builtins(leaf) for leaf in codec.layout]
    return {"layout": layout, "states": states}


@pytest.fixture
def fixtures(tmp_path):
    def keys(num_keys):
        return lambda rng: (rng.random((2, num_keys)) < 0.3).astype(np.uint8)

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("serve", ["game.num_players=2"])
    snowglobe, rules = TruthWorld(build(cfg.game), seed=5), build(cfg.room).client
    said = {
        "fields": {
            "client": {str(tag_of(kind)): list(kind.__struct_fields__) for kind in CLIENT_MESSAGES},
            "server": {str(tag_of(kind)): list(kind.__struct_fields__) for kind in SERVER_MESSAGES},
        },
        "client": [
            {"kind": type(each).__name__, "message": as_json(each), "packed": encode(each).hex()} for each in SAID
        ],
        "server": [
            {"type": type(each).__name__.removesuffix("Message"), "packed": encode(each).hex(), "some": some(each)}
            for each in ANSWERED
        ],
        "client_rules": {camel_case(name): value for name, value in asdict(rules).items()}
        | {"maxCopies": MAX_INPUT_COPIES},
        "worlds": [played(snowglobe, keys(7)), played(Pebbles(2, seed=3), keys(6))],
    }
    path = tmp_path / "fixtures.json"
    path.write_text(json.dumps(said))
    return path


def test_the_page_keeps_its_word(fixtures):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < FIRST_THAT_TELLS_MODULES:
        pytest.skip(f"node {version.strip()} is older than {FIRST_THAT_TELLS_MODULES}")
    files = sorted(str(path) for path in HERE.glob("*.test.js"))
    command = [node, "--test", "--test-reporter=tap", *files]
    ran = subprocess.run(command, capture_output=True, text=True, env={"GGX_FIXTURES": str(fixtures)}, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "# skipped 0" in ran.stdout
