import numpy as np

from gamegen_x.data.synthetic import SyntheticClips, SyntheticDataset
from gamegen_x.schema.action_space import ActionSpace

KEYS = ActionSpace("keys", ("w", "a", "s", "d", "jump"))


def make_clips(seed: int = 0, num_clips: int = 3, instructed_share: float = 0.5) -> SyntheticClips:
    return SyntheticClips(num_clips, 48, 2, 64, 64, 24.0, KEYS, instructed_share, seed)


def test_a_clip_is_the_same_for_everybody() -> None:
    for index in (0, 7, 10**9):  # there is no end to them
        one, other = make_clips(), make_clips(num_clips=1)
        np.testing.assert_array_equal(one.frames(index, 1, 0, 48), other.frames(index, 1, 0, 48))
        np.testing.assert_array_equal(one.actions(index), other.actions(index))
        assert one.header(index) == other.header(index)


def test_clips_and_seeds_differ() -> None:
    pictures = [make_clips(seed).frames(index, 0, 0, 48) for seed in (0, 1) for index in (0, 1)]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_a_window_is_a_slice_of_the_clip() -> None:
    clips = make_clips()
    np.testing.assert_array_equal(clips.frames(2, 0, 10, 20), clips.frames(2, 0, 0, 48)[10:20])


def test_discs_obey_the_keys() -> None:
    """Seen from player 0, who stays in the middle, player 1 moves by the difference of their keys."""
    clips = make_clips()
    velocities = {"w": (0, -1), "a": (-1, 0), "s": (0, 1), "d": (1, 0), "jump": (0, 0)}
    speeds = np.array([velocities[key] for key in KEYS.keys])
    for index in range(3):
        moves = clips.actions(index).astype(int) @ speeds
        shown = clips.state(index)["screen_xy"][:, 0, 1]
        steps = (np.diff(shown, axis=0) + 32) % 64 - 32
        np.testing.assert_array_equal(steps, (moves[:, 1] - moves[:, 0])[1:])
        frames = clips.frames(index, 0, 0, 48)
        for t in range(0, 48, 5):
            x, y = np.rint(shown[t]).astype(int) % 64
            assert tuple(frames[t, y, x]) in ((60, 90, 230), (220, 60, 50))  # player 1, or player 0 before it


def test_night_falls_when_it_is_asked_for() -> None:
    clips = make_clips(instructed_share=1.0)
    night = [index for index in range(40) if clips.header(index).instructions]
    assert len(night) > 30
    index = night[0]
    frame = clips.header(index).instructions[0].frame
    sky = clips.frames(index, 0, 0, 48)[:, 0].astype(int).sum(axis=(1, 2))
    assert sky[frame - 1] > 2 * sky[frame]


def test_validation_shows_other_clips() -> None:
    options = {"num_frames": 8, "num_players": 1, "height": 32, "width": 32, "fps": 24.0, "instructed_share": 0.0}
    splits = SyntheticDataset({"train": 4, "val": 4}, "unused", action_space=KEYS, seed=0, **options).splits()
    train, val = ({splits[name].frames(i, 0, 0, 8).tobytes() for i in range(4)} for name in ("train", "val"))
    assert len(train) == len(val) == 4
    assert not train & val
