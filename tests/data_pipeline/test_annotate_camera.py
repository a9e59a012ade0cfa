import cv2
import numpy as np
import pytest
from made_up import TRACKER, make_clip, make_source, panning, texture

from data_pipeline.stages.annotate_camera import AnnotateCamera


def turning(zoom: float = 1.0, degrees: float = 0.0, num_frames: int = 12) -> np.ndarray:
    """A camera that zooms and rolls over the middle of a texture by so much a frame."""
    picture, frames = texture(3), []
    for t in range(num_frames):
        matrix = cv2.getRotationMatrix2D((200, 200), degrees * t, zoom**t)
        frames.append(cv2.warpAffine(picture, matrix, (400, 400))[168:232, 168:232])
    return np.stack(frames)


@pytest.mark.parametrize(
    ("right", "down", "label"),
    [
        (0, 0, "static"),
        (1.5, 0, "pan right"),
        (-1.5, 0, "pan left"),
        (0, 1.5, "tilt down"),
        (0, -1.5, "tilt up"),
        (1.5, -1.5, "pan right and tilt up"),
        (-1.5, 0.4, "pan left"),
    ],
)
def test_a_camera_over_a_plane_is_named_by_where_it_goes(right, down, label):
    assert TRACKER.label(panning(16, right=right, down=down), 24) == label


@pytest.mark.parametrize(
    ("frames", "label"),
    [
        (turning(zoom=1.03), "zoom in"),
        (turning(zoom=0.97), "zoom out"),
        (turning(degrees=3), "roll clockwise"),
        (turning(degrees=-3), "roll counter-clockwise"),
    ],
)
def test_zooms_and_rolls_are_named(frames, label):
    assert TRACKER.label(frames, 24) == label


def test_a_camera_that_changes_its_mind_pans_around():
    legs = [panning(8, right=right, down=down) for right, down in ((2, 0), (0, 2), (-2, 0), (0, -2))]
    assert TRACKER.label(np.concatenate(legs), 24) == "pan around"


def test_nothing_to_track_is_unclear():
    assert TRACKER.label(np.full((8, 64, 64, 3), 90, np.uint8), 24) == "unclear"


def test_the_kind_of_camera_and_the_motion_of_every_view_are_told():
    source = make_source(16, 2, camera="overhead")
    (clip,) = AnnotateCamera(TRACKER).process(make_clip(panning(16, right=2), panning(16, right=0), source=source))
    assert clip.camera == "overhead: pan right | static"
