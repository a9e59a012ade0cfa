from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from gamegen_x.evaluation.subject import Subject
from gamegen_x.evaluation.video_quality import VideoQuality, frechet_distance


def test_equal_features_have_no_distance():
    features = torch.randn(50, 4)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_a_shift_counts_by_its_square():
    features = torch.randn(50, 4)
    assert frechet_distance(features, features + torch.tensor([3.0, 0, 0, 4.0])) == pytest.approx(25, rel=1e-5)


def test_a_wider_spread_counts_by_its_deviation():
    features = torch.randn(50, 1)
    deviation = float(features.std())
    assert frechet_distance(features, 3 * features - 2 * features.mean()) == pytest.approx(4 * deviation**2, rel=1e-4)


def test_windows_reach_to_the_end_of_every_clip_however_many_there_are_of_others():
    seen = {}

    def features(windows):
        seen[len(seen)] = windows[:, 0, 0, 0, 0].tolist()
        return torch.randn(len(windows), 2)

    play = SimpleNamespace(video=numbered(8, 40)[:, None], context_frames=4)
    clips = [SimpleNamespace(video=each[None]) for each in numbered(3, 24)]
    subject = Mock(
        Subject,
        is_player=True,
        play=play,
        generation=SimpleNamespace(block_frames=2),
        recordings=SimpleNamespace(val=clips, train=clips),
        judges=SimpleNamespace(motion_features=features, picture_features=features, environment=None),
    )
    VideoQuality(windows_per_clip=4).ask(subject)
    assert [(min(each), max(each)) for each in seen.values()] == [(4, 36), (0, 20), (0, 20)]


def numbered(num_clips, num_frames):
    """Clips whose pixels are the number of their frame."""
    return torch.arange(num_frames, dtype=torch.uint8).view(1, -1, 1, 1, 1).expand(num_clips, -1, 3, 2, 2)
