import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gamegen_x.diffusion.flow import data_at_end, flow_matching_loss, point_on_flow
from gamegen_x.diffusion.guidance import guided
from gamegen_x.diffusion.solvers import SOLVERS, solver_times
from gamegen_x.diffusion.time_sampling import (
    ContextThenNoise,
    DiffusionForcing,
    logit_normal,
    resolution_shift,
    shift_times,
)

times = st.floats(0, 1)


def a_pair(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 4, 2, 2, generator=generator), torch.randn(2, 3, 4, 2, 2, generator=generator)


def test_the_line_begins_at_noise_and_ends_at_data():
    data, noise = a_pair()
    assert torch.equal(point_on_flow(data, noise, torch.zeros(2, 3)).latents, noise)
    assert torch.equal(point_on_flow(data, noise, torch.ones(2, 3)).latents, data)


@given(times)
def test_the_velocity_leads_from_any_point_to_the_data(time):
    data, noise = a_pair()
    at = torch.full((2, 3), time)
    point = point_on_flow(data, noise, at)
    assert torch.allclose(data_at_end(point.latents, point.velocity, at), data, atol=1e-5)


def test_every_frame_stands_at_its_own_time():
    data, noise = a_pair()
    point = point_on_flow(data, noise, torch.tensor([[0.0, 1.0, 0.5]] * 2))
    assert torch.equal(point.latents[:, 0], noise[:, 0])
    assert torch.equal(point.latents[:, 1], data[:, 1])


def test_context_frames_do_not_count_in_the_loss():
    data, noise = a_pair()
    is_generated = torch.tensor([[False, True, True]] * 2)
    wrong_in_context = noise.clone()
    wrong_in_context[:, 0] += 100
    assert flow_matching_loss(noise, wrong_in_context, is_generated) == 0
    assert flow_matching_loss(noise, data, is_generated) > 0


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_solvers_follow_a_straight_line_exactly_in_any_number_of_steps(solver):
    data, noise = a_pair()
    for num_steps in (1, 3):
        found = solver(lambda _latents, _now: data - noise, noise, solver_times(num_steps, 1.0))
        assert torch.allclose(found, data, atol=1e-5)


def test_heun_is_of_second_order_and_euler_of_first():
    def error(solver, num_steps):
        exact = math.e  # dx/dt = x from x = 1
        start = torch.ones(1, dtype=torch.float64)
        return abs(float(solver(lambda x, _now: x, start, solver_times(num_steps, 1.0))) - exact)

    assert 1.8 < error(SOLVERS["euler"], 32) / error(SOLVERS["euler"], 64) < 2.2
    assert 3.6 < error(SOLVERS["heun"], 32) / error(SOLVERS["heun"], 64) < 4.4


@given(times, st.floats(0.2, 5))
def test_shifting_times_keeps_the_ends_and_is_undone_by_the_inverse_shift(time, shift):
    moved = shift_times(torch.tensor(time, dtype=torch.float64), shift)
    assert 0 <= moved <= 1
    assert torch.allclose(shift_times(moved, 1 / shift), torch.tensor(time, dtype=torch.float64), atol=1e-9)


def test_larger_videos_are_trained_at_noisier_times():
    shift = resolution_shift(90, 160, 30, base_tokens=64 * 64 * 15)
    assert shift > 1
    assert shift_times(torch.tensor(0.5), shift) < 0.5


def test_logit_normal_times_are_most_often_in_the_middle():
    drawn = logit_normal((20_000,), 0.0, 1.0, torch.Generator().manual_seed(0))
    middle = ((drawn > 0.25) & (drawn < 0.75)).float().mean()
    assert 0.70 < middle < 0.76  # 2 Phi(ln 3) - 1 = 0.728


def test_diffusion_forcing_gives_every_frame_a_time_and_context_frames_time_one():
    draw = DiffusionForcing(mean=0.0, deviation=1.0, shift=1.0, context_share=0.6, max_context=4)
    drawn = draw(4000, 6, 8, 8, torch.Generator().manual_seed(0))
    context = ~drawn.is_generated
    assert (drawn.time[context] == 1).all()
    assert (drawn.time[drawn.is_generated] < 1).all()
    assert drawn.is_generated.any(dim=1).all()
    assert abs(float(context[:, 0].float().mean()) - 0.6) < 0.03
    assert set(context.sum(dim=1).tolist()) == {0, 1, 2, 3, 4}
    assert (context[:, 1:] <= context[:, :-1]).all()  # context comes first


def test_paper_masks_are_three_quarters_text_to_video_and_one_quarter_extension():
    draw = ContextThenNoise(mean=0.0, deviation=1.0, extension_share=0.25, num_context=[1, 5], base_tokens=None)
    drawn = draw(8000, 30, 8, 8, torch.Generator().manual_seed(0))
    is_extension = (~drawn.is_generated).any(dim=1)
    assert abs(float(is_extension.float().mean()) - 0.25) < 0.02
    spread = drawn.time.masked_fill(~drawn.is_generated, 2).amin(1) - drawn.time.masked_fill(
        ~drawn.is_generated, -1
    ).amax(1)
    assert (spread == 0).all()  # one time a clip


def test_a_single_frame_is_always_generated():
    for draw in (
        DiffusionForcing(mean=0.0, deviation=1.0, shift=1.0, context_share=1.0, max_context=4),
        ContextThenNoise(mean=0.0, deviation=1.0, extension_share=1.0, num_context=[1], base_tokens=None),
    ):
        assert draw(8, 1, 8, 8, torch.Generator().manual_seed(0)).is_generated.all()


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1, got"):
        DiffusionForcing(mean=0.0, deviation=1.0, shift=1.0, context_share=1.5, max_context=4)


def test_guidance_leads_past_the_conditional_and_is_free_at_one():
    def conditional(latents, now):
        return latents + 1

    def unconditional(latents, now):
        return latents - 1

    here = torch.zeros(1)
    assert guided(conditional, unconditional, 1.0) is conditional
    assert guided(conditional, unconditional, 3.0)(here, 0.0) == 5


def test_guidance_has_a_scale_for_each_clip_and_leaves_the_bits_of_those_at_one():
    generator = torch.Generator().manual_seed(0)
    asked, unasked, here = torch.rand(3, 2, 1000, generator=generator)
    led = guided(lambda *_: asked, lambda *_: unasked, torch.tensor([[1.0], [2.0]]))(here, 0.0)
    assert torch.equal(led[0], asked[0])
    torch.testing.assert_close(led[1], 2 * asked[1] - unasked[1])


def test_solver_times_run_from_zero_to_one():
    assert solver_times(4, 1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert solver_times(4, 2.0)[0] == 0
    with pytest.raises(ValueError, match="at least 1, got 0"):
        solver_times(0, 1.0)
