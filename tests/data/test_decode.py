import numpy as np
import pytest
from made_shards import encode

from gamegen_x.data.decode import Expected, UnreadableVideo, decode_video, probe_video, resize_and_crop


def made_video(num_frames: int = 40) -> tuple[bytes, Expected]:
    rng = np.random.default_rng(0)
    frames = np.repeat(np.repeat(rng.integers(0, 256, (num_frames, 4, 4, 3), dtype=np.uint8), 8, 1), 8, 2)
    return encode(frames), Expected(num_frames, 32, 32)


def test_a_window_is_a_slice_of_the_whole() -> None:
    video, expected = made_video()
    whole = decode_video(video, expected)
    assert whole.shape == (40, 32, 32, 3)
    for start, stop in ((0, 1), (0, 40), (1, 2), (15, 17), (16, 20), (17, 33), (31, 40), (39, 40)):
        np.testing.assert_array_equal(decode_video(video, expected, start, stop), whole[start:stop])


def test_a_video_that_breaks_off_is_no_shorter_video() -> None:
    video, expected = made_video()
    for cut in (len(video) // 2, len(video) - 200):
        with pytest.raises(UnreadableVideo):
            decode_video(video[:cut], expected)


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (Expected(41, 32, 32), "video has another length"),
        (Expected(40, 30, 32), "video has another size"),
    ],
)
def test_a_promise_that_is_not_kept_is_named(expected: Expected, reason: str) -> None:
    with pytest.raises(UnreadableVideo) as refused:
        probe_video(made_video()[0], expected)
    assert refused.value.reason == reason


def test_resizing_covers_the_size_and_keeps_the_middle() -> None:
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    frames[:, :, 35:45] = 255  # a bar in the middle
    made = resize_and_crop(frames, 20, 20)
    assert made.shape == (2, 20, 20, 3)
    assert (made[:, :, 9:11] == 255).all()
    assert (made[:, :, [0, -1]] == 0).all()
    assert resize_and_crop(frames, 40, 80) is frames
