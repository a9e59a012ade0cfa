"""What there is to see of a state: players, snowballs, the fort and its pests, as round things."""

from __future__ import annotations

import numpy as np

from gamegen_x.games.snowglobe_camera import Thing
from gamegen_x.games.snowglobe_look import PLAYER_COLOURS
from gamegen_x.games.snowglobe_rules import Counter, Hand, Kind, Things
from gamegen_x.world.sphere import frame_at, moved, turned
from gamegen_x.world.state import Floats, WorldState

_SNOW = np.array((244, 248, 255), np.float32)
_FLOOR = np.array((196, 206, 222), np.float32)
_WALL = np.array((250, 252, 255), np.float32)
_PEST = np.array((62, 38, 78), np.float32)
_NUM_WALLS = (4, 10)  # pieces of the fort's wall: at first, and when it is finished


def things_to_see(state: WorldState, things: Things, player_radius: float, jump_frames: int) -> tuple[Thing, ...]:
    """In the order in which they cover each other from above; players come last, in the order of their seats."""
    players, entities = state.players, state.entities
    seen = _fort(entities.positions[0], things, int(state.counters[Counter.DELIVERED]))
    for slot in np.argsort(entities.kind, kind="stable"):
        place, clock, kind = entities.positions[slot], int(entities.clock[slot]), int(entities.kind[slot])
        if kind == Kind.BIG_BALL:
            seen.append(Thing(place, things.ball_radius, _SNOW, rim=0.72))
        elif kind == Kind.PEST:
            seen.append(Thing(place, things.pest_radius, _PEST, rim=1.6))
        elif kind == Kind.SNOWBALL:
            height = float(np.sin(np.pi * clock / (things.throw_ticks + 1)))
            seen.append(Thing(place, things.snowball_radius, _SNOW, height=height, rim=0.75))
    aside = np.asarray(0.8 * player_radius)
    for seat in range(len(players.frames)):
        height = float(np.sin(np.pi * players.airborne[seat] / (jump_frames + 1)))
        place, colour = players.positions[seat], PLAYER_COLOURS[seat]
        seen.append(Thing(place, player_radius, colour, seat, height, rim=0.55, has_head=True))
        if players.carrying[seat] == Hand.SNOWBALL:
            hand = moved(players.frames[seat], aside, aside)[:, 2]
            seen.append(Thing(hand, things.snowball_radius, _SNOW, seat, rim=0.75))
    return tuple(seen)


def _fort(place: Floats, things: Things, num_delivered: int) -> list[Thing]:
    """A floor with pieces of wall around it: one more for each snowball that came."""
    first, last = _NUM_WALLS
    count = min(first + num_delivered, last)
    frames = turned(np.broadcast_to(frame_at(place, 0.0), (count, 3, 3)), 2 * np.pi * np.arange(count) / last)
    spots = moved(frames, np.zeros(count), np.full(count, things.fort_radius))[..., 2]
    floor = Thing(place, things.fort_radius, _FLOOR, rim=0.85, is_flat=True)
    return [floor, *(Thing(spot, 0.3 * things.fort_radius, _WALL, rim=0.7) for spot in spots)]
