import pytest
import torch

from gamegen_x.evaluation.video_quality import frechet_distance


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
