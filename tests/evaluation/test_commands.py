import pytest
import torch

from gamegen_x.evaluation.commands import UNLISTED, Commands
from gamegen_x.schema.action_space import ActionSpace

KEYS = ActionSpace("four", ("w", "a", "s", "d", "space"))


def commands(*names: str) -> Commands:
    return Commands(names, KEYS)


def test_commands_are_drawn_uniformly_and_independently_of_how_many_are_asked_for():
    few = commands("_", "w", "a", "s", "d").draw(400, 1, 5, seed=3)
    shares = few.flatten().bincount(minlength=5) / few.numel()
    assert (shares - 0.2).abs().max() < 0.04
    following = (few[..., 1:] == few[..., :-1]).float().mean()
    assert abs(float(following) - 0.2) < 0.04  # what was held before says nothing about what comes


def test_the_same_seed_draws_the_same_commands_and_another_draws_others():
    drawn = [commands("_", "w").draw(4, 2, 8, seed) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_command_holds_its_keys_for_a_whole_block():
    actions = commands("_", "w+d").actions(torch.tensor([[[1, 0]]]), block_frames=3)
    assert actions.tolist() == [[[[1, 0, 0, 1, 0]] * 3 + [[0, 0, 0, 0, 0]] * 3]]


def test_numbers_of_actions_invert_the_actions_of_numbers():
    some = commands("_", "w", "a", "w+d")
    drawn = some.draw(3, 1, 7, seed=0)
    assert torch.equal(some.numbers_of(some.actions(drawn, 2).to(torch.uint8))[..., ::2], drawn)


def test_keys_that_are_no_command_are_unlisted():
    held = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.uint8)
    assert commands("_", "w").numbers_of(held).tolist() == [UNLISTED, 1]


def test_the_likeliest_command_weighs_every_key_by_itself():
    some = commands("_", "w", "d", "w+d")
    logits = torch.tensor([[3.0, 0, 0, 3, 0], [3, 0, 0, -3, 0], [-1, 0, 0, 0.5, 0], [-3, 0, 0, -3, 9]])
    assert [some.names[number] for number in some.most_likely(logits)] == ["w+d", "w", "d", "_"]


def test_chance_is_one_of_the_commands():
    assert commands("_", "w", "a", "s").chance == 0.25


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("w", "fly"), "unknown key 'fly'"),
        (("w", "w"), "different commands"),
        (("w",), "two or more"),
        (("w*8", "a"), "w"),
    ],
)
def test_a_list_of_commands_that_makes_no_sense_is_refused(names, said):
    with pytest.raises(ValueError, match=said):
        Commands(names, KEYS)
