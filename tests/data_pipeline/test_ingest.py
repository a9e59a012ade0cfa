import errno
import os
import shutil

import numpy as np
import pytest
from made_up import KEYS, make_trace, panning, write_video

from data_pipeline.clip import Clip, DamagedSourceError
from data_pipeline.stages.align_actions import AlignActions
from data_pipeline.stages.ingest_traces import IngestTraces
from data_pipeline.stages.ingest_videos import IngestVideos
from data_pipeline.video_reader import PyAVReader
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.trace import TextEvent

READER = PyAVReader(None, None, num_threads=1)


def traces(fps: float = 24.0) -> IngestTraces:
    return IngestTraces(READER, fps, codecs=["h264"])


def videos(**changes) -> IngestVideos:
    return IngestVideos(
        **{
            "reader": READER,
            "fps": 24.0,
            "suffixes": [".mp4"],
            "action_space": KEYS,
            "licence": "CC0-1.0",
            "attribution": "me",
            **changes,
        }
    )


def test_a_trace_becomes_one_source_with_a_view_a_seat(tmp_path):
    trace = make_trace(tmp_path / "in" / "t1", num_frames=20)
    make_trace(tmp_path / "in" / "t2", num_frames=12, seed=1)
    found = traces().find(tmp_path / "in")
    assert list(found) == ["t1", "t2"]
    source = traces().open("t1", found["t1"])
    assert (source.num_views, source.num_frames, source.camera) == (2, 20, "overhead")
    assert (source.actions == trace.actions).all()
    assert source.has_actions
    assert source.facts == trace.facts
    assert (source.licence, source.attribution) == ("CC0-1.0", "made up")


def test_keys_state_and_sentences_keep_step_with_the_picture_at_another_rate(tmp_path):
    events = tuple(TextEvent(frame, 0, f"Say {frame}.") for frame in (0, 5, 6, 39))
    make_trace(tmp_path / "t", num_frames=40, fps=48, text_events=events)
    source = traces(fps=24.0).open("t", tmp_path / "t")
    assert source.num_frames == 20
    assert source.state["frame"].tolist() == list(range(0, 40, 2))  # the frame shown
    for event in source.text_events:
        shown = source.state["frame"]
        asked = int(event.text.split()[1].strip("."))
        assert shown[event.frame] >= asked  # from the first frame that can show it
        assert event.frame == 0 or shown[event.frame - 1] < asked
    assert [event.frame for event in source.text_events] == [0, 3, 3]
    assert len(list(READER.frames(source.videos[0], 24.0, source.video_fps))) == source.num_frames


def test_a_clip_gets_its_own_rows_and_the_sentences_said_within_it(tmp_path):
    events = (
        TextEvent(4, 0, "Before."),
        TextEvent(8, 0, "First."),
        TextEvent(15, 1, "Last."),
        TextEvent(16, 0, "After."),
    )
    trace = make_trace(tmp_path / "t", num_frames=24, text_events=events)
    (clip,) = AlignActions().process(Clip(traces().open("t", tmp_path / "t"), start=8, num_frames=8))
    assert (clip.actions == trace.actions[8:16]).all()
    assert clip.state["frame"].tolist() == list(range(8, 16))
    assert [(said.text, said.frame) for said in clip.instructions] == [("First.", 0), ("Last.", 7)]


def test_a_video_without_keys_gets_rows_of_zeros(tmp_path):
    write_video(tmp_path / "play.mp4", panning(10))
    source = videos().open("play", tmp_path / "play.mp4")
    (clip,) = AlignActions().process(Clip(source, start=4, num_frames=4))
    assert not source.has_actions
    assert clip.actions.shape == (4, 1, KEYS.num_keys)
    assert not clip.actions.any()


def test_keys_that_stand_beside_a_video_are_its_keys(tmp_path):
    write_video(tmp_path / "play.mp4", panning(10))
    (tmp_path / "play.keys.txt").write_text("W*4 W+D*2 _*4")
    source = videos().open("play", tmp_path / "play.mp4")
    assert source.has_actions
    assert source.num_frames == 10
    assert KEYS.format(source.actions[:, 0]) == "w*4 w+d*2 _*4"
    (tmp_path / "play.keys.txt").write_text("fly*4")
    with pytest.raises(DamagedSourceError, match=r"unreadable keys.*fly"):
        videos().open("play", tmp_path / "play.mp4")


def test_names_of_sources_are_plain_and_distinct(tmp_path):
    names = ["a b.mp4", "a.b.mp4", "sub/a_b.mp4", "ä.mp4", "x" * 90 + ".mp4", "plain.mp4", "plain.MP4"]
    for name in names:
        write_video(tmp_path / "temporary.mkv", panning(2))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.move(tmp_path / "temporary.mkv", tmp_path / name)
    found = videos().find(tmp_path)
    assert len(found) == len(names)
    assert "plain" in found
    assert all(
        len(name) < 80 and all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name)
        for name in found
    )


def test_names_that_meet_stay_apart(tmp_path):
    paths = [tmp_path / name for name in ("play-mp4.mkv", "play.mkv", "play.mp4")]
    for path in paths:
        path.touch()
    found = videos(suffixes=[".mp4", ".mkv"]).find(tmp_path)
    assert sorted(found.values()) == paths
    assert "play" in found


def test_hidden_files_are_no_sources(tmp_path):
    for name in ("play.mp4", "._play.mp4"):
        (tmp_path / name).touch()
    assert list(videos().find(tmp_path).values()) == [tmp_path / "play.mp4"]


def test_a_folder_that_cannot_be_read_is_said(tmp_path, monkeypatch):
    scandir, locked = os.scandir, tmp_path / "locked"
    locked.mkdir()
    (tmp_path / "play.mp4").touch()

    def refusing(path):  # the permissions of a folder do not hold back who is root
        if path == str(locked):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(
        PermissionError, match=r"Permission denied, so its files would be missing; make it readable.*locked"
    ):
        videos().find(tmp_path)


def test_folders_behind_links_are_found_once(tmp_path):
    make_trace(tmp_path / "elsewhere" / "t", num_frames=8)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "around").symlink_to(tmp_path / "in")
    assert list(traces().find(tmp_path / "in").values()) == [tmp_path / "in" / "link" / "t"]


def test_a_folder_without_sources_says_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match=r"no traces below .* gamegen_x.games.record"):
        traces().find(tmp_path)
    with pytest.raises(ValueError, match=r"no videos below .*\.mp4"):
        videos().find(tmp_path)


def test_games_with_other_keys_do_not_mix(tmp_path):
    make_trace(tmp_path / "one", num_frames=8)
    other = ActionSpace("other", ("left", "right", "up", "fire"))
    make_trace(tmp_path / "two", num_frames=8, action_space=other)
    with pytest.raises(ValueError, match=r"one has .*\"w\".*two has .*\"left\""):
        traces().find(tmp_path)


def break_trace(folder, damage):
    if damage == "unfinished":
        (folder / "trace.json").unlink()
    elif damage == "no keys":
        (folder / "actions.npy").unlink()
    elif damage == "half keys":
        data = (folder / "actions.npy").read_bytes()
        (folder / "actions.npy").write_bytes(data[: len(data) // 2])
    elif damage == "bad header":
        (folder / "trace.json").write_text("{")
    elif damage in ("[]", "null"):
        (folder / "trace.json").write_text(damage)
    elif damage == "damaged state":
        data = bytearray((folder / "state.npz").read_bytes())
        data[len(data) // 2] ^= 255
        (folder / "state.npz").write_bytes(data)
    elif damage == "no video":
        (folder / "seat-1.mp4").unlink()
    elif damage == "empty video":
        (folder / "seat-1.mp4").write_bytes(b"")
    elif damage == "text video":
        (folder / "seat-1.mp4").write_text("hello")
    elif damage == "short video":
        write_video(folder / "seat-1.mp4", panning(1))
    elif damage == "other codec":
        write_video(folder / "seat-1.mp4", panning(12), codec="mpeg4")
    elif damage == "long sentence":
        make_trace(folder, num_frames=12, text_events=(TextEvent(4, 0, "Snow, " * 16),))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("unfinished", "unreadable trace"),
        ("no keys", "unreadable trace"),
        ("half keys", "unreadable trace"),
        ("bad header", "unreadable trace"),
        ("[]", "unreadable trace"),
        ("null", "unreadable trace"),
        ("damaged state", "unreadable trace"),
        ("no video", "missing file"),
        ("empty video", "zero bytes"),
        ("text video", "not a video"),
        ("short video", "truncated video"),
        ("other codec", "wrong codec"),
        ("long sentence", "unreadable instruction"),
    ],
)
def test_a_damaged_trace_is_found_and_says_why(tmp_path, damage, reason):
    make_trace(tmp_path / "t", num_frames=12)
    break_trace(tmp_path / "t", damage)
    found = traces().find(tmp_path)
    assert list(found) == ["t"]
    with pytest.raises(DamagedSourceError) as caught:
        traces().open("t", found["t"])
    assert caught.value.reason == reason


def test_a_source_survives_numpy_scalars_in_facts(tmp_path):
    make_trace(tmp_path / "t", num_frames=8, state={"planet": np.full(8, 7, np.int64)}, facts={})
    assert traces().open("t", tmp_path / "t").state["planet"].tolist() == [7] * 8
