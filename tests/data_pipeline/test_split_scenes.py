import weakref
from contextlib import nullcontext
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import KEYS, make_source, panning

from data_pipeline.clip import Clip, DamagedSourceError
from data_pipeline.networks.transnetv2 import TransNetV2
from data_pipeline.pipeline import Effort, _flow
from data_pipeline.stage import Stage
from data_pipeline.stages.split_scenes import (
    LumaScenes,
    NoScenes,
    SceneDetector,
    SceneWatch,
    SplitScenes,
    TransNetScenes,
    TransNetWatch,
)
from data_pipeline.video_reader import VideoReader
from gamegen_x.config import CONFIGS, build

LUMA = LumaScenes(threshold=27.0, min_scene_frames=8, max_width=64)


@dataclass(frozen=True)
class Memory(VideoReader):
    """Frames by file name, without files; counts how often each is opened."""

    height: None = None
    width: None = None
    num_threads: int = 1
    breaks: bool = False
    videos: ClassVar[dict[str, np.ndarray]] = {}
    opened: list[str] = field(default_factory=list)

    def probe(self, path: Path):
        raise NotImplementedError

    def _timed_frames(self, path: Path):
        raise NotImplementedError

    def frames(self, path, fps, video_fps):
        self.opened.append(path.name)
        yield from self.videos[path.name]
        if self.breaks:
            raise DamagedSourceError("cannot decode", "broken here")


@dataclass(frozen=True)
class CutsAt(SceneDetector):
    """Reports given cuts, as late as it may."""

    cuts: tuple[int, ...]
    look_ahead: int = 0

    def watch(self, fps: float) -> SceneWatch:
        return Telling(self)


class Telling(SceneWatch):
    def __init__(self, settings: CutsAt) -> None:
        self.settings, self.num_frames = settings, 0

    def push(self, frame) -> list[int]:
        self.num_frames += 1
        return [cut for cut in self.settings.cuts if cut == self.num_frames - 1 - self.settings.look_ahead]

    def finish(self) -> list[int]:
        return [cut for cut in self.settings.cuts if cut < self.num_frames]


def split(detector, num_frames, min_frames=8, max_frames=16, multiple=4, num_views=1, breaks=False, reader=None):
    reader = reader or Memory(breaks=breaks)
    frame = np.zeros((2, 2, 3), np.uint8)
    for view in range(num_views):
        reader.videos[f"seat-{view}.mp4"] = [frame + (index % 256) for index in range(num_frames)]
    stage = SplitScenes(reader, detector, min_frames, max_frames, multiple)
    return list(stage.process(Clip(make_source(num_frames, num_views), 0, num_frames)))


@settings(max_examples=80)
@given(
    num_frames=st.integers(1, 150),
    cuts=st.lists(st.integers(1, 149), max_size=6),
    look_ahead=st.sampled_from([0, 3, 50]),
    lengths=st.sampled_from([(4, 16), (8, 8), (16, 48)]),
)
def test_every_frame_belongs_to_exactly_one_clip(num_frames, cuts, look_ahead, lengths):
    clips = split(CutsAt(tuple(cuts), look_ahead), num_frames, *lengths)
    assert [clip.start for clip in clips] == [0, *(clip.stop for clip in clips[:-1])]
    assert clips[-1].stop == num_frames
    for clip in clips:
        if clip.is_rejected:
            assert not clip.views
            continue
        assert clip.start % 4 == clip.num_frames % 4 == 0
        assert lengths[0] <= clip.num_frames <= lengths[1]
        assert not any(clip.start < cut < clip.stop for cut in cuts)
        assert clip.views[0][:, 0, 0, 0].tolist() == [index % 256 for index in range(clip.start, clip.stop)]


@settings(max_examples=30)
@given(num_frames=st.integers(60, 150), cuts=st.lists(st.integers(1, 149), max_size=4))
def test_a_detector_that_looks_ahead_changes_nothing_but_the_time_of_the_answer(num_frames, cuts):
    at_once, late = (split(CutsAt(tuple(cuts), look_ahead), num_frames) for look_ahead in (0, 40))
    spans = [[(clip.start, clip.num_frames, clip.reason) for clip in clips] for clips in (at_once, late)]
    assert spans[0] == spans[1]


def test_each_view_is_decoded_once_and_stays_with_its_clip():
    reader = Memory()
    clips = split(NoScenes(), 40, num_views=3, reader=reader)
    assert reader.opened == ["seat-0.mp4", "seat-1.mp4", "seat-2.mp4"]
    assert [clip.num_frames for clip in clips] == [16, 16, 8]
    assert all(len(clip.views) == 3 and len(view) == clip.num_frames for clip in clips for view in clip.views)


def test_a_clip_is_let_go_before_the_next_one_is_decoded():
    alive: list[int] = []
    held: list[weakref.ref] = []

    class Decoding(Memory):
        def frames(self, path, fps, video_fps):
            for index in range(48):
                alive.append(sum(views() is not None for views in held))
                yield np.full((2, 2, 3), index, np.uint8)

    @dataclass(frozen=True)
    class Holding(Stage):
        def process(self, clip):
            held.append(weakref.ref(clip.views[0]))
            yield clip.scored("motion", 1.0)

    clips = iter([Clip(make_source(48), 0, 48)])
    for stage in (SplitScenes(Decoding(), NoScenes(), 8, 16, 4), Holding(), Holding()):
        clips = _flow("stage", stage, clips, {}, Effort())
    assert list(map(attrgetter("is_rejected"), clips)) == [False] * 3
    assert len(held) == 6
    assert set(alive) == {0}


def test_what_was_whole_before_a_damage_is_kept():
    reader = Memory(breaks=True)
    reader.videos["seat-0.mp4"] = [np.zeros((2, 2, 3), np.uint8)] * 30
    clips: list[Clip] = []
    with pytest.raises(DamagedSourceError, match="broken here"):
        clips.extend(SplitScenes(reader, NoScenes(), 8, 16, 4).process(Clip(make_source(99), 0, 99)))
    assert [(clip.start, clip.num_frames, clip.reason) for clip in clips] == [
        (0, 16, ""),
        (16, 12, ""),
        (28, 2, "beyond a multiple"),
    ]


def test_a_view_that_ends_before_its_session_is_a_damage():
    reader = Memory()
    for seat, num_frames in enumerate((32, 20)):
        reader.videos[f"seat-{seat}.mp4"] = [np.zeros((2, 2, 3), np.uint8)] * num_frames
    actions = np.zeros((32, 2, KEYS.num_keys), np.uint8)
    stage = SplitScenes(reader, NoScenes(), 8, 16, 4)
    with pytest.raises(DamagedSourceError, match=r"views \[1\] end at frame 20 of 32"):
        list(stage.process(Clip(make_source(32, 2, actions=actions), 0, 32)))


def test_frames_beyond_the_keys_are_rejected_and_counted():
    reader = Memory()
    reader.videos["seat-0.mp4"] = [np.zeros((2, 2, 3), np.uint8)] * 30
    actions = np.zeros((18, 1, KEYS.num_keys), np.uint8)
    clips = list(SplitScenes(reader, NoScenes(), 8, 16, 4).process(Clip(make_source(18, actions=actions), 0, 18)))
    assert [(clip.start, clip.num_frames, clip.reason) for clip in clips] == [
        (0, 16, ""),
        (16, 2, "scene too short"),
        (18, 12, "beyond the keys"),
    ]


@pytest.mark.parametrize(("num_frames", "is_truncated"), [(100, False), (76, False), (75, True)])
def test_a_video_that_ends_well_before_its_header_says_is_truncated(num_frames, is_truncated):
    reader, clips = Memory(), list[Clip]()
    reader.videos["seat-0.mp4"] = [np.zeros((2, 2, 3), np.uint8)] * num_frames
    with pytest.raises(DamagedSourceError, match="75 of 100") if is_truncated else nullcontext():
        clips.extend(SplitScenes(reader, NoScenes(), 8, 16, 4).process(Clip(make_source(100), 0, 100)))
    assert sum(clip.num_frames for clip in clips) == num_frames


def test_luma_finds_the_cuts_between_scenes_and_none_within():
    scenes = [panning(length, seed=seed, right=2) for seed, length in enumerate((30, 41, 25))]
    watch = LUMA.watch(24)
    cuts = [cut for frame in np.concatenate(scenes) for cut in watch.push(frame)]
    assert cuts == [30, 71]


def test_luma_as_configured_finds_cuts_that_follow_each_other_closely():
    detector = build(yaml.safe_load((Path(CONFIGS) / "pipeline" / "scene_detector" / "luma.yaml").read_text()))
    lengths = (30, 5, 1, 14, 20)
    scenes = [panning(length, seed=seed, right=2) for seed, length in enumerate(lengths)]
    watch = detector.watch(24)
    cuts = [cut for frame in np.concatenate(scenes) for cut in watch.push(frame)]
    assert cuts == [30, 35, 36, 50]


def test_luma_sees_no_cut_in_a_slow_change_of_light():
    frames = panning(60, right=1).astype(np.float32) * np.linspace(1, 0.3, 60)[:, None, None, None]
    watch = LUMA.watch(24)
    assert [cut for frame in frames.astype(np.uint8) for cut in watch.push(frame)] == []


def test_settings_that_no_clip_can_meet_are_refused():
    with pytest.raises(ValueError, match="min_frames <= max_frames"):
        SplitScenes(Memory(), NoScenes(), 32, 16, 4)
    with pytest.raises(ValueError, match="multiples of 4"):
        SplitScenes(Memory(), NoScenes(), 10, 16, 4)


def test_missing_transnet_weights_say_what_to_put_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth.*TransNetV2.*github\.com/soCzech"):
        TransNetScenes(str(tmp_path / "nowhere.pth"), threshold=0.5)


def test_transnet_has_the_members_of_the_published_weights():
    shapes = {name: tuple(value.shape) for name, value in TransNetV2().state_dict().items()}
    assert shapes["SDDCNN.0.DDCNN.0.Conv3D_1.layers.0.weight"] == (32, 3, 1, 3, 3)
    assert shapes["SDDCNN.2.DDCNN.1.Conv3D_8.layers.1.weight"] == (64, 128, 3, 1, 1)
    assert shapes["SDDCNN.1.DDCNN.0.bn.running_mean"] == (128,)
    assert shapes["frame_sim_layer.projection.weight"] == (128, 448)
    assert shapes["color_hist_layer.fc.weight"] == (128, 101)
    assert shapes["fc1.weight"] == (1024, 4864)
    assert shapes["cls_layer1.weight"] == shapes["cls_layer2.weight"] == (1, 1024)


def test_transnet_weights_are_loaded_and_judge_every_frame(tmp_path):
    torch.manual_seed(0)
    torch.save(TransNetV2().state_dict(), tmp_path / "weights.pth")
    detector = TransNetScenes(str(tmp_path / "weights.pth"), threshold=0.5)
    watch = detector.watch(24)
    frames = panning(60)
    cuts = [cut for frame in frames for cut in watch.push(frame)] + watch.finish()
    assert watch.num_judged >= 60
    assert all(0 < cut < 60 for cut in cuts)
    torch.save({"another": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="are of another network"):
        TransNetScenes(str(tmp_path / "other.pth"), threshold=0.5).watch(24)


@pytest.mark.parametrize("num_frames", [5, 49, 50, 51, 130])
def test_transnet_windows_begin_a_scene_right_after_each_transition(num_frames):
    transitions = {3, 30, 31, 49, 77, 78, 79, 120}

    def network(frames):
        numbers = frames[0, :, 0, 0, 0].tolist()
        return torch.tensor([[5.0 if number in transitions else -5.0 for number in numbers]])

    watch = TransNetWatch(network, 0.5)
    frames = [np.full((27, 48, 3), index, np.uint8) for index in range(num_frames)]
    cuts = [cut for frame in frames for cut in watch.push(frame)] + watch.finish()
    assert cuts == [cut for cut in (4, 32, 50, 80, 121) if cut < num_frames]
