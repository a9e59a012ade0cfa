"""Previews of clips in which somebody speaks, whatever the autoencoder codes at once."""

from dataclasses import replace

import pytest
import torch

from gamegen_x.config import build
from gamegen_x.models.coding import Coding
from gamegen_x.sampling.clip_sampler import ClipSampler
from gamegen_x.training.preview import Preview
from tests.training.small_run import configure
from tests.training.train_command import WITHOUT_WEIGHTS

CHUNK = 5


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize("chunk_frames", [None, CHUNK])
def test_keys_and_sentences_of_a_preview_are_those_of_its_frames(tmp_path, monkeypatch, chunk_frames, is_cached):
    cfg = configure(tmp_path, "task=pretrain", *WITHOUT_WEIGHTS, "data.num_frames=10" if chunk_frames else "seed=0")
    task, data = build(cfg.task), build(cfg.data)
    task.vae.chunk_frames = chunk_frames
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    num_frames = batch.actions.shape[2]
    frame = num_frames - 2
    rows = torch.from_numpy(Coding(task.vae.temporal_factor, chunk_frames).rows(num_frames))
    held, start = batch.actions, float(frame)
    if is_cached:
        latents = task.encode(batch.video)
        batch = replace(batch, video=None, latents=latents, actions=held[:, :, rows])
        start = float((rows == frame).nonzero()[0])
    spoken = {"instructions": ["Make it night."] * len(batch), "instruction_starts": torch.full((len(batch),), start)}
    asked = []
    sample = ClipSampler.sample
    monkeypatch.setattr(ClipSampler, "sample", lambda self, request: (asked.append(request), sample(self, request))[1])
    sampler = {"num_steps": 1, "solver": "euler", "shift": 1.0, "guidance": 1.0, "window": 3, "block": 1}
    preview = Preview(
        folder=str(tmp_path), every_n_validations=1, num_clips=2, num_context_frames=4, crf=18, sampler=sampler, seed=0
    )
    real, made = preview._generated(task, replace(batch, **spoken))
    assert real.shape == made.shape
    (request,) = asked
    assert torch.equal(request.actions, held[:2])
    assert [[said.frame for said in each] for each in request.instructions] == [[frame], [frame]]
    assert request.context.shape[2] == (CHUNK if chunk_frames else 4)
