"""Video prompts: edges, optical flow and pose of a clip, drawn as pictures for InstructNet to follow."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8

from gamegen_x.data.frame_cache import FrameReader, Frames
from gamegen_x.data.records import RecordSource

KINDS = ("edges", "flow", "pose")
POSE_COLOURS = (
    (255, 80, 80),
    (80, 120, 255),
    (255, 220, 80),
    (240, 240, 240),
    (80, 255, 160),
    (255, 80, 255),
    (80, 255, 255),
    (255, 160, 80),
)


@dataclass(frozen=True)
class PromptStyle:
    """How prompts are drawn. Canny's thresholds are grey levels; at `full_speed` pixels a frame flow is a pure hue."""

    canny_low: float
    canny_high: float
    full_speed: float


def edges(frames: Frames, style: PromptStyle) -> Frames:
    """White Canny edges on black."""
    grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    drawn = [cv2.Canny(picture, style.canny_low, style.canny_high) for picture in grey]
    return np.repeat(np.stack(drawn)[..., None], 3, axis=-1)


def optical_flow(frames: Frames, style: PromptStyle) -> Frames:
    """How each pixel came here from the frame before: hue is direction, saturation speed; white stands still.

    The first frame shows the flow into the second.
    """
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flows = [_flow(dis, before, after) for before, after in pairwise(grey)]
    flows = [flows[0] if flows else np.zeros((*grey[0].shape, 2), np.float32), *flows]
    return np.stack([_colour_of(flow, style.full_speed) for flow in flows])


def pose(
    screen_xy: Float[np.ndarray, "t p 2"], visible: npt.NDArray[np.bool_], height: int, width: int
) -> UInt8[np.ndarray, "t h w 3"]:
    """A disc of each visible player's colour at its place in this view, and an arrow to where it goes."""
    video = np.zeros((len(screen_xy), height, width, 3), np.uint8)
    radius = max(2, min(height, width) // 16)
    motion = np.diff(
        screen_xy, axis=0, append=screen_xy[-1:] + (screen_xy[-1:] - screen_xy[-2:-1] if len(screen_xy) > 1 else 0)
    )
    for t, player in np.argwhere(visible & np.isfinite(screen_xy).all(axis=-1)):
        colour = POSE_COLOURS[player % len(POSE_COLOURS)]
        x, y = screen_xy[t, player]
        cv2.circle(video[t], (round(x), round(y)), radius, colour, thickness=-1)
        step = motion[t, player]
        speed = float(np.hypot(*step))
        if np.isfinite(speed) and 0 < speed < min(height, width) / 4:
            tip = screen_xy[t, player] + step / speed * 3 * radius
            cv2.arrowedLine(video[t], (round(x), round(y)), (round(tip[0]), round(tip[1])), colour, tipLength=0.4)
    return video


def draw_prompt(
    kind: str,
    style: PromptStyle,
    source: RecordSource,
    reader: FrameReader,
    index: int,
    view: int,
    start: int,
    stop: int,
) -> Frames | None:
    """One video prompt for frames start to stop of a view; None if this record cannot have it."""
    if kind != "pose":
        return {"edges": edges, "flow": optical_flow}[kind](reader.frames(index, view, start, stop), style)
    state = source.state(index)
    if not {"screen_xy", "visible"} <= state.keys():
        return None
    size = reader.frames(index, view, start, start + 1).shape[1:3]
    header = source.headers[index]
    scale = max(size[0] / header.height, size[1] / header.width)
    margin = (np.array([header.width, header.height]) * scale - np.array([size[1], size[0]])) / 2
    screen_xy = state["screen_xy"][start:stop, view] * scale - margin
    return pose(screen_xy, state["visible"][start:stop, view].astype(bool), *size)


def _flow(dis: Any, before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """From each pixel of the later frame back to where it came from, turned around."""
    return -dis.calc(after, before, None)


def _colour_of(flow: npt.NDArray[np.float32], full_speed: float) -> UInt8[np.ndarray, "h w 3"]:
    speed, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1], angleInDegrees=True)
    saturation = np.clip(speed / full_speed, 0, 1) * 255
    hsv = np.stack([angle / 2, saturation, np.full_like(speed, 255)], axis=-1).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
