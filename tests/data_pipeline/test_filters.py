import json

import cv2
import numpy as np
import pytest
import torch
from made_up import make_clip, panning, texture

from data_pipeline.clip import Clip, DamagedSourceError
from data_pipeline.networks.clip_image import ClipImageEncoder
from data_pipeline.stages.filter_aesthetics import ClipAesthetics, FilterAesthetics, ImageStatistics
from data_pipeline.stages.filter_motion import SCORE, DisFlow, FilterMotion, RaftFlow, narrowed

STATISTICS = ImageStatistics()


def flat(level: int, num_frames: int = 8) -> np.ndarray:
    return np.full((num_frames, 64, 64, 3), level, np.uint8)


def only(stage, clip: Clip) -> Clip:
    (result,) = stage.process(clip)
    return result


def motion(estimator=None, minimum=0.01, maximum=4.0, **changes) -> FilterMotion:
    return FilterMotion(estimator or DisFlow(), minimum, maximum, **{"num_pairs": 3, "max_width": 256, **changes})


def test_a_flat_picture_is_ugly_and_a_colourful_one_is_not():
    assert STATISTICS.score(flat(0)) == 0
    assert STATISTICS.score(flat(128)) == pytest.approx(2.5)  # well exposed, and nothing else
    assert 6 < STATISTICS.score(panning(2)) <= 10


@pytest.mark.parametrize(
    "worse",
    [
        lambda frames: (frames.astype(float) * 0.3).astype(np.uint8),
        lambda frames: np.stack([cv2.GaussianBlur(frame, (0, 0), 6) for frame in frames]),
        lambda frames: np.repeat(frames.mean(-1, keepdims=True), 3, -1).astype(np.uint8),
    ],
    ids=["darker", "blurred", "grey"],
)
def test_what_takes_from_a_picture_lowers_its_score(worse):
    assert STATISTICS.score(worse(panning(2))) < STATISTICS.score(panning(2)) - 0.5


def test_an_ugly_clip_falls_with_its_score_and_the_reason():
    stage = FilterAesthetics(STATISTICS, minimum=3.0, num_frames=4)
    kept, fallen = only(stage, make_clip(panning(8))), only(stage, make_clip(flat(10)))
    assert not kept.is_rejected
    assert kept.scores[STATISTICS.name] > 3
    assert (fallen.is_rejected, fallen.reason) == (True, "below the minimum")
    assert "2.5" in fallen.detail
    assert fallen.views == ()


@pytest.mark.parametrize(
    ("stage", "bad"), [(FilterAesthetics(STATISTICS, 3.0, 4), flat(10)), (motion(), panning(8, right=0))]
)
def test_views_are_judged_together(stage, bad):
    assert not only(stage, make_clip(panning(8), bad)).is_rejected
    assert only(stage, make_clip(bad, bad)).is_rejected


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_motion_is_the_speed_of_the_picture_in_widths_a_second(speed):
    clip = only(motion(), make_clip(panning(16, right=speed)))
    assert clip.scores[SCORE] == pytest.approx(speed * 24 / 64, rel=0.15)


def test_too_little_and_too_much_motion_fall():
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    assert only(motion(), make_clip(panning(8, right=0))).reason == "too little motion"
    assert only(motion(maximum=0.5), make_clip(panning(8, right=2))).reason == "too much motion"
    assert only(motion(maximum=0.5), make_clip(noise)).is_rejected


def test_pictures_too_small_for_optical_flow_are_a_damage_and_end_no_process():
    with pytest.raises(DamagedSourceError, match=r"too small: 64x12 pixels"):
        only(motion(), make_clip(panning(8)[:, :12]))
    assert not only(motion(), make_clip(panning(8)[:, :16])).is_rejected


def test_bounds_that_no_clip_can_meet_are_refused():
    with pytest.raises(ValueError, match="minimum < maximum"):
        motion(minimum=2, maximum=1)


def test_wide_frames_are_made_smaller_and_keep_their_shape():
    assert narrowed(texture(0, 400)[:200], 100).shape == (50, 100, 3)
    assert narrowed(texture(0, 64), 100).shape == (64, 64, 3)


def test_raft_stands_behind_the_same_interface(tmp_path):
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    estimator = RaftFlow("small", str(tmp_path / "raft.pth"), num_updates=1)
    first, second = panning(2, right=2)
    flow = estimator.flow(first, second)
    assert flow.shape == DisFlow().flow(first, second).shape == (64, 64, 2)
    assert np.isfinite(flow).all()
    assert SCORE in only(motion(estimator, maximum=1e9, num_pairs=1), make_clip(panning(3))).scores


@pytest.mark.parametrize(
    "make", [lambda path: RaftFlow("small", path, 1), lambda path: ClipImageEncoder("ViT-B-32", path)]
)
def test_missing_weights_say_what_to_put_where(tmp_path, make):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth do not exist; they should be .* Get them from http"):
        make(str(tmp_path / "nothing.pth"))


def test_a_pickle_that_is_not_weights_is_refused_and_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    torch.save(Trap(), tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"not loaded|not a file of weights"):
        _ = RaftFlow("small", str(tmp_path / "trap.pth"), 1).network
    assert not (tmp_path / "executed").exists()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A real open_clip model, tiny, with random weights."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    tower = {"width": 32, "heads": 2, "layers": 1}
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1},
        "text_cfg": {"context_length": 8, "vocab_size": 64, **tower},
    }
    (folder / "curation-test-tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "curation-test-tiny.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("curation-test-tiny").state_dict(), folder / "clip.pth")
    torch.save({"weight": torch.ones(1, 16), "bias": torch.tensor([5.0])}, folder / "head.pth")
    torch.save({"weight": torch.ones(1, 3), "bias": torch.tensor([5.0])}, folder / "wrong.pth")
    return ClipImageEncoder("curation-test-tiny", str(folder / "clip.pth")), folder


def test_clip_aesthetics_stand_behind_the_same_interface(encoder):
    clip_encoder, folder = encoder
    scorer = ClipAesthetics(clip_encoder, str(folder / "head.pth"))
    vectors = clip_encoder.embed(panning(2))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert scorer.score(panning(2)) == pytest.approx(5 + float(vectors.sum(1).mean()), abs=1e-4)
    assert scorer.name in only(FilterAesthetics(scorer, 0.0, 2), make_clip(panning(4))).scores


def test_a_head_of_another_model_is_refused(encoder):
    clip_encoder, folder = encoder
    with pytest.raises(ValueError, match=r"fits vectors of 3, .* makes 16"):
        ClipAesthetics(clip_encoder, str(folder / "wrong.pth")).score(panning(1))
    with pytest.raises(ValueError, match="not a linear head"):
        ClipAesthetics(clip_encoder, clip_encoder.weights).score(panning(1))
