"""Playing together: bytes a tick and time a state of what travels, beside the whole state as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from omegaconf import DictConfig

from benchmarks.measuring import Ratio, Rule, run_in_turn, times_faster
from benchmarks.played import played
from benchmarks.rows import Row
from gamegen_x.serve.delta import Packed, StateCodec
from gamegen_x.serve.protocol import Delta, Message, decode_server, encode
from gamegen_x.world.sphere import frame_at, moved, random_directions
from gamegen_x.world.state import Entities, WorldState

PEER = "JSON of the whole state"


def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    _, states = played(settings.num_players, settings.num_ticks, rule.seed)
    return [_size_row(states, settings), *_time_rows(_crowded(states, settings, rule), settings, rule)]


def _crowded(states: list[WorldState], settings: DictConfig, rule: Rule) -> list[WorldState]:
    """The same states with so many things in them, some of which move."""
    rng = np.random.default_rng(rule.seed)
    count, movers = settings.num_entities, settings.num_moving
    frames = np.stack([frame_at(place, 0.0) for place in random_directions(rng, count)])
    zeros = np.zeros(count, np.int32)
    crowded = []
    for state in states:
        frames = frames.copy()
        frames[:movers] = moved(frames[:movers], np.full(movers, 0.02), np.zeros(movers))
        crowded.append(replace(state, entities=Entities(zeros + 1, frames, zeros, zeros - 1)))
    return crowded


def _size_row(states: list[WorldState], settings: DictConfig) -> Row:
    """A Delta against a state some ticks old, as it is while acknowledgements travel."""
    codec = StateCodec.of_state(states[0])
    packed = [codec.pack(tick, state) for tick, state in enumerate(states)]
    pairs = list(zip(packed, packed[settings.ack_ticks :], strict=False))
    ours = float(np.mean([len(encode(_delta(codec, base, new))) for base, new in pairs]))
    peer = float(np.mean([len(_json(codec, new)) for _, new in pairs]))
    smaller = Ratio(peer / ours, peer / ours, peer / ours)
    note = f"{settings.num_players} players, base {settings.ack_ticks} ticks old, whole message"
    return Row("sync", "delta_bytes", "bytes/tick", ours, PEER, peer, smaller, settings.targets.times_smaller, note)


def _time_rows(states: list[WorldState], settings: DictConfig, rule: Rule) -> list[Row]:
    codec = StateCodec.of_state(states[0])
    packed = [codec.pack(tick, state) for tick, state in enumerate(states)]
    messages = [encode(_delta(codec, base, new)) for base, new in pairwise(packed)]
    texts = [_json(codec, each) for each in packed[1:]]

    def write_and_read() -> None:
        for base, state, data in zip(packed, states[1:], messages, strict=False):
            encode(_delta(codec, base, codec.pack(base.tick + 1, state)))
            message = decode_server(data)
            assert isinstance(message, Delta)
            codec.apply(base, message.tick, message.blob)

    def write_and_read_json() -> None:
        for each, text in zip(packed[1:], texts, strict=True):
            _json(codec, each)
            json.loads(text)

    rounds = run_in_turn({"ours": write_and_read, PEER: write_and_read_json}, rule)
    microseconds = {name: 1e6 * rounds.median(name) / len(messages) for name in ("ours", PEER)}
    note = f"{settings.num_entities} things, {settings.num_moving} of them moving; pack, write, read and hash. "
    budget = Row(
        "sync", "states_a_second", "states/s", 1e6 / microseconds["ours"], target=1e6 / settings.targets.max_us,
        note=f"{note}{microseconds['ours']:.0f} us a state of {settings.targets.max_us:g}. {rounds.note()}",
    )  # fmt: skip
    ratio = times_faster(rounds, "ours", PEER, rule)
    return [budget, Row("sync", "delta_us", "us", microseconds["ours"], PEER, microseconds[PEER], ratio, note=note)]


def _delta(codec: StateCodec, base: Packed, new: Packed) -> Message:
    return Delta(new.tick, base.tick, codec.difference(base, new), new.hash, new.tick - 2, 9, new.tick + 1, 1, 0)


def _json(codec: StateCodec, packed: Packed) -> str:
    arrays: dict[str, Any] = {name: array.tolist() for name, array in codec.arrays(packed).items()}
    return json.dumps(arrays, separators=(",", ":"))
