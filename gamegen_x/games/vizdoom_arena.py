"""The arena: a small Doom map in which every place looks different, written as a WAD file.

The maps that come with the engine are large or grey. Here two players meet often, and a picture tells where it was
taken: four courts of their own colours under an open sky, each with a pillar to hide behind.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

MAP_NAME = "map01"

# Map units; a player is 32 wide and 56 high. These numbers are the drawing of the map.
_SIDE = 1024
_WALL_HEIGHT = 160
_PANEL = 128  # the length of a stretch of wall with one texture
_PILLAR = 64  # half its width
_LIGHT = 240
_PLAYER_START, _DUEL_START = 1, 11  # thing types
_SKILLS_AND_MODES = "".join(
    f"{flag}=true;" for flag in ("skill1", "skill2", "skill3", "skill4", "skill5", "single", "dm")
)

Point = tuple[int, int]


@dataclass(frozen=True)
class _Court:
    """A quarter of the arena: its lower left corner and the names of its textures."""

    corner: Point
    walls: tuple[str, str]  # by turns along the wall, so that one can tell how far along it one is
    pillar: str
    floor: str


_HALF = _SIDE // 2
COURT_NAMES = ("green court", "red court", "blue court", "grey court")  # by their floors
_COURTS = (
    _Court((0, 0), walls=("BRICK10", "WOOD3"), pillar="WOOD5", floor="GRASS1"),
    _Court((_HALF, 0), walls=("REDWALL", "TANROCK2"), pillar="BRICK7", floor="FLAT5_3"),
    _Court((0, _HALF), walls=("COMPBLUE", "SPACEW2"), pillar="STARGR1", floor="FLOOR1_1"),
    _Court((_HALF, _HALF), walls=("MARBLE1", "CEMENT9"), pillar="TEKGREN1", floor="FLAT5_4"),
)


@dataclass
class _Drawing:
    """The text of a map in the universal Doom map format, as it grows."""

    vertices: list[Point] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    num_sides: int = 0

    def wall(self, start: Point, end: Point, sector: int, texture: str) -> None:
        """A solid line; the sector lies on its right."""
        side = self._side(sector, texture)
        self._line(start, end, f"sidefront={side};blocking=true;")

    def border(self, start: Point, end: Point, right: int, left: int) -> None:
        """A line that one walks across."""
        front, back = self._side(right, "-"), self._side(left, "-")
        self._line(start, end, f"sidefront={front};sideback={back};twosided=true;")

    def thing(self, place: Point, angle: int, kind: int) -> None:
        x, y = place
        self.blocks.append(f"thing{{x={x}.0;y={y}.0;angle={angle};type={kind};{_SKILLS_AND_MODES}}}")

    def sector(self, floor: str) -> None:
        self.blocks.append(
            f'sector{{heightfloor=0;heightceiling={_WALL_HEIGHT};texturefloor="{floor}";textureceiling="F_SKY1";'
            f"lightlevel={_LIGHT};}}"
        )

    def text(self) -> str:
        vertices = [f"vertex{{x={x}.0;y={y}.0;}}" for x, y in self.vertices]
        return "\n".join(['namespace="zdoom";', *vertices, *self.blocks]) + "\n"

    def _side(self, sector: int, texture: str) -> int:
        self.blocks.append(f'sidedef{{sector={sector};texturemiddle="{texture}";}}')
        self.num_sides += 1
        return self.num_sides - 1

    def _line(self, start: Point, end: Point, fields: str) -> None:
        self.blocks.append(f"linedef{{v1={self._vertex(start)};v2={self._vertex(end)};{fields}}}")

    def _vertex(self, place: Point) -> int:
        if place not in self.vertices:
            self.vertices.append(place)
        return self.vertices.index(place)


def arena_map() -> str:
    """The map as text: four courts, a pillar in the middle of each, eight places to start from."""
    drawing = _Drawing()
    for number, court in enumerate(_COURTS):
        _draw_court(drawing, number, court)
    middle = (_HALF, _HALF)
    drawing.border((_HALF, 0), middle, right=1, left=0)
    drawing.border(middle, (_HALF, _SIDE), right=3, left=2)
    drawing.border((0, _HALF), middle, right=0, left=2)
    drawing.border(middle, (_SIDE, _HALF), right=1, left=3)
    near, far = _SIDE * 3 // 32, _SIDE * 29 // 32
    for place, angle in (
        ((near, near), 45),
        ((far, near), 135),
        ((near, far), 315),
        ((far, far), 225),
        ((_HALF, near), 90),
        ((_HALF, far), 270),
        ((near, _HALF), 0),
        ((far, _HALF), 180),
    ):
        drawing.thing(place, angle, _DUEL_START)
    drawing.thing(middle, 0, _PLAYER_START)  # the engine wants one, though nobody starts there in a duel
    return drawing.text()


def court_of(places: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """The number of the court at each place [... 3], as in `COURT_NAMES`."""
    return (places[..., 0] >= _HALF).astype(np.uint8) + 2 * (places[..., 1] >= _HALF).astype(np.uint8)


def write_arena(path: Path) -> None:
    """Writes the arena as a WAD file that the engine loads; it builds the map's search tree itself."""
    lumps = ((MAP_NAME.upper(), b""), ("TEXTMAP", arena_map().encode()), ("ENDMAP", b""))
    header_size = 12
    content, directory = b"", b""
    for name, lump in lumps:
        directory += struct.pack("<II8s", header_size + len(content), len(lump), name.encode())
        content += lump
    path.write_bytes(struct.pack("<4sII", b"PWAD", len(lumps), header_size + len(content)) + content + directory)


def _draw_court(drawing: _Drawing, number: int, court: _Court) -> None:
    x, y = court.corner
    corners = [(x, y), (x, y + _HALF), (x + _HALF, y + _HALF), (x + _HALF, y)]  # clockwise: the court is on the right
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        is_outer = any(start[axis] == end[axis] and start[axis] in (0, _SIDE) for axis in (0, 1))
        if is_outer:
            stops = [_between(start, end, share, _HALF // _PANEL) for share in range(_HALF // _PANEL + 1)]
            for panel, (here, there) in enumerate(pairwise(stops)):
                drawing.wall(here, there, number, court.walls[panel % 2])
    x, y = x + _HALF // 2, y + _HALF // 2
    left, right, low, high = x - _PILLAR, x + _PILLAR, y - _PILLAR, y + _PILLAR
    pillar = [(left, low), (right, low), (right, high), (left, high)]  # anticlockwise: the pillar is on the left
    for start, end in zip(pillar, pillar[1:] + pillar[:1], strict=True):
        drawing.wall(start, end, number, court.pillar)
    drawing.sector(court.floor)


def _between(start: Point, end: Point, share: int, shares: int) -> Point:
    return start[0] + (end[0] - start[0]) * share // shares, start[1] + (end[1] - start[1]) * share // shares
