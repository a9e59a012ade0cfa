from dataclasses import fields

import torch

from gamegen_x.data.batch import Batch


def make_batch(**more: torch.Tensor) -> Batch:
    return Batch(
        keys=["a", "b"],
        captions=["A.", "B."],
        instructions=["", ""],
        instruction_starts=torch.zeros(2),
        actions=torch.zeros(2, 1, 8, 3),
        is_player=torch.ones(2, 1, dtype=torch.bool),
        fps=torch.full((2,), 24.0),
        **more,
    )


def test_every_tensor_moves_and_nothing_else_changes() -> None:
    batch = make_batch(video=torch.zeros(2, 1, 8, 3, 16, 16))
    moved = batch.to("meta")
    for field in fields(Batch):
        value, was = getattr(moved, field.name), getattr(batch, field.name)
        if isinstance(was, torch.Tensor):
            assert value.device.type == "meta", field.name
            assert value.shape == was.shape
        else:
            assert value == was
    assert len(moved) == 2


def test_an_absent_video_prompt_is_all_zeros() -> None:
    assert make_batch().has_video_prompt.tolist() == [False, False]
    prompt = torch.zeros(2, 1, 8, 3, 16, 16)
    prompt[1] = -1  # a picture that is all black
    assert make_batch(video_prompt=prompt).has_video_prompt.tolist() == [False, True]
    latents = torch.zeros(2, 1, 2, 4, 2, 2)
    latents[0, 0, 1, 3, 1, 0] = 0.5
    assert make_batch(video_prompt_latents=latents).has_video_prompt.tolist() == [True, False]
