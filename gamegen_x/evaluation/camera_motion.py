"""Direction cosine: does the camera move where the keys say? Measured from pixels by optical flow, without a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row
from gamegen_x.evaluation.judge_training import find_blocks
from gamegen_x.evaluation.subject import Subject


class DirectionCosine:
    """The cosine between the camera's commanded and measured direction in the picture, mean over blocks.

    The camera moves against the background: its motion is minus the median optical flow of every pixel, summed over the
    frames of a block. A block in which the picture stands still (`min_pixels`) has cosine 0.
    """

    def __init__(
        self, *, directions: Mapping[str, Sequence[float]], min_pixels: float, max_real_blocks: int, num_clips: int
    ) -> None:
        self.directions = {name: np.asarray(direction, np.float64) for name, direction in directions.items()}
        self.min_pixels = min_pixels
        self.max_real_blocks = max_real_blocks
        self.num_clips = num_clips

    def ask(self, subject: Subject) -> Answer | None:
        unknown = sorted(set(self.directions) - set(subject.commands.names))
        if unknown:
            raise ValueError(
                f"directions are given for {unknown}, which are none of the commands {subject.commands.names}"
            )
        if not subject.is_player or not self.directions:
            return None
        by_command = self._generated(subject)
        ceilings = self._real(subject)
        cosine = float(np.mean(list(by_command.values())))
        ceiling = float(np.mean(list(ceilings.values())))
        figures = {
            "direction_cosine": cosine,
            "direction_cosine_ceiling": ceiling,
            "direction_cosine_by_command": by_command,
            "direction_cosine_ceiling_by_command": ceilings,
        }
        rows = [Row("direction cosine", cosine, ceiling, 0.0, unit="")]
        rows += [Row(f"direction of {name!r}", by_command[name], ceilings[name], 0.0, unit="") for name in by_command]
        explanation = (
            "The camera's motion is measured as minus the median optical flow (DIS) over each block and compared with "
            "the direction that the keys command; 1 is the same direction, 0 no relation, -1 the opposite. Ceiling: "
            "the same measurement on real video."
        )
        return Answer("Direction: does the camera go where it is sent?", explanation, figures, rows)

    def _generated(self, subject: Subject) -> dict[str, float]:
        play, size = subject.play, subject.generation.block_frames
        clips = play.video[: self.num_clips, :, play.context_frames - 1 :]
        windows = rearrange(clips.unfold(2, size + 1, size), "b p n c h w f -> (b p n) f c h w")
        return self._cosines(subject, windows, play.commands[: self.num_clips].flatten())

    def _real(self, subject: Subject) -> dict[str, float]:
        size = subject.generation.block_frames
        blocks = find_blocks(subject.recordings.val, subject.commands, size)
        order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(subject.generation.seed))
        blocks = blocks.taken(order[: self.max_real_blocks])
        windows = blocks.windows(subject.recordings.val, size)[:, size - 1 :]
        return self._cosines(subject, windows, blocks.command)

    def _cosines(
        self, subject: Subject, windows: UInt8[Tensor, "n f 3 h w"], commands: Int[Tensor, " n"]
    ) -> dict[str, float]:
        cosines: dict[str, float] = {}
        for name, direction in self.directions.items():
            chosen = windows[commands == subject.commands.names.index(name)]
            motions = torch.stack([camera_motion(window).sum(0) for window in chosen]).numpy()
            lengths = np.linalg.norm(motions, axis=-1)
            along = motions @ (direction / np.linalg.norm(direction))
            is_moving = lengths >= self.min_pixels
            cosines[name] = float(np.where(is_moving, along / np.maximum(lengths, self.min_pixels), 0.0).mean())
        return cosines


def camera_motion(frames: UInt8[Tensor, "t 3 h w"]) -> Float[Tensor, "t_less_one 2"]:
    """How far the camera moved right and down between neighbouring frames, in pixels."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    grey = [_full_contrast(frame) for frame in rearrange(frames, "t c h w -> t h w c").numpy()]
    motions = [-np.median(flow.calc(before, after, None).reshape(-1, 2), axis=0) for before, after in pairwise(grey)]
    return torch.from_numpy(np.stack(motions).astype(np.float32))


def _full_contrast(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Grey, stretched to all 256 values: flow is blind at night and in fog otherwise."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX)
