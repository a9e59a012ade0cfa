import numpy as np
import pytest
from made_up import make_clip, make_source, panning

from data_pipeline.ledger import Fate
from data_pipeline.stages.remove_duplicates import ClipEmbedding, PerceptualHash, RemoveDuplicates

STAGE = RemoveDuplicates(PerceptualHash(), threshold=0.9, num_frames=4)


def fate(name: str, *views: np.ndarray, stage: RemoveDuplicates = STAGE) -> Fate:
    (clip,) = stage.process(make_clip(*views, source=make_source(len(views[0]), len(views), name=name)))
    fingerprint = clip.fingerprint.hex()
    return Fate(name, name, "kept", 0, clip.num_frames, len(views), fingerprint=fingerprint)


def darker(frames: np.ndarray) -> np.ndarray:
    return (frames.astype(float) * 0.8 + 5).astype(np.uint8)


def test_the_first_of_two_that_look_alike_is_kept():
    fates = [fate("a", panning(8, seed=1)), fate("b", panning(8, seed=2)), fate("c", darker(panning(8, seed=1)))]
    rejected = STAGE.settle(fates)
    assert list(rejected) == ["c"]
    reason, detail = rejected["c"]
    assert reason == "duplicate"
    assert detail.endswith("with a")


def test_the_same_place_with_another_motion_is_another_clip():
    assert not STAGE.settle([fate("a", panning(16, right=3)), fate("b", panning(16, right=-3))])


def test_pictures_that_have_nothing_in_common_are_far_from_alike():
    hashes = PerceptualHash()
    prints = [hashes.fingerprint(panning(4, seed=seed)) for seed in range(12)]
    vectors = hashes.vectors(prints)
    similarities = vectors @ vectors.T
    assert np.diag(similarities) == pytest.approx(1, abs=1e-5)
    assert np.abs(similarities - np.eye(12)).max() < 0.5


def test_clips_with_other_numbers_of_views_or_frames_are_never_alike():
    view = panning(8)
    assert not STAGE.settle([fate("a", view), fate("b", view, view), fate("c", view[:3])])
    assert list(STAGE.settle([fate("a", view, view), fate("b", view, view)])) == ["b"]


def test_a_clip_like_a_rejected_one_but_unlike_the_kept_is_kept():
    """The chain a ~ b ~ c with a far from c must not take c away."""

    class Line(PerceptualHash):
        def vectors(self, fingerprints):
            angles = np.array([float(text) for text in fingerprints])
            return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    stage = RemoveDuplicates(Line(), threshold=0.9, num_frames=1)
    fates = [
        Fate(name, name, "kept", 0, 1, 1, fingerprint=angle.hex())
        for name, angle in (("a", b"0.0"), ("b", b"0.4"), ("c", b"0.8"))
    ]
    assert list(stage.settle(fates)) == ["b"]


@pytest.mark.parametrize("block", [1, 3, 512])
def test_the_size_of_a_block_changes_nothing(monkeypatch, block):
    from data_pipeline.stages import remove_duplicates

    rng = np.random.default_rng(0)
    originals = [rng.bytes(64) for _ in range(8)]
    fates = [
        Fate(f"c{number}", "s", "kept", number, 8, 1, fingerprint=originals[number * 5 % 8].hex())
        for number in range(24)
    ]
    monkeypatch.setattr(remove_duplicates, "BLOCK", block)
    assert list(STAGE.settle(fates)) == [f"c{number}" for number in range(8, 24)]


def test_embeddings_stand_behind_the_same_interface():
    class Encoder:
        model = "made up"

        def embed(self, frames):
            means = frames.reshape(len(frames), -1, 3).mean(1) - 128
            return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    stage = RemoveDuplicates(ClipEmbedding(Encoder()), threshold=0.99, num_frames=3)
    red, blue = (np.full((4, 8, 8, 3), colour, np.uint8) for colour in ((200, 20, 20), (20, 20, 200)))
    assert list(
        stage.settle([fate("a", red, stage=stage), fate("b", blue, stage=stage), fate("c", red, stage=stage)])
    ) == ["c"]


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_a_threshold_beyond_similarity_is_refused(threshold):
    with pytest.raises(ValueError, match="similarity threshold"):
        RemoveDuplicates(PerceptualHash(), threshold, 4)
