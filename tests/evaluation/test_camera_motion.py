import numpy as np
import pytest
import torch
from moving_picture import KEYS, MovingPicture

from gamegen_x.evaluation.camera_motion import camera_motion


@pytest.mark.parametrize(("key", "right", "down"), [("w", 0, -2), ("a", -2, 0), ("s", 0, 2), ("d", 2, 0), ("_", 0, 0)])
@pytest.mark.parametrize("is_night", [False, True])
def test_the_camera_is_seen_to_move_as_its_keys_say(key, right, down, is_night):
    world = MovingPicture(4)
    world.facts = np.array([int(is_night), 0])
    frames = np.stack([world.step(keys) for keys in KEYS.parse(f"{key}*5")])
    motion = camera_motion(torch.from_numpy(frames).permute(0, 3, 1, 2))
    assert motion.shape == (4, 2)
    assert torch.allclose(motion.mean(0), torch.tensor([right, down], dtype=torch.float32), atol=0.3)
