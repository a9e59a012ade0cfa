import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from gamegen_x.config import CONFIGS
from gamegen_x.models.coding import Coding
from gamegen_x.models.weights import build_network


def test_rows_of_latents_follow_the_chunks_of_the_vae() -> None:
    assert Coding(4, None).rows(8).tolist() == list(range(8))
    assert Coding(4, None).rows(6).tolist() == [0, 0, 0, 1, 2, 3, 4, 5]
    seventeen = [0, 0, 0, *range(17)]
    assert Coding(4, 17).rows(34).tolist() == [*seventeen, *(17 + frame for frame in seventeen)]


@pytest.mark.parametrize("chunk_frames", [None, 16, 17, 18])
def test_the_latent_of_a_frame_and_where_latents_end_are_those_of_the_rows(chunk_frames: int | None) -> None:
    coding = Coding(4, chunk_frames)
    rows = coding.rows(144 if chunk_frames is None else 8 * chunk_frames)
    for frame in range(int(rows[-1]) + 1):
        first_row = np.searchsorted(rows, frame)  # that shows this frame
        assert coding.latent_of(frame) == first_row // 4
        assert coding.ends_a_latent(frame) == (first_row % 4 == 0)


@pytest.mark.parametrize("chunk_frames", [None, 17])
@pytest.mark.parametrize("num_frames", [1, 16, 17, 51, 89, 102])
def test_there_are_as_many_rows_as_the_vae_makes_latents(num_frames: int, chunk_frames: int | None) -> None:
    description = OmegaConf.load(CONFIGS / "vae" / "tiny.yaml")
    with torch.device("meta"):
        vae = build_network({**OmegaConf.to_container(description), "chunk_frames": chunk_frames})
    assert len(vae.coding.rows(num_frames)) == 4 * vae.num_latent_frames(num_frames)
