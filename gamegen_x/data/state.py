"""State: what recordings say of their world, drawn where each player sees it, for a network to be told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gamegen_x.config import build
from gamegen_x.data.records import DamagedRecord, RecordSource
from gamegen_x.world.drawing import draw_places
from gamegen_x.world.facts import Facts, lacking
from gamegen_x.world.places import Places
from gamegen_x.world.proximity import near_in_blocks

DRAWERS = (
    "gamegen_x.data.state.",
    "gamegen_x.data.first_person.",
    "gamegen_x.data.surfaces.",
    "gamegen_x.games.snowglobe_map.",
)  # that a config of foreign weights may name
SEEN = ("screen_xy", "visible")  # the facts that every game with several players records


@runtime_checkable
class StateDrawer(Protocol):
    """Draws the facts of video frames at the latent grid. Games bring drawers of their own."""

    num_channels: int
    frames_per_latent: int
    facts: Sequence[str]  # names that must be there

    def draw(self, facts: Facts, size: tuple[int, int], picture: tuple[int, int]) -> Any:
        """`[p t c h w]` of float32, from facts `[t_video ...]` of pictures of `picture` height and width."""
        ...


@dataclass(frozen=True)
class PoseDrawer:
    """Who is where in each view, for any game that records `screen_xy` and `visible`: themselves, too.

    Channel (f, q): player q at video frame f inside the latent frame, shared among the cells around the place.
    """

    num_slots: int
    frames_per_latent: int
    facts: ClassVar[Sequence[str]] = SEEN

    @property
    def num_channels(self) -> int:
        return self.frames_per_latent * self.num_slots

    def draw(
        self,
        facts: Facts,
        size: tuple[int, int],
        picture: tuple[int, int],
    ) -> Float[np.ndarray, "p t c h w"]:
        places = to_grid(facts["screen_xy"], size, picture)
        return draw_places(places, facts["visible"], self.frames_per_latent, self.num_slots, size)


@dataclass(frozen=True)
class StateSettings:
    """What is drawn, and from how near players are told of each other. `channels` is what the networks expect."""

    drawer: StateDrawer
    channels: int | None
    near_angle: float | None  # radians; players farther apart do not see each other's tokens. null: all do

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels != self.drawer.num_channels:
            raise ValueError(
                f"state.channels is {self.channels}, but its drawer draws {self.drawer.num_channels}; "
                f"set state.channels={self.drawer.num_channels}"
            )
        if self.channels is None and self.near_angle is not None:
            raise ValueError(
                f"data.state.near_angle={self.near_angle} is told with the state, and none is told; set it to null"
            )

    @property
    def facts(self) -> set[str]:
        return {*self.drawer.facts, *SEEN, *(() if self.near_angle is None else ("pose",))}


@dataclass(frozen=True)
class Drawing:
    """Facts of video frames -> what networks are told of them. The one way, in training and while a world runs."""

    settings: StateSettings
    size: tuple[int, int]  # height and width of the latents
    picture: tuple[int, int]  # and of the pictures that places are told in

    @property
    def num_channels(self) -> int:
        return self.settings.drawer.num_channels

    def __call__(self, facts: Facts) -> tuple[Float[Tensor, "p t c h w"], Bool[Tensor, "t p p"] | None]:
        """The drawn state, and who is near whom where players are gated by nearness."""
        settings = self.settings
        missing = lacking(settings.drawer.facts, facts)
        if missing:
            raise ValueError(
                f"the networks are told {' and '.join(settings.drawer.facts)}, and the world says no "
                f"{missing}, only {sorted(facts)}; were the dynamics trained with other places=...?"
            )
        state = torch.from_numpy(settings.drawer.draw(facts, self.size, self.picture))
        if settings.near_angle is None:
            return state, None
        positions = facts["pose"][..., 2].astype(np.float64)
        return state, torch.from_numpy(
            near_in_blocks(positions, settings.near_angle, settings.drawer.frames_per_latent)
        )


def drawing_of(described: Mapping[str, Any], spatial_factor: int) -> Drawing | None:
    """How the networks of a weights folder are told of a world, by its config.json; None: they are told nothing."""
    drawn = described.get("drawn_state")
    if drawn is None:
        return None
    foreign = [name for name in _targets(drawn) if not name.startswith(DRAWERS)]
    if foreign:
        raise ValueError(f"weights may be told of a world by {list(DRAWERS)} only, their config names {foreign}")
    if drawn.get("channels") is None:  # drawn for others than the networks, such as the loss around players
        return None
    picture = (int(described["height"]), int(described["width"]))
    size = (picture[0] // spatial_factor, picture[1] // spatial_factor)
    return Drawing(build(drawn), size, picture)


def _targets(described: Any) -> list[str]:
    """Every `_target_`, however deep; a drawing and its drawer must have one."""
    if not isinstance(described, Mapping):
        return [name for one in described for name in _targets(one)] if isinstance(described, list) else []
    own = [str(described.get("_target_"))] if {"_target_", "drawer"} & set(described) else []
    return own + [name for value in described.values() for name in _targets(value)]


@dataclass(frozen=True)
class KnownPlaces:
    """The places of a window's players, frame by frame, as a transition network steps them."""

    places: Float[Tensor, "t_video p q 2"]
    known: Bool[Tensor, "t_video p q"]


@dataclass(frozen=True)
class DrawnState:
    """The state of a window, of some of its views."""

    state: Float[Tensor, "p t c h w"] | None
    others: Float[Tensor, "p t 1 h w"]  # where the others are seen, all frames and players together
    near: Bool[Tensor, "t p p"] | None


class FactReader:
    """The facts that are needed of records; they are few, and stay in memory once they were read."""

    def __init__(self, source: RecordSource, needed: Collection[str]) -> None:
        self.source = source
        self.needed = set(needed)
        self._facts: dict[int, Facts] = {}

    def window(self, index: int, rows: Int[np.ndarray, " row"]) -> Facts:
        """Raises DamagedRecord where the record has not all of them."""
        found = self._facts.get(index)
        if found is None:
            state = self.source.state(index)
            missing = lacking(self.needed, state)
            if missing:
                raise DamagedRecord(self.source.headers[index].key, f"no {missing} in its state")
            found = self._facts[index] = {name: state[name] for name in self.needed}
        return {name: values[rows] for name, values in found.items()}

    def picture(self, index: int) -> tuple[int, int]:
        """Height and width of the pictures that places are told in."""
        header = self.source.headers[index]
        return header.height, header.width


class StateReader:
    """Draws windows of records.

    Beside pixels (`settings` None, one frame a latent) it only says where others are seen.
    """

    def __init__(
        self, source: RecordSource, settings: StateSettings | None, frames_per_latent: int, size: tuple[int, int]
    ) -> None:
        if settings is not None and settings.drawer.frames_per_latent != frames_per_latent:
            raise ValueError(
                f"the state is drawn for {settings.drawer.frames_per_latent} frames a latent, but the vae has "
                f"{frames_per_latent}; leave data.state.drawer.frames_per_latent to the vae that is chosen (vae=...)"
            )
        self.facts = FactReader(source, SEEN if settings is None else settings.facts)
        self.settings = settings
        self.frames_per_latent = frames_per_latent
        self.size = size

    def window(self, index: int, views: Sequence[int], rows: Int[np.ndarray, " row"]) -> DrawnState:
        """Raises DamagedRecord where the record does not say what is to be drawn."""
        facts, picture = self.facts.window(index, rows), self.facts.picture(index)
        chosen = list(views)
        others = torch.from_numpy(draw_others(facts, self.frames_per_latent, self.size, picture)[chosen])
        if self.settings is None:
            return DrawnState(None, others, None)
        state, near = Drawing(self.settings, self.size, picture)(facts)
        return DrawnState(state[chosen], others, None if near is None else near[:, chosen][:, :, chosen])


class PlaceReader:
    """The places of all players in windows of records, undrawn: what a transition network learns from."""

    def __init__(self, source: RecordSource, places: Places) -> None:
        self.facts = FactReader(source, places.facts)
        self.places = places

    def window(self, index: int, rows: Int[np.ndarray, " row"]) -> KnownPlaces:
        """Raises DamagedRecord where the record does not say."""
        places, known = self.places.read(self.facts.window(index, rows), self.facts.picture(index))
        return KnownPlaces(torch.from_numpy(places), torch.from_numpy(known))


def draw_others(
    facts: Facts, frames_per_latent: int, size: tuple[int, int], picture: tuple[int, int]
) -> Float[np.ndarray, "p t 1 h w"]:
    """Where each player sees others during a latent frame."""
    seers, seen = facts["visible"].shape[-2:]
    visible = facts["visible"] & ~np.eye(seers, seen, dtype=bool)
    places = to_grid(facts["screen_xy"], size, picture)
    drawn = draw_places(places, visible, frames_per_latent, seen, size)
    return np.asarray(drawn.sum(axis=2, keepdims=True))


def to_grid(pixels: npt.NDArray[Any], size: tuple[int, int], picture: tuple[int, int]) -> Float[np.ndarray, "*any 2"]:
    """Places in a picture as cells of a grid that covers it; 0 is the middle of the first pixel, or cell.

    A picture of other proportions is scaled until it covers the grid and cut, as its frames were.
    """
    scale = max(size[0] / picture[0], size[1] / picture[1])
    middle = np.array([picture[1], picture[0]]) / 2
    return np.asarray((pixels + 0.5 - middle) * scale + np.array([size[1], size[0]]) / 2 - 0.5, np.float64)
