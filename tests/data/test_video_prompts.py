from pathlib import Path

import numpy as np
import pytest
import torch
from made_shards import make_data, write_dataset

from gamegen_x.data.video_prompts import PromptStyle, edges, optical_flow, pose

STYLE = PromptStyle(50.0, 150.0, 8.0)


def square_at(*lefts: int) -> np.ndarray:
    """A textured square that stands at these columns, frame by frame."""
    frames = np.full((len(lefts), 64, 64, 3), 40, np.uint8)
    texture = np.random.default_rng(0).integers(80, 255, (4, 4, 1), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    for frame, left in zip(frames, lefts, strict=True):
        frame[20:44, left : left + 24] = texture
    return frames


def test_edges_stand_where_things_end() -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:, 16:48, 16:48] = 200
    drawn = edges(frames, STYLE)
    assert drawn.shape == frames.shape
    assert set(np.unique(drawn)) == {0, 255}
    assert drawn[:, 30, [14, 15, 16, 17], 0].any(axis=1).all()
    assert not drawn[:, 24:40, 24:40].any()
    assert not drawn[:, :10].any()


def test_the_colour_of_the_flow_tells_where_things_go() -> None:
    right = optical_flow(square_at(10, 14, 18), STYLE)[:, 28:36, 26:30].reshape(3, -1, 3).mean(1)
    left = optical_flow(square_at(30, 26, 22), STYLE)[:, 28:36, 30:34].reshape(3, -1, 3).mean(1)
    still = optical_flow(square_at(20, 20, 20), STYLE)
    assert (still == 255).mean() > 0.99  # white
    assert (right[1:, 0] > right[1:, 1] + 40).all()  # red is to the right
    assert (left[1:, 0] < left[1:, 1] - 40).all()  # cyan to the left
    fast = optical_flow(square_at(4, 14), STYLE)[1, 28:36, 24:28].min()
    assert fast < right[1:].min()  # faster is less white


def test_a_single_frame_stands_still() -> None:
    assert (optical_flow(square_at(20), STYLE) == 255).all()


def test_a_pose_is_a_disc_at_the_players_place_and_an_arrow_ahead() -> None:
    places = np.full((3, 2, 2), np.nan, np.float32)
    places[:, 0] = [(20, 30), (22, 30), (24, 30)]
    visible = np.array([[True, False]] * 3)
    drawn = pose(places, visible, 64, 64)
    assert drawn.shape == (3, 64, 64, 3)
    for t, x in enumerate((20, 22, 24)):
        assert drawn[t, 30, x].any()
        assert drawn[t, 30, x + 10].any()  # the arrow
        assert not drawn[t, 30, x - 8].any()
        assert not drawn[t, 50].any()


def test_players_who_are_not_seen_are_not_drawn() -> None:
    places = np.full((2, 1, 2), 30, np.float32)
    assert not pose(places, np.zeros((2, 1), bool), 64, 64).any()


@pytest.mark.parametrize("kind", ["edges", "flow", "pose"])
def test_a_share_of_samples_gets_a_prompt_of_its_window(tmp_path: Path, kind: str) -> None:
    write_dataset(tmp_path / "shards", 8, has_state=True, num_players=1)
    options = ["data.batch_size=8", "data.num_frames=8", f"data.video_prompts.{kind}=0.5"]
    loader = make_data(tmp_path / "shards", *options).train_dataloader()
    has_prompt = []
    for _ in range(8):
        (batch,) = loader
        has_prompt += batch.has_video_prompt.tolist()
        if batch.video_prompt is not None:
            assert batch.video is not None
            assert batch.video_prompt.shape == batch.video.shape
            assert batch.video_prompt.min() >= -1
            assert batch.video_prompt.max() <= 1
            assert (batch.video_prompt[~batch.has_video_prompt] == 0).all()
    assert 0.3 < np.mean(has_prompt) < 0.7


def test_without_poses_in_the_state_there_is_no_prompt(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shards", 2, num_players=1)
    options = ["data.batch_size=2", "data.num_frames=8", "data.video_prompts.pose=1.0"]
    (batch,) = make_data(tmp_path / "shards", *options).train_dataloader()
    assert batch.video_prompt is None
    assert batch.has_video_prompt.tolist() == [False, False]


def test_poses_are_scaled_with_the_picture(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shards", 2, has_state=True, num_players=1)
    prompts = []
    for size in (64, 32):
        options = ["data.batch_size=2", "data.num_frames=8", "data.video_prompts.pose=1.0"]
        data = make_data(tmp_path / "shards", *options, f"data.height={size}", f"data.width={size}")
        (batch,) = data.train_dataloader()
        assert batch.video_prompt is not None
        prompts.append(batch.video_prompt[:, 0].amax(dim=2) > -1)
    rows = [torch.nonzero(prompt)[:, 2].float().mean() / prompt.shape[-2] for prompt in prompts]
    assert abs(rows[0] - rows[1]) < 0.05
