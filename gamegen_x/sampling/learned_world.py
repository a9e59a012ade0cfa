"""LearnedDynamics: a world whose truth a network steps, for games whose rules are not at hand (`dynamics=learned`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from gamegen_x.models.transition import Memory, Transition
from gamegen_x.models.weights import load_network
from gamegen_x.schema.weights_folder import check_players_stepped, check_transition, read_config
from gamegen_x.world.facts import Facts, lacking
from gamegen_x.world.places import Places, described_places


@dataclass(frozen=True)
class LearnedWorld:
    """Where everybody is, in the facts that the network's places are read from; they may lie outside the picture."""

    network: Transition
    places: Places
    picture: tuple[int, int]  # height and width
    memory: Memory

    @property
    def num_players(self) -> int:
        return self.memory.known.shape[1]

    @torch.no_grad()
    def after(self, held: npt.NDArray[np.uint8]) -> LearnedWorld:
        keys = torch.from_numpy(np.asarray(held, np.float32))[None]
        return replace(self, memory=self.network(self.memory, keys)[0])

    def told(self, text: str) -> LearnedWorld:  # noqa: ARG002  (the game may know sentences, this network none)
        return self

    def facts(self) -> Facts:
        return self.places.write(self.memory.places[0].numpy(), self.memory.known[0].numpy() > 0, self.picture)


class LearnedDynamics:
    """The transition network of a weights folder. Places are in pixels of pictures as the weights make.

    Fresh worlds are of `num_players`; None: as many as the recordings had. Raises ValueError for more of them.
    """

    def __init__(self, weights: str, num_players: int | None = None) -> None:
        described = read_config(weights)
        check_transition(weights, described)
        self.network = cast(Transition, load_network(weights, "transition"))
        self.num_players = self.network.num_players if num_players is None else num_players
        check_players_stepped(weights, described, self.num_players)
        self.places = described_places(described.get("places"))
        self.picture = int(described["height"]), int(described["width"])

    @torch.no_grad()
    def follow(self, facts: Facts, held: npt.NDArray[np.uint8]) -> LearnedWorld:
        """The world at the end of these frames `[t ...]`, one or more, in which the keys `[t p k]` acted. Raises
        ValueError where they do not say what the network steps."""
        missing = lacking(self.places.facts, facts)
        if missing:
            raise ValueError(
                f"dynamics=learned steps {' and '.join(self.places.facts)}, and the recording has no {missing}"
            )
        points, known = self.places.read(facts, self.picture)
        places = torch.from_numpy(points)[None]
        is_known = torch.from_numpy(known.astype(np.float32))[None]
        keys = torch.from_numpy(np.asarray(held, np.float32))[None]
        return self.world(self.network.follow(places, is_known, keys))

    def fresh(self, seed: int, split: str) -> LearnedWorld:  # noqa: ARG002  (as RulesDynamics have it)
        """A world before its first frame, which begins as one of the recordings did."""
        return self.world(self.network.begin_anew(seed, self.num_players))

    def world(self, memory: Memory) -> LearnedWorld:
        """The world that is remembered so."""
        return LearnedWorld(self.network, self.places, self.picture, memory)
