"""LearnedDynamics: a world whose truth a network steps, for games whose rules are not at hand (`dynamics=learned`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gamegen_x.models.transition import Memory, Transition
from gamegen_x.models.weights import load_network
from gamegen_x.schema.weights_folder import read_config
from gamegen_x.world.drawing import from_halves, to_halves
from gamegen_x.world.facts import Facts


@dataclass(frozen=True)
class LearnedWorld:
    """Where everybody is seen, `screen_xy` in pixels and `visible`. A sentence changes nothing of it."""

    network: Transition
    picture: tuple[int, int]  # height and width
    memory: Memory
    before: Float[Tensor, "1 p q 2"]  # places, a frame ago

    @property
    def num_players(self) -> int:
        return self.network.num_views

    @torch.no_grad()
    def after(self, held: npt.NDArray[np.uint8]) -> LearnedWorld:
        keys = torch.from_numpy(np.asarray(held, np.float32))[None]
        return replace(self, memory=self.network(self.memory, self.before, keys)[0], before=self.memory.places)

    def told(self, text: str) -> LearnedWorld:  # noqa: ARG002  (the game may know sentences, this network none)
        return self

    def facts(self) -> Facts:
        """Somebody who left one side of a picture and came in again at the other is where it shows them."""
        return {
            "screen_xy": from_halves(self.memory.places[0].numpy(), self.picture),
            "visible": self.memory.seen[0].numpy() > 0,
        }


class LearnedDynamics:
    """The transition network of a weights folder. Raises ValueError where it has none."""

    def __init__(self, weights: str) -> None:
        self.weights = Path(weights)

    @cached_property
    def network(self) -> Transition:
        if "transition" not in read_config(self.weights)["networks"]:
            raise ValueError(
                f"dynamics=learned needs weights with a transition network, and {self.weights} has none; train one on "
                f"the same recordings: python train.py task=dynamics weights={self.weights} data.dataset.folder=..."
            )
        return cast(Transition, load_network(self.weights, "transition"))

    @cached_property
    def picture(self) -> tuple[int, int]:
        described = read_config(self.weights)
        return int(described["height"]), int(described["width"])

    @torch.no_grad()
    def follow(self, facts: Facts, held: npt.NDArray[np.uint8]) -> LearnedWorld:
        """The world at the end of these frames `[t ...]`, one or more, of which the keys `[t p k]` are known."""
        network = self.network
        places = torch.from_numpy(to_halves(facts["screen_xy"], self.picture))[None]
        seen: Bool[Tensor, "1 t p q"] = torch.from_numpy(np.asarray(facts["visible"], bool))[None]
        keys = torch.from_numpy(np.asarray(held, np.float32))[None]
        memory, before = network.begin(places[:, 0], seen[:, 0].float()), places[:, 0]
        for frame in range(1, places.shape[1]):
            memory, _ = network(memory, before, keys[:, frame])
            memory, before = Memory(memory.hidden, places[:, frame], seen[:, frame].float()), places[:, frame - 1]
        return LearnedWorld(network, self.picture, memory, before)
