"""Are the seats of recorded sessions in step? `python -m gamegen_x.games.seats_in_step data/vizdoom_duel/traces/val`.

Each engine has been asked, at every frame, where it has every player. Here that is compared with where each player had
itself at that frame, and a frame earlier or later: seats out of step would fit those. Where players look through their
own eyes, the pixel at which one shows the other is compared with the one that follows from where both stand. Seats that
share a screen must show the same pictures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from gamegen_x.config import USER_MISTAKE
from gamegen_x.schema.trace import Trace

OUT_OF_STEP = 1  # exit status
SAME_PLACE = 1e-3  # in the units of positions
HALF_FIELD_OF_VIEW = 45.0  # degrees, from the middle of a Doom picture to its left or right

Distances = npt.NDArray[np.float64]


def measure(folder: Path) -> dict[str, Any]:
    """Figures over all traces in a folder. Raises ValueError where a trace tells nothing about its seats."""
    traces = [Trace.load(path.parent) for path in sorted(folder.glob("*/trace.json"))]
    if not traces:
        raise ValueError(f"expected a folder with traces of several players, but {folder} holds none")
    figures: dict[str, Any] = {
        "traces": len(traces),
        "frames": sum(trace.num_frames for trace in traces),
        "minutes": round(sum(trace.num_frames / trace.fps for trace in traces) / 60, 2),
    }
    if all(trace.camera == "shared_screen" for trace in traces):
        same = np.concatenate([same_pictures(trace) for trace in traces])
        return figures | {"pictures_compared": len(same), "in_step_share": float(same.mean())}
    if not all("seen_position" in trace.state for trace in traces):
        raise ValueError(f"{folder}: these traces hold no seen_position and share no screen: nothing can be compared")
    off, earlier, later = (np.concatenate([places_off(trace, lag) for trace in traces]) for lag in (0, 1, -1))
    pixels = np.concatenate([pixels_off(trace) for trace in traces])
    return figures | {
        "places_compared": len(off),
        "in_step_share": _share(off <= SAME_PLACE),
        "largest_distance": float(off.max()),
        "share_that_fits_a_frame_earlier": _share(earlier <= SAME_PLACE),
        "share_that_fits_a_frame_later": _share(later <= SAME_PLACE),
        "pictures_of_another": len(pixels),
        "pixels_off_median": float(np.median(pixels)),
        "pixels_off_90_percent": float(np.quantile(pixels, 0.9)),
    }


def places_off(trace: Trace, lag: int) -> Distances:
    """How far each engine had every other living player from where that player was `lag` frames before."""
    frames = np.arange(max(0, lag), trace.num_frames + min(0, lag))
    was, seen, health = trace.state["position"], trace.state["seen_position"], trace.state["health"]
    parts = []
    for seat, other in permutations(range(trace.num_players), 2):
        living = frames[(health[frames, other] > 0) & (health[frames - lag, other] > 0)]
        off = np.abs(seen[living, seat, other] - was[living - lag, other]).max(axis=-1)
        parts.append(np.nan_to_num(off, nan=np.inf))  # an engine that does not have the player at all
    return np.concatenate(parts)


def pixels_off(trace: Trace) -> Distances:
    """How far from where it should be a player's picture shows another one, sideways, in pixels."""
    place, facing, width = trace.state["position"], trace.state["angle"], _width(trace.video_path(0))
    parts = []
    for seat, other in permutations(range(trace.num_players), 2):
        way = place[:, other] - place[:, seat]
        bearing = np.arctan2(way[:, 1], way[:, 0]) - np.radians(facing[:, seat])
        expected = width / 2 * (1 - np.tan(bearing) / np.tan(np.radians(HALF_FIELD_OF_VIEW)))
        is_seen = trace.state["visible"][:, seat, other]
        parts.append(np.abs(expected - trace.state["screen_xy"][:, seat, other, 0])[is_seen])
    return np.concatenate(parts).astype(np.float64)


def same_pictures(trace: Trace) -> npt.NDArray[np.bool_]:
    """For each frame and each seat but the first: whether it shows the same picture as the first, to the bit."""
    videos = zip(*(_pictures(trace.video_path(seat)) for seat in range(trace.num_players)), strict=True)
    return np.array([(picture == first).all() for first, *others in videos for picture in others])


def _pictures(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _width(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.video[0].width


def _share(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean())


def main(arguments: list[str]) -> int:
    """Prints the figures as a JSON line. Returns the exit status."""
    if len(arguments) != 1:
        print(f"error: expected `python -m gamegen_x.games.seats_in_step FOLDER`, got {arguments}", file=sys.stderr)
        return USER_MISTAKE
    try:
        figures = measure(Path(arguments[0]))
    except ValueError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return USER_MISTAKE
    print(json.dumps(figures))
    return 0 if figures["in_step_share"] == 1 else OUT_OF_STEP


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
