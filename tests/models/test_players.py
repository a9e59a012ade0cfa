"""Players who see each other: what each way to tell them apart promises."""

from dataclasses import replace
from functools import partial
from itertools import combinations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gamegen_x.models.gamegen import GameGenX
from gamegen_x.models.instructnet import InstructNet
from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.models.msdit import MSDiT
from gamegen_x.models.players.channel import StackedViews
from gamegen_x.models.players.company import Company
from gamegen_x.models.players.hub import SparseHub
from gamegen_x.models.players.identity import SeatIdentity
from gamegen_x.models.players.rotary import AgentRotary
from gamegen_x.models.players.sequence import TokenSequence
from gamegen_x.models.players.simplex import SimplexRotary
from tests.models.test_msdit import NUM_KEYS, some_conditions, some_latents, stir

SLOTS = 4
WAYS = {
    "channel": partial(StackedViews, num_slots=SLOTS),
    "sequence": partial(TokenSequence, num_slots=SLOTS),
    "identity": partial(SeatIdentity, num_slots=SLOTS),
    "rotary": partial(AgentRotary, num_slots=SLOTS, base=20.0),
    "simplex": partial(SimplexRotary, num_slots=SLOTS),
    "hub": partial(SparseHub, num_slots=SLOTS, num_hubs=3),
}
each_way = pytest.mark.parametrize("way", WAYS)
STATE = 5  # channels


def a_model(way=None, has_instructnet=True, state_channels=None):
    """As trained so far, but with the last projections of new parts at zero."""
    torch.manual_seed(0)
    players = None if way is None else WAYS[way]
    shared = {"latent_channels": 4, "dim": 32, "num_heads": 2, "mlp_ratio": 2.0, "patch": 2, "text_dim": 12,
              "causal": True, "temporal_cross_attention": True, "rotary_base": 1e4, "players": players}  # fmt: skip
    msdit = MSDiT(
        out_channels=4, num_pairs=2, max_text_tokens=8, num_sinusoids=16, spatial_factor=8,
        state_channels=state_channels, **shared,
    )  # fmt: skip
    instructnet = InstructNet(num_blocks=2, num_keys=NUM_KEYS, frames_per_latent=4, keys_dim=16, **shared)
    return GameGenX(msdit, instructnet if has_instructnet else None)


def alike(model, single):
    """Gives a model the weights that a single-player one has, and noise to everything else."""
    stir(model)
    model.load_state_dict(model.state_dict() | single.state_dict())
    return model


def with_mask(conditions, is_player):
    return replace(conditions, is_player=torch.tensor([is_player]))


@each_way
def test_a_single_player_gets_the_very_bits_of_a_model_without_players(way):
    single = stir(a_model())
    latents, time = some_latents()
    conditions = some_conditions()
    joint = alike(a_model(way), single)
    assert torch.equal(joint(latents, time, conditions), single(latents, time, conditions))


@each_way
def test_computed_in_half_precision_every_parameter_still_learns(way):
    model = stir(a_model(way))
    latents, time = some_latents(p=3)
    with torch.autocast("cpu", torch.bfloat16):
        made = model(latents, time, some_conditions(p=3))
    made.float().square().sum().backward()
    unlearned = [name for name, each in model.named_parameters() if "players" in name and not (each.grad != 0).any()]
    assert not unlearned


@each_way
def test_added_to_trained_weights_it_changes_nothing_at_first(way):
    single = stir(a_model())
    joint = a_model(way, state_channels=STATE)
    joint.load_state_dict(joint.state_dict() | single.state_dict())
    latents, time = some_latents(p=3)
    conditions = replace(some_conditions(p=3), state=torch.randn(2, 3, 3, STATE, 4, 4))
    assert torch.equal(joint(latents, time, conditions), single(latents, time, conditions))


@each_way
def test_every_player_depends_on_every_other(way):
    model = stir(a_model(way))
    latents, time = some_latents(b=1, p=3)
    conditions = some_conditions(b=1, p=3)
    before = model(latents, time, conditions)
    for one in range(3):
        other = latents.clone()
        other[:, one] += 1
        changed = (model(other, time, conditions) != before).flatten(2).any(dim=2)
        assert changed.all()


@each_way
def test_what_is_in_an_empty_seat_changes_no_bit_of_those_who_play(way):
    model = stir(a_model(way))
    latents, time = some_latents(b=1, p=3)
    conditions = with_mask(some_conditions(b=1, p=3), [True, False, True])
    other = latents.clone()
    other[:, 1] = torch.randn_like(other[:, 1])
    keys = conditions.actions.clone()
    keys[:, 1] = 1 - keys[:, 1]
    before, after = model(latents, time, conditions), model(other, time, replace(conditions, actions=keys))
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


@each_way
def test_whom_everybody_left_plays_as_a_single_player_does(way):
    single = stir(a_model())
    model = alike(a_model(way), single)
    latents, time = some_latents(b=1, p=3)
    conditions = some_conditions(b=1, p=3)
    left = model(latents, time, with_mask(conditions, [False, True, False]))
    assert torch.equal(left[:, 1], single(latents, time, conditions)[:, 1])


@pytest.mark.parametrize("way", [way for way in WAYS if way != "hub"])
def test_gated_by_nearness_who_is_far_changes_no_bit(way):
    model = stir(a_model(way))
    latents, time = some_latents(b=1, p=3)
    near = torch.eye(3, dtype=torch.bool).expand(1, 3, 3, 3).clone()
    near[..., 1, 2] = near[..., 2, 1] = True
    conditions = replace(some_conditions(b=1, p=3), near=near)
    keys = conditions.actions.clone()
    keys[:, 0] = 1 - keys[:, 0]
    before, after = (model(latents, time, each) for each in (conditions, replace(conditions, actions=keys)))
    assert torch.equal(before[:, 1:], after[:, 1:])
    gone = model(latents, time, with_mask(conditions, [False, True, True]))
    assert torch.equal(before[:, 1:], gone[:, 1:])  # nor does their leaving
    moved = latents.clone()
    moved[:, 1] += 1
    assert not torch.equal(before[:, 2], model(moved, time, conditions)[:, 2])


def test_a_hub_says_that_it_cannot_be_gated():
    conditions = replace(some_conditions(b=1, p=2), near=torch.ones(1, 3, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="cannot be gated by nearness"):
        a_model("hub")(*some_latents(b=1, p=2), conditions)


def test_more_players_than_slots_are_refused():
    with pytest.raises(ValueError, match=f"slots for {SLOTS} players, got 5"):
        a_model("rotary")(*some_latents(b=1, p=5), some_conditions(b=1, p=5))


@each_way
def test_a_context_seen_once_gives_what_the_whole_window_gives(way):
    model = stir(a_model(way))
    latents, time = some_latents(p=2, t=4)
    time[:, :, :3] = 1
    conditions = some_conditions(p=2, t=4)
    past = PastFrames()
    model(latents[:, :, :3], time[:, :, :3], conditions.frames(0, 3), past=past)
    past.freeze()
    new = model(latents[:, :, 3:], time[:, :, 3:], conditions.frames(3, None), past=past)
    assert torch.allclose(new, model(latents, time, conditions)[:, :, 3:], atol=1e-4)


@each_way
def test_players_who_change_places_with_their_seats_change_nothing_else(way):
    model = stir(a_model(way))
    latents, time = some_latents(b=1, p=3)
    conditions = replace(some_conditions(b=1, p=3), seats=torch.tensor([[0, 1, 2]]))
    order = [2, 0, 1]
    moved = replace(
        conditions,
        actions=conditions.actions[:, order],
        video_prompt=conditions.video_prompt[:, order],
        seats=conditions.seats[:, order],
    )
    expected = model(latents, time, conditions)[:, order]
    assert torch.allclose(model(latents[:, order], time[:, order], moved), expected, atol=1e-5)


def angles_of(way, dim=64, num_heads=2):
    company = Company.of(torch.ones(1, SLOTS, dtype=torch.bool), None, None, 1, 1)
    return WAYS[way](dim=dim, num_heads=num_heads).angles(company)[0]


def test_all_corners_of_the_simplex_are_equally_far_apart_and_agents_in_a_row_are_not():
    corners, row = angles_of("simplex"), angles_of("rotary")
    repeats = corners.shape[1] // SLOTS
    distances = torch.stack([(corners[a] - corners[b]).square().sum() / repeats for a, b in combinations(range(4), 2)])
    assert torch.allclose(distances, torch.full((6,), 2 * SLOTS / (SLOTS - 1)), atol=1e-5)

    def agreements(angles):  # of equal contents, seen from one seat to another
        return torch.stack([(angles[a] - angles[b]).cos().sum() for a, b in combinations(range(4), 2)])

    assert agreements(corners).std() < 1e-5
    assert agreements(row).std() > 1e-2


def test_a_hub_costs_as_much_for_each_player_and_a_sequence_more_and_more():
    def work(way, num_players, num_tokens=7):  # few enough for attention whose products are counted
        mix = WAYS[way](dim=8, num_heads=2, num_slots=8)
        company = Company.of(torch.ones(1, num_players, dtype=torch.bool), None, None, 2, num_tokens)
        with FlopCounterMode(display=False) as counter:
            mix(torch.randn(num_players, 2, num_tokens, 8), company)
        return counter.get_total_flops()

    hub = [work("hub", p) for p in (2, 4, 8)]
    assert hub[2] - hub[1] == 2 * (hub[1] - hub[0])  # a straight line
    dense = [work("sequence", p) for p in (2, 4, 8)]
    assert dense[2] - dense[1] > 2.5 * (dense[1] - dense[0])
    assert hub[2] < dense[2]


def learns_everywhere(parameters, loss):
    silent = dict(parameters)
    optimizer = torch.optim.Adam(silent.values(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        silent = {name: value for name, value in silent.items() if value.grad is None or not value.grad.abs().sum()}
        optimizer.step()
    return set(silent)


@each_way
def test_every_parameter_learns_within_three_steps(way):
    model = a_model(way, state_channels=STATE)
    latents, time = some_latents(b=4, p=3)
    conditions = replace(
        some_conditions(b=4, p=3),
        text_mask=torch.tensor([True, True, False, True])[:, None].expand(4, 8),
        has_actions=torch.tensor([True, True, False, True])[:, None].expand(4, 3),
        is_instructed=torch.ones(4, 3, dtype=torch.bool),
        state=torch.randn(4, 3, 3, STATE, 4, 4),
    )

    def loss_of(model):
        return lambda: (model(latents, time, conditions) - latents).square().mean()

    foundation = GameGenX(model.msdit, None)
    assert not learns_everywhere(foundation.named_parameters(), loss_of(foundation))
    model.instructnet.start_from(model.msdit)
    assert not learns_everywhere(model.instructnet.named_parameters(), loss_of(model))


@each_way
def test_an_instructnet_starts_with_the_foundations_way_to_see_players(way):
    model = a_model(way)
    stir(model.msdit)
    model.instructnet.start_from(model.msdit)
    mine, theirs = model.instructnet.blocks[0].block.players, model.msdit.blocks[0].players
    assert torch.equal(mine.out.weight, theirs.out.weight)
    alone = a_model(None)
    alone.instructnet.start_from(model.msdit)  # one that does not see players begins so too


def test_a_state_reaches_its_own_frame_and_player_only_where_there_is_one():
    model = stir(a_model(None, state_channels=STATE))
    latents, time = some_latents(p=2)
    conditions = some_conditions(p=2)
    state = torch.zeros(2, 2, 3, STATE, 4, 4)
    state[:, 0, 1] = 1
    told = replace(conditions, state=state, has_state=torch.tensor([True, False]))
    untold = model(latents, time, conditions)
    changed = (model(latents, time, told) != model(latents, time, replace(told, state=state * 0))).flatten(3).any(3)
    assert changed[0].tolist() == [[False, True, True], [False, False, False]]  # causal: from then on
    assert not changed[1].any()
    assert torch.equal(model(latents, time, told)[1], untold[1])
