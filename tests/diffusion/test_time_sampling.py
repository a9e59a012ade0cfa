"""What every mask promises, for any number of frames, share and seed."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from gamegen_x.diffusion.flow import flow_matching_loss
from gamegen_x.diffusion.time_sampling import ContextThenNoise, DiffusionForcing

NUM_CLIPS = 16
seeds = st.integers(0, 2**31)
shares = st.floats(0, 1)


def masks(share, num_context):
    """Both ways to draw, each with up to `num_context` frames of context in a share of the clips."""
    return (
        DiffusionForcing(mean=0.0, deviation=1.0, shift=2.0, context_share=share, max_context=num_context),
        ContextThenNoise(
            mean=0.0, deviation=1.0, extension_share=share, num_context=range(1, num_context + 1), base_tokens=64
        ),
    )


def drawn(draw, num_frames, seed):
    return draw(NUM_CLIPS, num_frames, 8, 8, torch.Generator().manual_seed(seed))


@given(st.integers(1, 12), shares, st.integers(1, 12), seeds)
def test_context_comes_first_stands_at_one_and_leaves_a_frame_to_generate(num_frames, share, num_context, seed):
    for draw in masks(share, num_context):
        times = drawn(draw, num_frames, seed)
        is_context = ~times.is_generated
        assert times.time.shape == times.is_generated.shape == (NUM_CLIPS, num_frames)
        assert (times.time[is_context] == 1).all()
        assert ((times.time[times.is_generated] > 0) & (times.time[times.is_generated] < 1)).all()
        assert (is_context[:, 1:] <= is_context[:, :-1]).all()
        assert times.is_generated[:, -1].all()
        assert is_context.sum(dim=1).max() <= num_context


@given(st.integers(2, 12), st.integers(1, 12), seeds)
def test_a_share_of_nothing_masks_nothing_and_a_share_of_all_masks_every_clip(num_frames, num_context, seed):
    for draw in masks(0.0, num_context):
        assert drawn(draw, num_frames, seed).is_generated.all()
    for draw in masks(1.0, num_context):
        assert not drawn(draw, num_frames, seed).is_generated[:, 0].any()


@given(st.integers(1, 12), shares, seeds)
def test_the_same_generator_draws_the_same_mask(num_frames, share, seed):
    for draw in masks(share, 3):
        one, other = drawn(draw, num_frames, seed), drawn(draw, num_frames, seed)
        assert torch.equal(one.time, other.time)
        assert torch.equal(one.is_generated, other.is_generated)


@given(st.integers(1, 12), shares, seeds)
def test_what_a_network_says_of_context_never_counts(num_frames, share, seed):
    generator = torch.Generator().manual_seed(seed)
    said, velocity = (torch.randn(NUM_CLIPS, num_frames, 2, 3, 3, generator=generator) for _ in range(2))
    for draw in masks(share, 4):
        is_generated = drawn(draw, num_frames, seed).is_generated
        loss = flow_matching_loss(said, velocity, is_generated)
        said_of_context = torch.where(is_generated[:, :, None, None, None], said, said + 100)
        assert torch.equal(flow_matching_loss(said_of_context, velocity, is_generated), loss)
        assert torch.allclose(loss, (said - velocity)[is_generated].square().mean(), rtol=1e-5)
