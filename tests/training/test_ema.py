import pytest
import torch

from gamegen_x.training.ema import EMA


class Trainer:
    """As much of a trainer as the average looks at."""

    global_step = 0


def module(value):
    net = torch.nn.Linear(2, 1)
    net.requires_grad_(True)
    with torch.no_grad():
        net.weight.fill_(value)
    net.bias.requires_grad_(False)
    return net


def run(ema, net, values):
    trainer = Trainer()
    ema.on_train_start(trainer, net)
    for value in values:
        with torch.no_grad():
            net.weight.fill_(value)
        trainer.global_step += 1
        ema.on_train_batch_end(trainer, net)
    return trainer


def test_the_average_follows_with_its_decay_and_soon_forgets_the_start():
    ema, net = EMA(decay=0.5, warm_up=2), module(100.0)
    run(ema, net, [1.0, 2.0, 3.0])
    expected = 100.0
    for update, value in enumerate([1.0, 2.0, 3.0]):
        decay = min(0.5, (1 + update) / (2 + update))
        expected = decay * expected + (1 - decay) * value
    assert ema.average["weight"].flatten().tolist() == pytest.approx([expected] * 2)


def test_frozen_parameters_have_no_average():
    ema, net = EMA(decay=0.5, warm_up=2), module(1.0)
    run(ema, net, [1.0])
    assert list(ema.average) == ["weight"]


def test_batches_between_updates_change_nothing():
    ema, net = EMA(decay=0.5, warm_up=2), module(1.0)
    trainer = run(ema, net, [2.0])
    before = ema.average["weight"].clone()
    ema.on_train_batch_end(trainer, net)
    assert torch.equal(ema.average["weight"], before)


def test_validation_borrows_the_average_and_gives_the_weights_back():
    ema, net = EMA(decay=0.9, warm_up=1), module(1.0)
    trainer = run(ema, net, [2.0, 3.0])
    ema.on_validation_start(trainer, net)
    assert torch.equal(net.weight, ema.average["weight"])
    ema.on_validation_end(trainer, net)
    assert net.weight.flatten().tolist() == [3.0, 3.0]
    with ema.applied(net):
        assert torch.equal(net.weight, ema.average["weight"])
    assert net.weight.flatten().tolist() == [3.0, 3.0]


def test_a_saved_average_goes_on():
    whole, net = EMA(decay=0.9, warm_up=2), module(0.0)
    run(whole, net, [1.0, 2.0])
    again = EMA(decay=0.9, warm_up=2)
    again.load_state_dict(whole.state_dict())
    trainer = Trainer()
    trainer.global_step = 2
    again.on_train_start(trainer, net)
    trainer.global_step = 3
    for ema in (whole, again):
        ema.on_train_batch_end(trainer, net)
    assert torch.equal(whole.average["weight"], again.average["weight"])


def test_pieces_of_zero_stage_three_are_refused():
    net = module(1.0)
    net.weight.ds_tensor = None
    with pytest.raises(ValueError, match=r"callbacks\.ema=null"):
        EMA(decay=0.9, warm_up=2).on_train_start(Trainer(), net)
