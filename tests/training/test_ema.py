from unittest.mock import Mock

import lightning as L
import pytest
import torch

from gamegen_x.training.ema import EMA


class Net(L.LightningModule):
    def __init__(self, value):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((2,), value))
        self.frozen = torch.nn.Parameter(torch.zeros(2), requires_grad=False)


def trainer_at(step):
    """As much of a trainer as the average looks at."""
    trainer = Mock(spec=L.Trainer)
    trainer.global_step = step
    return trainer


def run(ema, net, values):
    ema.on_train_start(trainer_at(0), net)
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            net.weight.fill_(value)
        ema.on_train_batch_end(trainer_at(step), net)


def test_the_average_follows_with_its_decay_and_soon_forgets_the_start():
    ema, net = EMA(decay=0.5, warm_up=2.0), Net(100.0)
    run(ema, net, [1.0, 2.0, 3.0])
    expected = 100.0
    for update, value in enumerate([1.0, 2.0, 3.0]):
        decay = min(0.5, (1 + update) / (2 + update))
        expected = decay * expected + (1 - decay) * value
    assert ema.average["weight"].flatten().tolist() == pytest.approx([expected] * 2)


def test_frozen_parameters_have_no_average():
    ema, net = EMA(decay=0.5, warm_up=2.0), Net(1.0)
    run(ema, net, [1.0])
    assert list(ema.average) == ["weight"]


def test_batches_between_updates_change_nothing():
    ema, net = EMA(decay=0.5, warm_up=2.0), Net(1.0)
    run(ema, net, [2.0])
    before = ema.average["weight"].clone()
    ema.on_train_batch_end(trainer_at(1), net)
    assert torch.equal(ema.average["weight"], before)


def test_validation_borrows_the_average_and_gives_the_weights_back():
    ema, net = EMA(decay=0.9, warm_up=1.0), Net(1.0)
    run(ema, net, [2.0, 3.0])
    ema.on_validation_start(trainer_at(2), net)
    assert torch.equal(net.weight, ema.average["weight"])
    ema.on_validation_end(trainer_at(2), net)
    assert net.weight.flatten().tolist() == [3.0, 3.0]
    with ema.applied(net):
        assert torch.equal(net.weight, ema.average["weight"])
    assert net.weight.flatten().tolist() == [3.0, 3.0]


def test_a_saved_average_goes_on():
    whole, net = EMA(decay=0.9, warm_up=2.0), Net(0.0)
    run(whole, net, [1.0, 2.0])
    again = EMA(decay=0.9, warm_up=2.0)
    again.load_state_dict(whole.state_dict())
    again.on_train_start(trainer_at(2), net)
    for ema in (whole, again):
        ema.on_train_batch_end(trainer_at(3), net)
    assert torch.equal(whole.average["weight"], again.average["weight"])
