import base64

import numpy as np
import torch

from gamegen_x.evaluation.answer import Film, Pane
from gamegen_x.evaluation.films import BLUE, TITLE_HEIGHT, compose, film_as_data_url
from gamegen_x.sampling.video_file import read_video


def pane(title: str, num_frames: int, **more) -> Pane:
    return Pane(title, torch.full((num_frames, 3, 16, 16), 128, dtype=torch.uint8), **more)


def held(*numbers: int) -> torch.Tensor:
    actions = torch.zeros(4, 1, 2)
    for frame, number in enumerate(numbers):
        actions[frame, 0, number] = 1
    return actions


def is_blue(picture: np.ndarray) -> np.ndarray:
    return np.abs(picture.astype(int) - BLUE).max(-1) < 40


def test_the_key_that_is_held_lights_up_and_no_other():
    frames = compose(Film("", [pane("generated", 4, actions=held(0, 1, 1, 0))]), {0: "w", 1: "d"}, min_pane_width=96)
    columns = [np.flatnonzero(is_blue(frame).any(0)).mean() for frame in frames]
    assert columns[0] == columns[3] < columns[1] == columns[2]


def test_keys_that_do_not_fit_into_a_row_stand_above_one_another():
    """The last of Doom's seven keys is held: as many of its pixels are lit as where everything fits."""
    names = dict(enumerate(("w", "a", "s", "d", "left", "right", "space")))
    pressed = torch.zeros(1, 1, 7)
    pressed[..., 6] = 1
    lit = []
    for width in (96, 192, 384):
        (frame,) = compose(Film("", [pane("generated", 1, actions=pressed)]), names, min_pane_width=width)
        lit.append(np.argwhere(is_blue(frame)))
    assert len(lit[0]) == len(lit[1]) == len(lit[2]) > 100
    assert lit[1][:, 1].max() < lit[2][:, 1].min()  # it stands to the left, in a row of its own


def test_panes_stand_side_by_side_and_one_that_has_ended_turns_pale():
    frames = compose(Film("", [pane("short", 2), pane("long", 5)]), {}, min_pane_width=48)
    assert len(frames) == 5
    left, right = frames[4][:, : frames.shape[2] // 2], frames[4][:, frames.shape[2] // 2 :]
    assert left[TITLE_HEIGHT + 20, 24].mean() > 200
    assert abs(right[TITLE_HEIGHT + 20, 24].mean() - 128) < 2


def test_words_appear_when_they_are_said():
    frames = compose(Film("", [pane("told", 4, words=["", "", "Let it rain.", "Let it rain."])]), {}, 96)
    band = frames[:, TITLE_HEIGHT : TITLE_HEIGHT + 10, 10:90]
    assert band[1].mean() > 120 > band[2].mean()


def test_a_film_is_h264_inside_a_data_url(tmp_path):
    url = film_as_data_url(Film("", [pane("one", 6)]), {}, min_pane_width=32, fps=24.0, crf=23)
    kind, data = url.split(",")
    assert kind == "data:video/mp4;base64"
    (tmp_path / "film.mp4").write_bytes(base64.b64decode(data))
    frames, fps = read_video(tmp_path / "film.mp4")
    assert (len(frames), fps) == (6, 24.0)
