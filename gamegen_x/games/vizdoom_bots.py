"""The habit of a duellist: walks about, turns away from walls, goes for the other player and shoots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gamegen_x.games.bots import Habit, Situation, command_keys
from gamegen_x.games.door import Keys


@dataclass(frozen=True)
class Duel:
    """Hunts for a while, wanders for a while. Needs the facts `position`, `angle` and `health` of VizdoomDuel.

    Commands are keys joined by "+"; of each list all are equally likely.
    """

    otherwise: Habit  # what it does while it wanders
    change_share: float  # of decisions, how many end the hunt, or begin it
    to_left: Sequence[str]  # when the other player is on the left, or when it ran into something and turns that way
    to_right: Sequence[str]
    ahead: Sequence[str]  # when the other player is ahead
    aim_degrees: float  # to either side, that count as ahead
    stuck_distance: float  # map units; who pressed a key and moved less has run into something
    turn_blocks: Sequence[int]  # how long it turns away

    def decide(self, situation: Situation) -> tuple[Keys, int]:
        rng, memory, facts = situation.rng, situation.memory, situation.facts
        place = facts["position"][situation.seat][:2].astype(np.float64)
        is_stuck = memory.get("is_walking", False) and np.abs(place - memory["place"]).max() < self.stuck_distance
        if rng.uniform() < self.change_share:
            memory["is_hunting"] = not memory.get("is_hunting", True)
        if is_stuck:
            keys = self._one_of(situation, self.to_left if rng.uniform() < 0.5 else self.to_right)
            num_blocks = int(rng.choice(list(self.turn_blocks)))
        elif memory.get("is_hunting", True) and (bearing := _bearing(situation)) is not None:
            far_left, far_right = bearing > self.aim_degrees, bearing < -self.aim_degrees
            keys = self._one_of(situation, self.to_left if far_left else self.to_right if far_right else self.ahead)
            num_blocks = 1
        else:
            keys, num_blocks = self.otherwise.decide(situation)
        memory["place"], memory["is_walking"] = place, bool(keys.any()) and not is_stuck
        return keys, num_blocks

    def _one_of(self, situation: Situation, commands: Sequence[str]) -> Keys:
        return command_keys(situation.keys, commands[int(situation.rng.integers(len(commands)))])


def _bearing(situation: Situation) -> float | None:
    """Degrees to the left of the view at which the nearest living other player stands, -180 to 180."""
    facts, seat = situation.facts, situation.seat
    ways = facts["position"][:, :2].astype(np.float64) - facts["position"][seat][:2]
    others = [number for number in range(len(ways)) if number != seat and facts["health"][number] > 0]
    if not others:
        return None
    x, y = min((ways[number] for number in others), key=lambda way: float(np.hypot(*way)))
    return float((np.degrees(np.arctan2(y, x)) - facts["angle"][seat] + 180) % 360 - 180)
