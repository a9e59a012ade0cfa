import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gamegen_x.models.vae import Decoder, VideoVAE


def small_vae(chunk_frames=None):
    torch.manual_seed(0)
    vae = VideoVAE(
        latent_channels=4,
        latent_kernel=2,
        stages=[
            {
                "factor": [2, 2, 2],
                "channels": 8,
                "encoder_blocks": 1,
                "decoder_blocks": 1,
                "temporal_kernel": 1,
                "resample": "shuffle",
            },
            {
                "factor": [1, 2, 2],
                "channels": 8,
                "encoder_blocks": 1,
                "decoder_blocks": 1,
                "temporal_kernel": 2,
                "resample": "conv",
            },
            {
                "factor": [2, 2, 2],
                "channels": 16,
                "encoder_blocks": 1,
                "decoder_blocks": 2,
                "temporal_kernel": 3,
                "resample": "shuffle",
            },
        ],
        num_groups=4,
        chunk_frames=chunk_frames,
        min_log_variance=-10.0,
        max_log_variance=4.0,
    )
    for parameter in vae.parameters():  # zero-initialised layers would hide what they do
        torch.nn.init.normal_(parameter, std=0.2)
    return vae.eval()


def cut(lengths, total):
    """Cut points of a clip of `total` frames from any list of positive lengths."""
    pieces, left = [], total
    for length in lengths:
        if left:
            pieces.append(min(length, left))
            left -= pieces[-1]
    return [*pieces, left] if left else pieces


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_encoding_a_stream_in_any_pieces_equals_encoding_the_clip(lengths):
    vae = small_vae()
    video = torch.rand(1, 16, 3, 16, 16) * 2 - 1
    stream, parts = vae.start_encoding(), []
    with torch.no_grad():
        whole = vae.encode(video)
        for piece in video.split(cut(lengths, 16), dim=1):
            stream, posterior = vae.encode_next(stream, piece)
            if posterior is not None:
                parts.append(posterior.mean)
    assert (torch.cat(parts, dim=1) - whole.mean).abs().max() <= 1e-5


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_decoding_a_stream_in_any_pieces_equals_decoding_the_clip(lengths):
    vae = small_vae()
    latents = torch.randn(1, 6, 4, 2, 2)
    stream, parts = vae.start_decoding(), []
    with torch.no_grad():
        whole = vae.decode(latents)
        for piece in latents.split(cut(lengths, 6), dim=1):
            stream, video = vae.decode_next(stream, piece)
            parts.append(video)
    assert (torch.cat(parts, dim=1) - whole).abs().max() <= 1e-5


def test_the_past_cannot_see_the_future():
    vae = small_vae()
    video = torch.rand(1, 16, 3, 16, 16) * 2 - 1
    changed = video.clone()
    changed[:, 8:] *= -1
    with torch.no_grad():
        same = vae.encode(video).mean == vae.encode(changed).mean
    assert same[:, :2].all()
    assert not same[:, 2:].all()


@pytest.mark.parametrize(("frames", "latents"), [(17, 5), (102, 30), (51, 15), (204, 60), (408, 120), (89, 26), (1, 1)])
def test_paper_chunks_of_17_frames_give_the_papers_latent_lengths(frames, latents):
    assert small_vae(chunk_frames=17).num_latent_frames(frames) == latents


@pytest.mark.parametrize("frames", [1, 4, 17, 21, 34, 40])
def test_every_length_comes_back_with_its_own_length(frames):
    vae = small_vae(chunk_frames=17)
    video = torch.rand(1, frames, 3, 16, 16)
    with torch.no_grad():
        latents = vae.encode(video).mean
        assert latents.shape[1] == vae.num_latent_frames(frames)
        assert vae.decode(latents, frames).shape == video.shape


def test_a_size_that_cannot_be_halved_is_refused_with_the_sizes():
    with pytest.raises(ValueError, match=r"multiples of 8, got 16x20"):
        small_vae().encode(torch.zeros(1, 4, 3, 16, 20))


def test_the_posterior_of_a_standard_normal_costs_nothing():
    from gamegen_x.models.vae import Posterior

    zeros = torch.zeros(1, 1, 4, 2, 2)
    assert Posterior(zeros, zeros).kl() == 0
    assert Posterior(zeros + 1, zeros).kl() > 0


def small_decoder(**changes):
    torch.manual_seed(1)
    stages = [
        {"factor": [2, 2, 2], "channels": 4, "encoder_blocks": 0, "decoder_blocks": 0, "temporal_kernel": 1},
        {"factor": [2, 4, 4], "channels": 8, "encoder_blocks": 0, "decoder_blocks": 1, "temporal_kernel": 2},
    ]
    stages[0].update(changes)
    return Decoder([{**stage, "resample": "shuffle"} for stage in stages], 4, latent_kernel=2, num_groups=4)


def test_a_small_decoder_reads_the_latents_of_the_whole_and_streams_them():
    vae = small_vae()
    live = vae.with_decoder(small_decoder())
    latents = torch.randn(1, 6, 4, 2, 2)
    stream, parts = live.start_decoding(), []
    with torch.no_grad():
        whole = live.decode(latents)
        assert whole.shape == vae.decode(latents).shape
        assert not torch.equal(whole, vae.decode(latents))
        for piece in latents.split([1, 2, 3], dim=1):
            stream, video = live.decode_next(stream, piece)
            parts.append(video)
    assert (torch.cat(parts, dim=1) - whole).abs().max() <= 1e-5


def test_a_small_decoder_that_grows_by_another_factor_is_refused():
    with pytest.raises(ValueError, match=r"of 4 channels by \(2, 8, 8\).*of 4 by \(4, 8, 8\)"):
        small_vae().with_decoder(small_decoder(factor=[1, 2, 2]))
