"""Sessions in virtual time on faulty lines, by the thousand: `python -m gamegen_x.serve.soak`. The last line is JSON.

Five parts: `sessions` (is everybody in step, whatever the lines do), `sync_test` (every tick taken back and played
again), `arrivals` (the same keys in any order), `quiet_hour` (no alarm where nothing is wrong), `switches` (the six
metrics with each idea of the sync plan on and off).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig

from gamegen_x.config import build, chosen, entry_point, nearest, to_dict
from gamegen_x.games.snowglobe import Snowglobe
from gamegen_x.games.snowglobe_conditions import INSTRUCTIONS
from gamegen_x.schema.files import atomic_file
from gamegen_x.serve.fault_link import LinkFaults
from gamegen_x.serve.inputs import bytes_of
from gamegen_x.serve.pebbles import WEATHERS, Pebbles
from gamegen_x.serve.played_world import PlayedWorld, TruthWorld
from gamegen_x.serve.protocol import PROTOCOL, Hello, Input
from gamegen_x.serve.rehearsal import Harness, Rehearsal, Report, Scenario
from gamegen_x.serve.room import FinalTick, Room, RoomRules

MISSED = 1  # exit status
PEBBLES, SNOWGLOBE = "pebbles", "snowglobe"
FAULTS_FOUND = ("num_unequal", "num_lost_events", "num_wrong_events", "num_false_alarms")


class Soak:
    """The parts, on worlds of one kind."""

    def __init__(self, harness: Harness, game: DictConfig, world: str, seed: int) -> None:
        if world not in (PEBBLES, SNOWGLOBE):
            raise ValueError(
                f"world={world}: there are {PEBBLES} and {SNOWGLOBE}{nearest(world, (PEBBLES, SNOWGLOBE))}"
            )
        self.harness, self.game, self.kind, self.seed = harness, game, world, seed
        self.sentences = WEATHERS if world == PEBBLES else tuple(INSTRUCTIONS)
        self._games: dict[int, Snowglobe] = {}

    def world(self, num_players: int, seed: int) -> PlayedWorld:
        if self.kind == PEBBLES:
            return Pebbles(num_players, seed)
        if num_players not in self._games:
            self._games[num_players] = build(self.game, num_players=num_players)
        return TruthWorld(self._games[num_players], seed)

    def sessions(
        self,
        sessions: int,
        num_ticks: int,
        num_players: Sequence[int],
        lines: Mapping[str, Any],
        blackout: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Every session has its own number of players, lines and cuts, drawn from its seed."""
        total: dict[str, Any] = dict.fromkeys(("in_step", "compared", "final", "events", "rollbacks", "reconnects"), 0)
        total |= dict.fromkeys(FAULTS_FOUND, 0)
        out_of_step = []
        for number in range(sessions):
            scenario = self._scenario(number, num_ticks, lines, blackout)
            report = self.play(scenario, int(np.random.default_rng([self.seed, number]).choice(list(num_players))))
            total["in_step"] += report.is_in_step
            total["compared"] += report.num_compared
            total["final"] += report.num_final
            total["events"] += report.num_events
            total["rollbacks"] += report.num_rollbacks
            total["reconnects"] += report.num_reconnects
            for name in FAULTS_FOUND:
                total[name] += getattr(report, name)
            if not report.is_in_step:
                out_of_step.append(number)
            if (number + 1) % 100 == 0:
                print(
                    f"{number + 1} of {sessions} sessions, {len(out_of_step)} out of step", file=sys.stderr, flush=True
                )
        return {"sessions": sessions, **total, "out_of_step": out_of_step[:20], "is_passed": not out_of_step}

    def play(self, scenario: Scenario, num_players: int, harness: Harness | None = None) -> Report:
        return Rehearsal(self.world(num_players, scenario.seed), harness or self.harness, scenario).run()

    def sync_test(self, num_ticks: int, distances: Sequence[int], num_players: int) -> dict[str, Any]:
        unequal = {
            distance: sync_test(self.world(num_players, self.seed), self.harness.room, distance, num_ticks, self.seed)
            for distance in distances
        }
        return {
            "ticks": num_ticks,
            "distances": list(distances),
            "unequal": sum(unequal.values()),
            "is_passed": not any(unequal.values()),
        }

    def arrivals(self, examples: int, num_ticks: int, num_players: int) -> dict[str, Any]:
        """The same keys in any order: early, late, doubled."""
        unequal = sum(
            shuffled_arrivals(self.world(num_players, seed), self.harness.room, num_ticks, seed)
            for seed in range(self.seed, self.seed + examples)
        )
        return {"examples": examples, "ticks": examples * num_ticks, "unequal": unequal, "is_passed": unequal == 0}

    def quiet_hour(self, minutes: float, num_players: int, line: Mapping[str, Any]) -> dict[str, Any]:
        faults = LinkFaults(**line)
        world = self.world(num_players, self.seed)
        ticks = round(minutes * 60 * world.fps)
        scenario = Scenario(self.seed, ticks, faults, faults, sentences=self.sentences)
        report = Rehearsal(world, self.harness, scenario).run()
        return {
            "ticks": ticks,
            "hashes_compared": report.num_hashes,
            "false_alarms": report.num_false_alarms,
            "is_passed": report.is_in_step and report.num_false_alarms == 0,
        }

    def switches(
        self,
        num_ticks: int,
        num_players: int,
        line: Mapping[str, Any],
        work: float,
        changes: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        """The six metrics with everything on, and with each idea off."""
        faults = LinkFaults(**line)
        scenario = Scenario(self.seed, num_ticks, faults, faults, sentences=self.sentences, work=work)
        rows: dict[str, Any] = {}
        for name, change in {"all on": {}, **changes}.items():
            sync = replace(self.harness.room.sync, **change)
            harness = replace(self.harness, room=replace(self.harness.room, sync=sync))
            report = self.play(scenario, num_players, harness)
            rows[name] = {key: round(value, 2) for key, value in report.metrics.items()}
        print(_table(rows), flush=True)
        return {"rows": rows, "is_passed": True}

    def _scenario(self, number: int, num_ticks: int, lines: Mapping[str, Any], blackout: Mapping[str, Any]) -> Scenario:
        rng = np.random.default_rng([self.seed, number, 1])

        def faults() -> LinkFaults:
            is_stream = bool(rng.uniform() < lines["stream_share"])
            return LinkFaults(
                delay=float(rng.choice(lines["delay"])),
                jitter=float(rng.choice(lines["jitter"])),
                loss=float(rng.choice(lines["loss"])),
                duplicate=float(rng.choice(lines["duplicate"])),
                reorder=float(rng.choice(lines["reorder"])),
                is_stream=is_stream,
            )

        is_cut = rng.uniform() < blackout["share"]
        begin = float(rng.uniform(24, 96))
        cuts = ((int(rng.integers(2)), begin, begin + blackout["ticks"]),) if is_cut else ()
        ticks = num_ticks + (blackout["ticks"] if is_cut else 0)
        return Scenario(number, ticks, faults(), faults(), cuts, self.sentences)


def sync_test(world: PlayedWorld, rules: RoomRules, distance: int, num_ticks: int, seed: int) -> int:
    """Everybody's keys come `distance` ticks late, so that every tick is guessed, taken back and played again.

    Gives the number of ticks whose final state is not that of a world which had all keys in time.
    """
    rng = np.random.default_rng([seed, distance])
    keys = rng.integers(0, 1 << world.keys.num_keys, (num_ticks, world.num_players))
    arrivals = {tick + distance: [(seat, tick) for seat in range(world.num_players)] for tick in range(num_ticks)}
    return _num_unequal(world, rules, keys, arrivals)


def shuffled_arrivals(world: PlayedWorld, rules: RoomRules, num_ticks: int, seed: int) -> int:
    """As `sync_test`, but the keys of each tick come at a moment of their own, early or late, once or twice."""
    rng = np.random.default_rng([seed, 99])
    keys = rng.integers(0, 1 << world.keys.num_keys, (num_ticks, world.num_players))
    arrivals: dict[int, list[tuple[int, int]]] = {}
    for tick in range(num_ticks):
        for seat in range(world.num_players):
            for late in rng.integers(-4, rules.ticks_late - 1, rng.integers(1, 3)):
                arrivals.setdefault(max(0, tick + int(late)), []).append((seat, tick))
    for arriving in arrivals.values():
        rng.shuffle(arriving)
    return _num_unequal(world, rules, keys, arrivals)


def _num_unequal(
    world: PlayedWorld, rules: RoomRules, keys: npt.NDArray[np.int64], arrivals: Mapping[int, list[tuple[int, int]]]
) -> int:
    """Final ticks of a room that are not those of a world which had all `keys` `[t p]` in time.

    `arrivals` says which (seat, tick) come after a tick.
    """
    finals: list[FinalTick] = []
    room = Room("sync-test", world, rules, on_final=finals.append)
    seats = [room.join(Hello(PROTOCOL, "sync-test"), 0.0)[0] for _ in range(world.num_players)]
    count = 0
    for tick in range(len(keys) + rules.ticks_late):
        room.advance(float(tick))
        for number, which in arrivals.get(tick, []):
            count += 1
            held = bytes_of([int(keys[which, number])])
            seat = seats[number]
            room.receive(seat, Input(count, which, number, held, tick, seat.last_event, 0, 0.0), tick + 0.5)
    state, unequal = world.start(), 0
    places = np.arange(world.keys.num_keys)
    for tick, held in enumerate(keys[: len(keys) - 1]):
        state = world.advanced(state, (held[:, None] >> places & 1).astype(np.uint8))
        is_final = tick < len(finals)
        unequal += not is_final or finals[tick].hash != room.codec.pack(tick, state).hash
    return unequal


def _table(rows: Mapping[str, Mapping[str, float]]) -> str:
    names = list(next(iter(rows.values())))
    cells = [["", *names], *([name, *(f"{row[column]:g}" for column in names)] for name, row in rows.items())]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names) + 1)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


@entry_point("soak")
def main(cfg: DictConfig) -> None:
    parts = ("sessions", "sync_test", "arrivals", "quiet_hour", "switches")
    asked = chosen(cfg.only or None, parts, "part")
    soak = Soak(build(cfg.room), cfg.game, cfg.world, cfg.seed)
    settings = to_dict(cfg)
    figures: dict[str, Any] = {"world": cfg.world}
    for part in asked:
        start = time.process_time()
        own = {"sessions": cfg.sessions, **settings["in_sessions"]} if part == "sessions" else settings[part]
        figures[part] = getattr(soak, part)(**own)
        figures[part]["cpu_s"] = round(time.process_time() - start, 1)
    figures["is_passed"] = all(figures[part]["is_passed"] for part in asked)
    with atomic_file(Path(cfg.output) / "figures.json") as path:
        path.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))
    if not figures["is_passed"]:
        sys.exit(MISSED)


if __name__ == "__main__":
    main()
