"""What happened, and who hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from gamegen_x.world.sphere import Cells


class Scope(Enum):
    """Everybody hears of a GLOBAL event, those in or beside its cell of a CELL event, one player of a PLAYER event."""

    GLOBAL = "global"
    CELL = "cell"
    PLAYER = "player"


@dataclass(frozen=True)
class Event:
    """Something that happened at a tick, e.g. `Event("delivered", Scope.GLOBAL, where=-1, subject=3)`."""

    kind: str
    scope: Scope
    where: int  # the cell of a CELL event, the seat of a PLAYER event, -1 for everywhere
    subject: int = -1  # what it is about: a seat or an entity, as the kind says


def hears(event: Event, seat: int, cell: int, cells: Cells) -> bool:
    """Whether the player of a seat, standing in a cell, hears of an event."""
    if event.scope is Scope.GLOBAL:
        return True
    if event.scope is Scope.PLAYER:
        return event.where == seat
    return bool(np.isin(event.where, cells.neighbours(cell)))


def heard_by(events: tuple[Event, ...], positions: npt.NDArray[np.float64], cells: Cells) -> list[tuple[Event, ...]]:
    """For the player at each of the positions `[p 3]`, the events that reach them, in their order."""
    standing = cells.of(positions)
    return [
        tuple(event for event in events if hears(event, seat, int(cell), cells)) for seat, cell in enumerate(standing)
    ]
