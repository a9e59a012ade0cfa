"""Direction cosine: does the camera move where the keys say? Measured from pixels by matching, without a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor

from gamegen_x.evaluation.answer import Answer, Row
from gamegen_x.evaluation.judge_training import find_blocks
from gamegen_x.evaluation.subject import Subject


class DirectionCosine:
    """The cosine between the camera's commanded and measured direction in the picture, mean over blocks.

    Every generated block counts. One in which no motion of the camera can be seen has cosine 0.
    """

    def __init__(
        self,
        *,
        directions: Mapping[str, Sequence[float] | None],  # right and down, by command; None: that one has none
        camera_motion: CameraMotion,
        max_real_blocks: int,
        num_clips: int,
    ) -> None:
        self.directions = {
            name: np.asarray(direction, np.float64) for name, direction in directions.items() if direction is not None
        }
        self.camera_motion = camera_motion
        self.max_real_blocks = max_real_blocks
        self.num_clips = num_clips

    def ask(self, subject: Subject) -> Answer | None:
        self._check(subject)
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
            "The camera's motion is the one displacement that lays the pictures of a block over each other best, where "
            "snow and rain are erased and fog and night are evened out before. It is compared with the direction that "
            "the keys command: 1 is the same direction, -1 the opposite, 0 no relation. A block whose picture stands "
            "still, is empty or fits nowhere counts as 0; none is left out. Ceiling: the same on real video."
        )
        return Answer("Direction: does the camera go where it is sent?", explanation, figures, rows)

    def _check(self, subject: Subject) -> None:
        unknown = sorted(set(self.directions) - set(subject.commands.names))
        if unknown:
            raise ValueError(
                f"directions are given for {unknown}, which are none of the commands {subject.commands.names}"
            )
        if self.camera_motion.apart_frames > subject.generation.block_frames:
            raise ValueError(
                f"camera_motion.apart_frames is at most the {subject.generation.block_frames} frames of a block, "
                f"got {self.camera_motion.apart_frames}"
            )

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
            motions = torch.stack([self.camera_motion(window) for window in chosen]).double().numpy()
            along = motions @ (direction / np.linalg.norm(direction))
            lengths = np.linalg.norm(motions, axis=-1)
            cosines[name] = float(np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0).mean())
        return cosines


class CameraMotion:
    """Finds the displacement of the ground under whatever falls, hangs or moves in the picture by itself.

    Of all displacements by whole pixels, the right one is a narrow dip in the mean difference of the overlapping
    pictures: deeper than those a pixel or two beside it. What repeats on the screen, like falling snow, makes wide
    slopes instead, on which the least difference alone would slide away.
    """

    def __init__(
        self,
        *,
        apart_frames: int,
        max_pixels: float,
        speck_pixels: int,
        detail_pixels: int,
        detail_levels: float,
        dip_pixels: int,
        min_dip: float,
    ) -> None:
        self.apart_frames = apart_frames
        self.reach = round(max_pixels * apart_frames)
        self.speck = np.ones((speck_pixels, speck_pixels), np.uint8)
        self.detail_pixels = detail_pixels
        self.detail_levels = detail_levels
        self.dip_pixels = dip_pixels
        self.min_dip = min_dip
        if self.reach < 1 or dip_pixels < 3 or dip_pixels % 2 == 0:
            raise ValueError(
                "need max_pixels * apart_frames >= 1 and an odd dip_pixels >= 3, "
                f"got {max_pixels} * {apart_frames} and {dip_pixels}"
            )

    def __call__(self, frames: UInt8[Tensor, "t 3 h w"]) -> Float[Tensor, "2"]:
        """Pixels a frame that the camera moves right and down, the same over all frames; 0 where nothing says so."""
        details = [self._detail(frame) for frame in rearrange(frames, "t c h w -> t h w c").numpy()]
        before = np.concatenate(details[: -self.apart_frames], axis=-1)
        after = np.concatenate(details[self.apart_frames :], axis=-1)
        return torch.from_numpy(self._displacement(before, after)) / self.apart_frames

    def _detail(self, frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
        """What the ground differs from its surroundings by: the same by night and in fog, and never more than a bit."""
        ground = cv2.morphologyEx(frame, cv2.MORPH_OPEN, self.speck).astype(np.float32)
        detail = ground - cv2.blur(ground, (self.detail_pixels, self.detail_pixels))
        return np.clip(detail, -self.detail_levels, self.detail_levels)

    def _displacement(
        self, before: Float[np.ndarray, "h w c"], after: Float[np.ndarray, "h w c"]
    ) -> Int64[np.ndarray, "2"]:
        """Right and down, in whole pixels. A best one at the very end of the search is none: it may go on beyond it."""
        margin = self.dip_pixels // 2
        steps = range(-self.reach - margin, self.reach + margin + 1)
        differences = np.array([[_difference(before, after, right, down) for right in steps] for down in steps])
        around = cv2.blur(differences, (self.dip_pixels, self.dip_pixels))
        dips = (around - differences)[margin:-margin, margin:-margin]
        row, column = np.unravel_index(dips.argmax(), dips.shape)
        is_inside = min(row, column) > 0 and max(row, column) < 2 * self.reach
        is_deep = dips[row, column] > self.min_dip * around[margin + row, margin + column]
        return np.array([column, row]) - self.reach if is_inside and is_deep else np.zeros(2, np.int64)


def _difference(before: Float[np.ndarray, "h w c"], after: Float[np.ndarray, "h w c"], right: int, down: int) -> float:
    """The mean difference where two pictures overlap, if the camera moved right and down between them."""
    height, width = before.shape[:2]
    one = before[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    other = after[max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
    return cv2.norm(one, other, cv2.NORM_L1) / one.size
