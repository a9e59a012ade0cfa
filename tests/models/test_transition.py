"""The transition network: what is foreseen frame by frame, and what a gradient reaches."""

import pytest
import torch

from gamegen_x.models.transition import Transition

SHAPE = {"num_players": 2, "num_places": 3, "num_keys": 4, "hidden": 16, "num_beginnings": 4, "ground_side": 0}


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Transition(**SHAPE, num_frequencies=3, fastest=0.1, egocentric=False)
    torch.nn.init.normal_(network.out[-1].weight, std=0.1)
    return network


def clips(num_clips=2, num_frames=6):
    generator = torch.Generator().manual_seed(1)
    places = torch.rand(num_clips, num_frames, 2, 3, 2, generator=generator) * 2 - 1
    seen = (torch.rand(num_clips, num_frames, 2, 3, generator=generator) < 0.5).float()
    return places, seen, (torch.rand(num_clips, num_frames, 2, 4, generator=generator) < 0.5).float()


def given(*of_clips, num_frames=6):
    return torch.tensor([of_clips] * num_frames)


def test_at_first_everybody_stands():
    network = Transition(**SHAPE, num_frequencies=3, fastest=0.1, egocentric=False)
    places, seen, held = clips()
    memory, _ = network(network.begin(places[:, 0], seen[:, 0]), held[:, 1])
    assert torch.equal(memory.places, places[:, 0])


def test_a_clip_that_is_given_foresees_each_frame_from_the_true_one_before(network):
    places, seen, held = clips()
    foreseen, _ = network.rollout(places, seen, held, given(True, False))
    changed = places.clone()
    changed[:, 2] += 0.3
    again, _ = network.rollout(changed, seen, held, given(True, False))
    assert torch.equal(again[1], foreseen[1])  # by itself it never looks
    assert torch.equal(again[0, :2], foreseen[0, :2])
    assert not torch.equal(again[0, 2], foreseen[0, 2])


def test_going_on_by_itself_is_stepping_from_frame_to_frame(network):
    places, seen, held = clips()
    foreseen, logits = network.rollout(places, seen, held, given(False, False))
    memory = network.begin(places[:, 0], seen[:, 0])
    for frame in range(1, 6):
        memory, logit = network(memory, held[:, frame])
        assert torch.equal(memory.places, foreseen[:, frame - 1])
        assert torch.equal(logit, logits[:, frame - 1])
        assert torch.equal(memory.known, (logit > 0).float())


def test_following_known_frames_is_the_beginning_of_going_on_by_itself(network):
    places, seen, held = clips()
    is_given = given(True, True)
    is_given[3:] = False
    foreseen, _ = network.rollout(places, seen, held, is_given)
    memory = network.follow(places[:, :3], seen[:, :3], held[:, :3])
    for frame in range(3, 6):
        memory, _ = network(memory, held[:, frame])
        assert torch.equal(memory.places, foreseen[:, frame - 1])
    changed = places.clone()
    changed[:, 2] += 0.3  # the last that is given
    again, _ = network.rollout(changed, seen, held, is_given)
    assert torch.equal(again[:, 1], foreseen[:, 1])
    assert not torch.equal(again[:, 2], foreseen[:, 2])


def test_a_late_error_reaches_all_changes_once(network):
    places, seen, held = clips()
    foreseen, _ = network.rollout(places, seen, held, given(False, False))
    (gradient,) = torch.autograd.grad(foreseen[:, -1].sum(), network.out[-1].bias)
    # the last bias enters each of 5 changes of 2 clips, and nothing else: what is read of a place has no gradient
    expected = torch.tensor([10.0, 10.0, 0.0]).repeat(6)
    reached = gradient - expected
    assert torch.allclose(reached, torch.zeros(18), atol=1e-4)


def test_facts_of_other_views_are_refused(network):
    with pytest.raises(ValueError, match=r"1 players of 2 places each, but .* learned 2 and 3"):
        network.begin(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2))


def test_the_newest_beginnings_are_kept_and_worlds_begin_as_they_did(network):
    with pytest.raises(ValueError, match="has kept no beginnings"):
        network.begin_anew(0, 2)
    places, seen, _ = clips(num_clips=3)
    network.keep(places[:, 0], seen[:, 0])
    for number in range(6):
        begun = network.begin_anew(number, 2)
        assert torch.equal(begun.places[0], places[number % 3, 0])
        assert torch.equal(begun.known[0], seen[number % 3, 0])
    network.keep(places[:, 1], seen[:, 1])
    assert torch.equal(network.begin_anew(3, 2).places[0], places[0, 0])  # four are kept, the oldest two are gone


@pytest.fixture
def egocentric():
    torch.manual_seed(0)
    network = Transition(
        num_players=2,
        num_places=2,
        num_keys=4,
        hidden=16,
        num_frequencies=0,
        fastest=0.2,
        num_beginnings=4,
        egocentric=True,
        ground_side=8,
    )
    torch.nn.init.normal_(network.out[-1].weight, std=0.1)
    return network


def test_players_who_are_foreseen_alone_are_alike_and_deaf_to_each_others_keys(egocentric):
    places, seen, held = clips()
    places, seen = places[:, :, :, :2], seen[..., :2]
    after, logits = egocentric.rollout(places, seen, held, given(False, False))
    swapped, swapped_logits = egocentric.rollout(places.flip(2), seen.flip(2), held.flip(2), given(False, False))
    torch.testing.assert_close(swapped.flip(2), after)
    torch.testing.assert_close(swapped_logits.flip(2), logits)
    held[:, :, 1] = 1 - held[:, :, 1]
    again, _ = egocentric.rollout(places, seen, held, given(False, False))
    assert torch.equal(again[:, :, 0], after[:, :, 0])
    assert not torch.equal(again[:, :, 1], after[:, :, 1])


def test_one_of_the_players_who_are_foreseen_alone_may_play_alone(egocentric):
    places, seen, held = clips()
    places, seen = places[:, :, :, :2], seen[..., :2]
    after, _ = egocentric.rollout(places, seen, held, given(False, False))
    alone, _ = egocentric.rollout(places[:, :, :1], seen[:, :, :1], held[:, :, :1], given(False, False))
    torch.testing.assert_close(alone, after[:, :, :1])
    egocentric.keep(places[:, 0], seen[:, 0])
    assert torch.equal(egocentric.begin_anew(1, 1).places[0], places[1, 0, :1])
    with pytest.raises(ValueError, match="3 players of 2 places each"):
        egocentric.begin(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2))


def test_a_step_forward_is_one_wherever_a_player_looks(egocentric):
    """With nothing read of the places themselves, the world turned by a quarter turns what is foreseen."""
    with torch.no_grad():
        egocentric.into[0].weight[:, :4] = 0  # the places
    places, seen, held = clips()
    places, seen = places[:, :, :, :2], seen[..., :2]
    turned = torch.stack([-places[..., 1], places[..., 0]], dim=-1)
    after, _ = egocentric.rollout(places, seen, held, given(False, False))
    after_turned, _ = egocentric.rollout(turned, seen, held, given(False, False))
    expected = torch.stack([-after[..., 1], after[..., 0]], dim=-1)
    torch.testing.assert_close(after_turned, expected, atol=1e-5, rtol=1e-4)


def test_nobody_leaves_the_ground_on_which_recordings_have_shown_players(egocentric):
    """A corridor of two squares of eight along x. Walls stop; along them a step slides; who is beside steps on."""
    egocentric.eval()
    middle = torch.tensor([0.0, 0.0])
    looks = torch.tensor([1.0, 0.0])
    inside = torch.stack([torch.tensor([-0.1, 0.1]), looks])
    egocentric.note(torch.stack([torch.stack([middle, looks]), inside]))
    assert egocentric.ground.sum() == 2

    def end(start, change):
        before = torch.stack([torch.tensor(start), looks])[None, None]
        after = before.clone()
        after[..., 0, :] += torch.tensor(change)
        return egocentric._on_ground(before, after)[0, 0, 0].tolist()

    assert end([0.1, 0.1], [0.0, 0.1]) == pytest.approx([0.1, 0.2])
    assert end([0.1, 0.1], [0.0, 0.2]) == pytest.approx([0.1, 0.1])
    assert end([0.1, 0.1], [-0.2, 0.2]) == pytest.approx([-0.1, 0.1])
    assert end([0.1, 0.1], [0.2, -0.05]) == pytest.approx([0.1, 0.05])
    assert end([0.1, 0.5], [0.1, 0.1]) == pytest.approx([0.125, 0.125])  # beside it: onto the nearest square
    assert end([0.24, 0.24], [2.0, 2.0]) == pytest.approx([0.24, 0.24])


def test_only_networks_in_use_keep_to_the_ground(egocentric):
    places, seen, held = clips()
    places, seen = places[:, :, :, :2].clamp(-0.01, 0.01), seen[..., :2]
    egocentric.note(places[:, 0])
    with torch.no_grad():
        egocentric.out[-1].bias[:4] = 0.3
    free, _ = egocentric.rollout(places, seen, held, given(False, False))
    kept, _ = egocentric.eval().rollout(places, seen, held, given(False, False))
    assert free[..., 0, :].abs().max() > 0.26
    assert kept[..., 0, :].abs().max() < 0.26
    assert torch.isfinite(kept).all()


def test_ground_is_of_players_on_a_map():
    with pytest.raises(ValueError, match="egocentric=true"):
        Transition(**SHAPE | {"ground_side": 4}, num_frequencies=3, fastest=0.1, egocentric=False)
