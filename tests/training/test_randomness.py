import torch

from gamegen_x.training.randomness import Moment


def test_the_same_moment_draws_the_same_and_any_other_draws_anew():
    here = Moment(seed=1, stage=0, micro_batch=7, rank=0)
    again = Moment(seed=1, stage=0, micro_batch=7, rank=0)
    shape = torch.empty(1000)
    assert torch.equal(here.noise_like(shape, 0), again.noise_like(shape, 0))
    others = [
        Moment(2, 0, 7, 0).noise_like(shape, 0),
        Moment(1, 1, 7, 0).noise_like(shape, 0),
        Moment(1, 0, 8, 0).noise_like(shape, 0),
        Moment(1, 0, 7, 1).noise_like(shape, 0),
        here.noise_like(shape, 1),
    ]
    for other in others:
        assert abs(torch.corrcoef(torch.stack([here.noise_like(shape, 0), other]))[0, 1]) < 0.15


def test_draws_leave_the_global_generator_alone():
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    Moment(1, 0, 0, 0).noise_like(torch.empty(8), 0)
    assert torch.equal(torch.rand(1), first)
