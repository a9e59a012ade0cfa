import numpy as np
import pytest
import torch
from moving_picture import KEYS, MovingPicture

from gamegen_x.evaluation.camera_motion import CameraMotion

CAMERA = CameraMotion(
    apart_frames=2, max_pixels=3.0, speck_pixels=5, detail_pixels=17, detail_levels=8.0, dip_pixels=5, min_dip=0.05
)


def panned(right, down, frames=5, seed=0):
    """A coarse random ground `[t 3 64 64]` over which the camera moves so many pixels a frame."""
    ground = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).repeat(12, 0).repeat(12, 1)
    views = [ground[64 + down * t :, 64 + right * t :][:64, :64] for t in range(frames)]
    return torch.from_numpy(np.stack(views).astype(np.uint8)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("right", "down"), [(0, -2), (-2, 0), (0, 2), (2, 0), (1, 1), (0, 0)])
@pytest.mark.parametrize("light", [1.0, 0.3])
def test_the_camera_is_seen_to_move_as_it_does_by_day_and_by_night(right, down, light):
    motion = CAMERA((panned(right, down) * light).to(torch.uint8))
    assert motion.tolist() == [right, down]


def test_specks_that_fall_on_the_screen_do_not_move_the_camera():
    frames = panned(2, 0)
    for t in range(len(frames)):
        frames[t, :, 4 * t % 16 :: 16, ::16] = 255
    assert CAMERA(frames).tolist() == [2, 0]


def test_played_backwards_the_camera_moves_the_other_way():
    assert CAMERA(panned(2, 0).flip(0)).tolist() == [-2, 0]


def test_where_there_is_nothing_to_see_nothing_moves():
    assert CAMERA(torch.full((5, 3, 64, 64), 90, dtype=torch.uint8)).tolist() == [0, 0]
    noise = torch.randint(0, 256, (5, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert CAMERA(noise).tolist() == [0, 0]


def test_a_motion_farther_than_the_search_is_told_to_be_none():
    assert CAMERA(panned(5, 0)).tolist() == [0, 0]


@pytest.mark.parametrize("changed", [{"dip_pixels": 4}, {"max_pixels": 0.1}])
def test_a_search_that_cannot_be_is_refused(changed):
    settings = {"apart_frames": 2, "max_pixels": 3.0, "speck_pixels": 5, "detail_pixels": 17, "detail_levels": 8.0}
    with pytest.raises(ValueError, match="odd dip_pixels"):
        CameraMotion(**{**settings, "dip_pixels": 5, "min_dip": 0.05, **changed})


def test_the_made_up_game_is_too_small_to_be_measured_but_never_wrong():
    world = MovingPicture(4)
    frames = np.stack([world.step(keys) for keys in KEYS.parse("d*5")])
    motion = CAMERA(torch.from_numpy(frames).permute(0, 3, 1, 2))
    assert motion.tolist()[0] >= 0
