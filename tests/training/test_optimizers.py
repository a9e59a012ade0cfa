import copy
import math

import pytest
import torch
from torch import nn

from gamegen_x.training.optimizers import WarmUp, WarmUpCosine, adamw_only, muon_adamw, orthogonalise

SETTINGS = {
    "muon_lr": 0.02,
    "muon_momentum": 0.95,
    "muon_iterations": 5,
    "muon_weight_decay": 0.1,
    "adamw_lr": 1e-3,
    "adamw_betas": (0.9, 0.99),
    "adamw_eps": 1e-8,
    "adamw_weight_decay": 0.01,
    "adamw_names": ["^first", "^last"],
    "fused_names": {"qkv": 3},
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 16)
        self.qkv = nn.Linear(16, 48, bias=False)
        self.middle = nn.Linear(48, 16)
        self.conv = nn.Conv2d(16, 8, 3, padding=1)
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        y = torch.tanh(self.middle(torch.tanh(self.qkv(torch.tanh(self.first(x))))))
        return self.last(self.conv(y[:, :, None, None]).flatten(1))


def stepped(optimizer, net, num_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        x = torch.randn(8, 4, generator=generator)
        optimizer.zero_grad()
        (net(x) - x[:, :2].sin()).square().mean().backward()
        optimizer.step()
    return net


def make():
    torch.manual_seed(0)
    net = Net()
    return net, muon_adamw(net.named_parameters(), **SETTINGS)


def test_singular_values_come_to_lie_near_one():
    torch.manual_seed(0)
    for shape in [(2, 32, 64), (3, 64, 16)]:
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape), 5).float())
        assert values.min() > 0.4
        assert values.max() < 1.3


def test_hidden_matrices_follow_torchs_own_muon_and_the_rest_torchs_own_adamw():
    ours, optimizer = make()
    theirs = copy.deepcopy(ours)
    muon = torch.optim.Muon([theirs.middle.weight], lr=0.02, weight_decay=0.1, momentum=0.95)
    matrices = [theirs.first.weight, theirs.last.weight]
    vectors = [p for p in theirs.parameters() if p.ndim == 1]
    adamw = torch.optim.AdamW(
        [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01
    )
    x = torch.randn(8, 4)
    for net in (ours, theirs):
        net(x).square().mean().backward()
    optimizer.step()
    muon.step()
    adamw.step()
    torch.testing.assert_close(
        ours.middle.weight, theirs.middle.weight, atol=2e-4, rtol=0
    )  # bf16, another order of sums
    for name in ("first", "last"):
        torch.testing.assert_close(getattr(ours, name).weight, getattr(theirs, name).weight)
    torch.testing.assert_close(ours.conv.bias, theirs.conv.bias)


def test_a_fused_projection_is_orthogonalised_in_its_three_parts():
    net, optimizer = make()
    before = net.qkv.weight.detach().clone()
    net.qkv.weight.grad = torch.cat([scale * torch.randn(16, 16) for scale in (1.0, 1e-3, 1e3)])
    optimizer.step()
    moved = (before * (1 - 0.02 * 0.1) - net.qkv.weight.detach()) / 0.02
    for part in moved.chunk(3):
        assert 2.0 < part.norm() < 5.0  # each near sqrt(16), whatever the scale of its gradient


def test_a_convolution_is_flattened_to_out_times_the_rest():
    net, optimizer = make()
    before = net.conv.weight.detach().clone()
    net.conv.weight.grad = torch.randn_like(before)
    optimizer.step()
    moved = (before * (1 - 0.02 * 0.1) - net.conv.weight.detach()) / 0.02
    values = torch.linalg.svdvals(moved.reshape(8, -1))
    assert values.min() > 0.4
    assert values.max() < 1.3


def test_more_rows_than_columns_make_larger_steps():
    torch.manual_seed(0)
    tall = nn.Parameter(torch.zeros(64, 16))
    optimizer = muon_adamw([("tall", tall)], **SETTINGS)
    tall.grad = torch.randn(64, 16)
    optimizer.step()
    assert torch.linalg.svdvals(tall.detach() / 0.02).mean() == pytest.approx(math.sqrt(64 / 16), rel=0.3)


def test_a_saved_optimizer_goes_on_bit_for_bit():
    whole, optimizer = make()
    stepped(optimizer, whole, 3)
    saved_net, saved_optimizer = copy.deepcopy(whole.state_dict()), copy.deepcopy(optimizer.state_dict())
    stepped(optimizer, whole, 3, seed=1)
    resumed, optimizer = make()
    resumed.load_state_dict(saved_net)
    optimizer.load_state_dict(saved_optimizer)
    stepped(optimizer, resumed, 3, seed=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_names_that_cannot_be_cut_into_parts_are_refused():
    with pytest.raises(ValueError, match=r"qkv.*16 rows.*3"):
        muon_adamw([("qkv", nn.Parameter(torch.zeros(16, 4)))], **SETTINGS)


def test_adamw_alone_does_not_decay_vectors():
    net = Net()
    decays = {
        id(p): group["weight_decay"]
        for group in adamw_only(
            net.named_parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1
        ).param_groups
        for p in group["params"]
    }
    assert all(decays[id(p)] == (0.1 if p.ndim > 1 else 0.0) for p in net.parameters())


def test_learning_rates_rise_and_then_fall():
    constant = WarmUp(warm_up_steps=10)
    assert [constant(s) for s in (0, 4, 9, 1000)] == [0.1, 0.5, 1.0, 1.0]
    cosine = WarmUpCosine(warm_up_share=1 / 11, total_steps=110, final_share=0.1)
    values = [cosine(s) for s in range(111)]
    assert values[0] == 0.1
    assert max(values) == 1.0
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[60] == pytest.approx(0.55)
    assert values[110] == pytest.approx(0.1)


def test_a_cosine_over_an_endless_run_is_refused():
    with pytest.raises(ValueError, match="schedule=constant"):
        WarmUpCosine(warm_up_share=0.1, total_steps=-1, final_share=0.0)
