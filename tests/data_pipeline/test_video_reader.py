import os
import pickle
import resource
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import panning, write_video

from data_pipeline.clip import DamagedSourceError
from data_pipeline.video_reader import DecordReader, PyAVReader, held_between, resampled_indices


def reader_of(kind: str, height: int | None = None, width: int | None = None):
    if kind == "pyav":
        return PyAVReader(height, width, num_threads=1)
    return DecordReader(height, width, num_threads=1, batch_frames=7)


@pytest.fixture(params=["pyav", "decord"])
def kind(request):
    return request.param


def numbered(num_frames: int, height: int = 32, width: int = 32) -> np.ndarray:
    """Frame t is grey of brightness 40 + 4 t."""
    levels = (40 + 4 * np.arange(num_frames)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3))


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round((float(frame.mean()) - 40) / 4) for frame in frames]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.mark.parametrize(("video_fps", "fps"), [(24, 24), (48, 24), (12, 24), (30, 24), (35, 24)])
def test_frame_k_is_what_was_on_the_screen_at_k_over_fps_seconds(kind, folder, video_fps, fps):
    path = write_video(folder / f"{video_fps}.mp4", numbered(30), fps=video_fps)
    by_rate = numbers(list(reader_of(kind).frames(path, fps, video_fps)))
    by_file_times = numbers(list(reader_of(kind).frames(path, fps, None)))
    assert by_rate == resampled_indices(30, video_fps, fps).tolist()
    assert by_file_times == by_rate


@settings(max_examples=60)
@given(st.integers(1, 200), st.sampled_from([10, 12, 15, 23.976, 24, 25, 30, 35, 60]), st.sampled_from([8, 12, 24, 30]))
def test_resampled_frames_never_run_ahead_or_lag_a_whole_frame(num_frames, video_fps, fps):
    indices = resampled_indices(num_frames, video_fps, fps)
    asked = np.arange(len(indices)) * video_fps / fps
    assert len(indices) == pytest.approx(num_frames * fps / video_fps, abs=1)
    assert (indices <= asked + 1e-3).all()
    assert (asked - indices < 1.01)[indices < num_frames - 1].all()


@settings(max_examples=40)
@given(st.integers(2, 60), st.sampled_from([12, 24, 35, 60]))
def test_no_press_is_lost_when_keys_are_put_on_a_lower_rate(num_frames, video_fps):
    actions = np.random.default_rng(num_frames).integers(0, 2, (num_frames, 2, 3)).astype(np.uint8)
    shown = resampled_indices(num_frames, video_fps, 12)
    rows = held_between(actions, shown)
    assert rows.shape == (len(shown), 2, 3)
    assert (rows.max(axis=0) == actions[: shown[-1] + 1].max(axis=0)).all()
    if video_fps == 12:
        assert (rows == actions).all()


def test_other_shapes_are_cut_in_the_middle(kind, folder):
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :, 16:48] = 255  # the middle square
    path = write_video(folder / "wide.mp4", frames)
    frame = next(iter(reader_of(kind, 16, 16).frames(path, 24, None)))
    assert frame.shape == (16, 16, 3)
    assert frame.mean() > 250


def test_both_readers_see_the_same_pictures(folder):
    path = write_video(folder / "same.mp4", panning(12))
    ours, theirs = (np.stack(list(reader_of(kind).frames(path, 24, None))) for kind in ("pyav", "decord"))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 3


@pytest.mark.parametrize("turned", [90, -90, 180])
def test_a_video_that_was_filmed_sideways_is_read_upright(kind, folder, turned):
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :16, :32] = 255
    path = write_video(folder / f"turned{turned}.mp4", frames, turned=turned)
    upright = np.rot90(frames[0], turned // 90)
    frame = next(iter(reader_of(kind).frames(path, 24, None)))
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < 3
    info = reader_of(kind).probe(path)
    assert (info.height, info.width) == upright.shape[:2]
    small = next(iter(reader_of(kind, *(size // 2 for size in upright.shape[:2])).frames(path, 24, None)))
    assert np.abs(small.astype(int) - upright[::2, ::2]).mean() < 8


def test_a_reader_travels_to_a_worker_by_pickle(kind, folder):
    path = write_video(folder / "pickle.mp4", numbered(3))
    reader = pickle.loads(pickle.dumps(reader_of(kind)))
    assert numbers(list(reader.frames(path, 24, None))) == [0, 1, 2]


def damaged(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path.write_text("this is not a video\n" * 20)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut short":
        whole = write_video(folder / "whole.mp4", numbered(20)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "sound":
        import av

        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("text", "not a video"),
        ("empty", "zero bytes"),
        ("cut short", "not a video"),
        ("sound", "no video stream"),
        ("not there", "missing file"),
    ],
)
def test_a_damaged_file_says_what_is_wrong_with_it(folder, damage, reason):
    path = damaged(folder, damage)
    with pytest.raises(DamagedSourceError) as probed:
        reader_of("pyav").probe(path)
    with pytest.raises(DamagedSourceError) as read:
        list(reader_of("pyav").frames(path, 24, None))
    assert probed.value.reason == read.value.reason == reason
    assert path.name in probed.value.detail


@pytest.mark.parametrize("damage", ["text", "empty", "cut short", "not there"])
def test_decord_meets_damaged_files_with_the_same_error(folder, damage):
    with pytest.raises(DamagedSourceError):
        list(reader_of("decord").frames(damaged(folder, damage), 24, None))


def test_a_stream_that_breaks_in_the_middle_gives_what_came_before(folder):
    path = write_video(folder / "noise.mkv", np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) * 2 // 3])
    frames: list[np.ndarray] = []
    with suppress(DamagedSourceError):
        frames.extend(reader_of("pyav").frames(path, 24, None))
    assert 20 < len(frames) < 60


def test_odd_sizes_need_a_size_to_go_to(kind, folder):
    path = write_video(folder / "odd.mp4", panning(3, size=33))
    with pytest.raises(DamagedSourceError, match="odd size"):
        list(reader_of(kind).frames(path, 24, None))
    assert next(iter(reader_of(kind, 32, 32).frames(path, 24, None))).shape == (32, 32, 3)


@pytest.mark.parametrize(("height", "width"), [(64, None), (None, 64), (63, 64), (0, 64)])
def test_sizes_that_cannot_be_encoded_are_refused(height, width):
    with pytest.raises(ValueError, match=r"even number|both height and width"):
        reader_of("pyav", height, width)


def test_probing_tells_codec_size_rate_and_length(kind, folder):
    info = reader_of(kind).probe(write_video(folder / "probe.mp4", numbered(30, 32, 48), fps=30))
    assert (info.codec, info.height, info.width, info.fps, info.num_frames) == ("h264", 32, 48, 30, 30)


def test_decord_says_that_it_opens_no_name_that_is_not_utf8(folder):
    path = write_video(folder / "plain.mp4", numbered(3)).rename(folder / os.fsdecode(b"caf\xe9.mp4"))
    assert numbers(list(reader_of("pyav").frames(path, 24, None))) == [0, 1, 2]
    with pytest.raises(DamagedSourceError, match=r"name is not UTF-8.*reader=pyav"):
        list(reader_of("decord").frames(path, 24, None))


def test_a_system_that_cannot_open_more_files_makes_no_damage(kind, folder):
    path = write_video(folder / "whole.mp4", numbered(3))
    reader = reader_of(kind)
    assert numbers(list(reader.frames(path, 24, None))) == [0, 1, 2]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        with pytest.raises(OSError, match="Too many open files"):
            list(reader.frames(path, 24, None))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_size_that_changes_on_the_way_needs_a_size_to_go_to(folder):
    parts = [write_video(folder / f"{size}.h264", numbered(4, size, size)).read_bytes() for size in (32, 64)]
    (folder / "grows.h264").write_bytes(b"".join(parts))
    with pytest.raises(DamagedSourceError, match=r"size changes: .*32x32 to 64x64 at frame 4"):
        list(reader_of("pyav").frames(folder / "grows.h264", 24, None))
    assert len(list(reader_of("pyav", 32, 32).frames(folder / "grows.h264", 24, None))) == 8
