"""LearnedTruth: a world whose rules nobody has. The transition network of its weights says what is true in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gamegen_x.data.state import drawing_of
from gamegen_x.games.door import Frame
from gamegen_x.models.transition import Memory
from gamegen_x.sampling.learned_world import LearnedDynamics, LearnedWorld
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.weights_folder import read_config
from gamegen_x.serve.played_world import number_of
from gamegen_x.world.events import Event
from gamegen_x.world.facts import Facts, lacking
from gamegen_x.world.snapshot import settled
from gamegen_x.world.state import Floats, Truths

HIDDEN_STEPS = 2**15 - 1  # from 0 to 1, of what the network remembers, which lies between -1 and 1: two bytes each
FARTHEST = 4.0  # halves of a map or picture from its middle; what the network takes farther stays there
SPLIT = "val"


@dataclass(frozen=True)
class LearnedState:
    """All that is true, and what the network remembers of it, at one tick."""

    tick: int
    places: Floats  # p q 2: see gamegen_x.world.places
    before: Floats  # p q 2: of the tick before
    known: Truths  # p q
    hidden: npt.NDArray[np.int16]  # n d, in steps of 1 / HIDDEN_STEPS
    events: tuple[Event, ...] = ()  # nothing happens but moves


class LearnedTruth:
    """A world that begins as one of the recordings did (`seed`), and goes on as the weights' network foresees.

    Everybody's body is in it from the first tick on; who is not there presses no key. Nothing but the weights knows how
    it looks, so it is never drawn. The same states and keys give the same states on the same machine, to the bit.
    Raises ValueError for weights that do not fit such a world.
    """

    is_drawn = False

    def __init__(self, weights: str, num_players: int, camera: str, seed: int) -> None:
        described = read_config(weights)
        self.dynamics = LearnedDynamics(weights, num_players)
        drawing = drawing_of(described, 1)
        untold = lacking(drawing.settings.drawer.facts if drawing else (), self.dynamics.places.facts)
        if untold:
            raise ValueError(
                f"the networks of {weights} are told {untold}, and their transition network steps "
                f"{' and '.join(self.dynamics.places.facts)}; train it again with places that say so (task=dynamics)"
            )
        self.keys = ActionSpace.from_dict(described["action_space"])
        self.fps, self.num_players = float(described["fps"]), num_players
        self.height, self.width = int(described["height"]), int(described["width"])
        self.camera, self.about = camera, described.get("recorded_from") or {}
        with _one_thread():
            self._start = _settled(self.dynamics.fresh(seed, SPLIT), -1)
        self.facts: Mapping[str, str | int | float] = {
            "game": self.keys.name,
            "camera": camera,
            "width": self.width,
            "height": self.height,
        }

    def start(self) -> LearnedState:
        return self._start

    def start_from(self, state: LearnedState) -> None:
        self._start = state

    def advanced(self, state: LearnedState, held: npt.NDArray[np.uint8]) -> LearnedState:
        with _one_thread():
            return _settled(self._world(state).after(held), state.tick + 1)

    def told(self, state: LearnedState, text: str) -> LearnedState:  # noqa: ARG002
        raise ValueError(
            f"this world does not listen to words, got {text!r}; it knows the keys {' '.join(self.keys.keys)}"
        )

    def heard(self, state: LearnedState) -> Sequence[tuple[Event, ...]]:  # noqa: ARG002
        return [()] * self.num_players

    def facts_of(self, state: LearnedState) -> Facts:
        return self._world(state).facts()

    def draw(self, states: Sequence[LearnedState], keys: npt.NDArray[np.uint8]) -> Sequence[Sequence[Frame]]:
        raise NotImplementedError("nobody knows how a learned world looks but the weights that draw it")

    def scene(self, state: LearnedState, num_players: int) -> str:  # noqa: ARG002
        return f"{number_of(num_players)} {'plays' if num_players == 1 else 'play'} {self.keys.name}."

    def asked(self, before: LearnedState, after: LearnedState) -> str:  # noqa: ARG002
        return ""

    def described(self, state: LearnedState) -> Mapping[str, Any]:  # noqa: ARG002
        return {
            "game": self.keys.name,
            "camera": self.camera,
            "licence": str(self.about.get("licence", "")),
            "attribution": str(self.about.get("attribution", "")),
            "facts": {},
            "outcome": {},
        }

    def _world(self, state: LearnedState) -> LearnedWorld:
        memory = Memory(
            hidden=torch.from_numpy(state.hidden.astype(np.float32) / HIDDEN_STEPS),
            places=_tensor(state.places),
            known=_tensor(state.known),
            before=_tensor(state.before),
        )
        return self.dynamics.world(memory)


def _settled(world: LearnedWorld, tick: int) -> LearnedState:
    """A world's state on the grid that travels, so that whoever reads it goes on from the very same numbers."""
    memory = world.memory
    hidden = np.rint(memory.hidden.numpy() * HIDDEN_STEPS).astype(np.int16)
    places, before = (_array(places) for places in (memory.places, memory.before))
    return settled(LearnedState(tick, places, before, memory.known[0].numpy() > 0, hidden))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums must not depend on how many threads a process has; and a server's cores have other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _array(places: torch.Tensor) -> Floats:
    return np.clip(places[0].numpy().astype(np.float64), -FARTHEST, FARTHEST)


def _tensor(values: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))[None]
