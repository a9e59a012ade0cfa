"""Whole sources -> clips: decodes once, finds the cuts between scenes, cuts scenes into clips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.clip import Clip, DamagedSourceError, Source
from data_pipeline.networks.weights import check_there, fill, load_weights
from data_pipeline.stage import Stage
from data_pipeline.video_reader import VideoReader

Frame = npt.NDArray[np.uint8]  # h w 3
TOLERANCE = 0.1  # of a plain video's length, and a second at least: headers estimate, and may count a longer sound


class SceneWatch(ABC):
    """Watches one view of one source and says where a new scene begins."""

    @abstractmethod
    def push(self, frame: Frame) -> list[int]:
        """Takes the next frame; returns the first frames of scenes found by now."""

    def finish(self) -> list[int]:
        """What only the end of the video decides."""
        return []


class SceneDetector(ABC):
    """Starts a watch for every view. A cut is reported at most `look_ahead` frames after its first frame."""

    look_ahead: int

    @abstractmethod
    def watch(self, fps: float) -> SceneWatch: ...


@dataclass(frozen=True)
class LumaScenes(SceneDetector):
    """PySceneDetect's content detector on brightness alone.

    `threshold` is the mean absolute change of brightness from frame to frame, 0 to 255. With `min_scene_frames` above 1
    PySceneDetect keeps silent about cuts that come earlier after another, and clips cross them.
    """

    threshold: float
    min_scene_frames: int
    max_width: int  # pixels: wider frames are made smaller first

    @property
    def look_ahead(self) -> int:  # type: ignore[override]
        return 0

    def watch(self, fps: float) -> SceneWatch:
        return LumaWatch(self, fps)


class LumaWatch(SceneWatch):
    def __init__(self, settings: LumaScenes, fps: float) -> None:
        from scenedetect import ContentDetector
        from scenedetect.detector import FlashFilter

        self.fps = float(fps)  # PySceneDetect takes no whole numbers
        self.max_width = settings.max_width
        self.num_frames = 0
        self.detector: Any = ContentDetector(
            threshold=settings.threshold,
            min_scene_len=settings.min_scene_frames,
            luma_only=True,
            filter_mode=FlashFilter.Mode.SUPPRESS,  # a cut is reported at its own frame, never later
        )

    def push(self, frame: Frame) -> list[int]:
        from scenedetect import FrameTimecode

        if frame.shape[1] > self.max_width:
            height = max(1, round(frame.shape[0] * self.max_width / frame.shape[1]))
            frame = np.asarray(cv2.resize(frame, (self.max_width, height), interpolation=cv2.INTER_AREA), np.uint8)
        # The detector's brightness is the largest of the three colours, so their order does not matter.
        cuts = self.detector.process_frame(FrameTimecode(self.num_frames, self.fps), frame)
        self.num_frames += 1
        return [cut.frame_num for cut in cuts]


@dataclass(frozen=True)
class TransNetScenes(SceneDetector):
    """TransNetV2: a scene begins after frames whose probability of being in a transition passes `threshold`."""

    weights: str
    threshold: float

    def __post_init__(self) -> None:
        check_there(self.weights, "TransNetV2's PyTorch weights", "https://github.com/soCzech/TransNetV2")

    @property
    def look_ahead(self) -> int:  # type: ignore[override]
        return TransNetWatch.WINDOW

    @cached_property
    def network(self) -> Any:
        """Loaded at first use, in the process that uses it."""
        from data_pipeline.networks.transnetv2 import TransNetV2

        return fill(TransNetV2(), load_weights(self.weights), self.weights)

    def watch(self, fps: float) -> SceneWatch:  # noqa: ARG002
        return TransNetWatch(self.network, self.threshold)


class TransNetWatch(SceneWatch):
    """Windows of 100 frames; of each only the middle 50 count, as in the paper. The ends are repeated."""

    WINDOW, MARGIN = 100, 25

    def __init__(self, network: Any, threshold: float) -> None:
        self.network = network
        self.threshold = threshold
        self.frames: list[Frame] = []  # of the next window
        self.num_frames = self.num_judged = 0
        self.was_transition = False

    def push(self, frame: Frame) -> list[int]:
        small = np.asarray(cv2.resize(frame, (48, 27), interpolation=cv2.INTER_AREA), np.uint8)
        self.frames += [small] * (self.MARGIN + 1 if self.num_frames == 0 else 1)
        self.num_frames += 1
        return self._judge() if len(self.frames) == self.WINDOW else []

    def finish(self) -> list[int]:
        cuts = []
        while self.num_judged < self.num_frames:
            self.frames += [self.frames[-1]] * (self.WINDOW - len(self.frames))
            cuts += self._judge()
        return [cut for cut in cuts if cut < self.num_frames]

    def _judge(self) -> list[int]:
        import torch

        with torch.inference_mode():
            logits = self.network(torch.from_numpy(np.stack(self.frames))[None])[0]
        middle = torch.sigmoid(logits)[self.MARGIN : self.WINDOW - self.MARGIN] > self.threshold
        cuts = []
        for number, is_transition in enumerate(middle.tolist(), self.num_judged):
            if self.was_transition and not is_transition:
                cuts.append(number)
            self.was_transition = is_transition
        self.num_judged += len(middle)
        del self.frames[: len(middle)]
        return cuts


@dataclass(frozen=True)
class NoScenes(SceneDetector):
    """For sessions that are one scene from beginning to end."""

    @property
    def look_ahead(self) -> int:  # type: ignore[override]
        return 0

    def watch(self, fps: float) -> SceneWatch:  # noqa: ARG002
        return NoWatch()


class NoWatch(SceneWatch):
    def push(self, frame: Frame) -> list[int]:  # noqa: ARG002
        return []


@dataclass(frozen=True)
class SplitScenes(Stage):
    """Decodes a source once and cuts it at scene changes, then every `max_frames`.

    Clips start at multiples of `multiple` frames and have a length that is one. What is left over (shorter than
    `min_frames`, between a cut and the next multiple, or beyond the keys) is rejected, so every frame of a source is in
    the ledger. A cut in any view cuts all. A plain video that ends well before its header says is truncated.
    """

    reader: VideoReader
    detector: SceneDetector
    min_frames: int
    max_frames: int
    multiple: int

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(f"need 1 <= min_frames <= max_frames, got {self.min_frames} and {self.max_frames}")
        if self.multiple < 1 or self.min_frames % self.multiple or self.max_frames % self.multiple:
            raise ValueError(
                f"min_frames and max_frames are multiples of {self.multiple}, "
                f"got {self.min_frames} and {self.max_frames}"
            )

    def process(self, clip: Clip) -> Iterator[Clip]:
        source = clip.source
        views = [iter(self.reader.frames(video, source.fps, source.video_fps)) for video in source.videos]
        watches = [self.detector.watch(source.fps) for _ in source.videos]
        buffer: list[tuple[Frame, ...]] = []  # frames not yet given away; the first is frame `start`
        start, num_frames, cuts = 0, 0, set[int]()
        damage: DamagedSourceError | None = None
        try:
            for frames in self._steps(source, views):
                buffer.append(frames)
                for watch, frame in zip(watches, frames, strict=True):
                    cuts.update(watch.push(frame))
                num_frames += 1
                decided = num_frames - self.detector.look_ahead
                while (stop := self._next_stop(start, cuts)) <= decided:
                    yield from self._cut(clip, start, _taken(buffer, stop - start), is_cut=stop in cuts)
                    start = stop
        except DamagedSourceError as mistake:
            damage = mistake
        for watch in watches:
            cuts.update(watch.finish())
        while start < num_frames:
            stop = min(self._next_stop(start, cuts), num_frames)
            yield from self._cut(clip, start, _taken(buffer, stop - start), is_cut=True)
            start = stop
        if damage is not None:
            raise damage
        if (beyond := max(sum(1 for _ in view) for view in views)) > 0:
            yield replace(clip, start=start, num_frames=beyond).rejected("beyond the keys", f"{beyond} frames")
        if source.actions is None and num_frames < source.num_frames - max(source.fps, TOLERANCE * source.num_frames):
            raise DamagedSourceError(
                "truncated video", f"ends at frame {num_frames} of {source.num_frames} that its header promises"
            )

    def _steps(self, source: Source, views: Sequence[Iterator[Frame]]) -> Iterator[tuple[Frame, ...]]:
        """The frames of all views, step by step. A session ends with its keys, whatever the videos hold beyond."""
        length = source.num_frames if source.actions is not None else None
        step = 0
        while length is None or step < length:
            frames = [next(view, None) for view in views]
            there = [frame for frame in frames if frame is not None]
            if not there and length is None:
                return
            if len(there) < len(frames):
                missing = [view for view, frame in enumerate(frames) if frame is None]
                raise DamagedSourceError(
                    "truncated video", f"views {missing} end at frame {step} of {length or 'more'}"
                )
            yield tuple(there)
            step += 1

    def _next_stop(self, start: int, cuts: set[int]) -> int:
        """Where the clip from `start` ends: at the next cut, at its full length, or at the next multiple."""
        aligned = -(-start // self.multiple) * self.multiple
        full = aligned if aligned > start else start + self.max_frames
        return min([full, *(cut for cut in cuts if start < cut < full)])

    def _cut(self, clip: Clip, start: int, buffer: list[tuple[Frame, ...]], *, is_cut: bool) -> Iterator[Clip]:
        """One clip, and what is left of it as a rejected one."""
        length = len(buffer)
        if start % self.multiple:
            yield replace(clip, start=start, num_frames=length).rejected("before the next multiple", f"{length} frames")
            return
        whole = length - length % self.multiple if is_cut else length
        if whole < self.min_frames:
            detail = f"{length} frames, the shortest clip has {self.min_frames}"
            yield replace(clip, start=start, num_frames=length).rejected("scene too short", detail)
            return
        views = tuple(np.stack(frames) for frames in zip(*buffer[:whole], strict=True))
        buffer.clear()  # they are in the views: a long clip is held once
        yield replace(clip, start=start, num_frames=whole, views=views)
        if whole < length:
            rest = replace(clip, start=start + whole, num_frames=length - whole)
            yield rest.rejected("beyond a multiple", f"{length - whole} frames")


def _taken(buffer: list[tuple[Frame, ...]], count: int) -> list[tuple[Frame, ...]]:
    taken = buffer[:count]
    del buffer[:count]
    return taken
