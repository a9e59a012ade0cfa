import numpy as np
import pytest

from gamegen_x.sampling.video_file import write_video
from sample import read_frames

SIZE = (64, 96)  # height and width


@pytest.fixture
def videos(tmp_path):
    """Two grey videos: paths by name."""
    paths = {"dark": tmp_path / "dark.mp4", "light": tmp_path / "light.mp4"}
    for path, grey in zip(paths.values(), (40, 200), strict=True):
        write_video(path, np.full((12, 32, 48, 3), grey, np.uint8), 24.0, 0)
    return {name: str(path) for name, path in paths.items()}


def greys(frames):
    """The mean of each player's frames, as bytes."""
    return ((frames.mean((0, 2, 3, 4, 5)) + 1) * 127.5).tolist()


def test_each_player_begins_with_a_video_of_its_own(videos):
    frames = read_frames(f"{videos['light']}|{videos['dark']}", SIZE, 8, 2)
    assert frames.shape == (1, 2, 8, 3, *SIZE)
    assert greys(frames) == pytest.approx([200, 40], abs=3)


def test_one_video_is_for_all_players(videos):
    assert greys(read_frames(videos["dark"], SIZE, 8, 3)) == pytest.approx([40] * 3, abs=3)


def test_a_wrong_number_of_videos_or_of_frames_is_told(videos):
    with pytest.raises(ValueError, match=r"2 videos are given .* num_players is 3"):
        read_frames(f"{videos['light']}|{videos['dark']}", SIZE, 8, 3)
    with pytest.raises(ValueError, match=r"dark.mp4 has 12 frames, 13 are needed"):
        read_frames(videos["dark"], SIZE, 13, 1)
