import pytest
import torch

from gamegen_x.models.coding import Coding
from gamegen_x.models.gamegen import Conditions, GameGenX
from gamegen_x.models.instructnet import CarryOver, InstructNet, actions_per_latent
from gamegen_x.models.layers.expectation import Expectation, velocity_around
from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.models.msdit import MSDiT, residual_places

NUM_KEYS = 3
SILENCE = (torch.zeros(2, 5, 12), torch.zeros(2, 5, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool))


def small_msdit(causal=True):
    torch.manual_seed(0)
    return MSDiT(
        latent_channels=4,
        out_channels=8,
        dim=32,
        num_pairs=2,
        num_heads=2,
        mlp_ratio=2.0,
        patch=2,
        text_dim=12,
        max_text_tokens=8,
        causal=causal,
        temporal_cross_attention=True,
        rotary_base=10_000.0,
        num_sinusoids=16,
        spatial_factor=8,
        preconditioned=True,
    )


def small_instructnet(state_channels=None, expects_words=True):
    return InstructNet(
        latent_channels=4,
        dim=32,
        num_blocks=2,
        num_heads=2,
        mlp_ratio=2.0,
        patch=2,
        num_keys=NUM_KEYS,
        frames_per_latent=4,
        keys_dim=16,
        text_dim=12,
        causal=True,
        temporal_cross_attention=True,
        rotary_base=10_000.0,
        carry={"ring": 1, "num_ways": 3, "width": 8, "least_deviation": 0.1},
        state_channels=state_channels,
        expects_words=expects_words,
    )


def stir(module):
    """Fills a network with noise: zero-initialised layers would hide what they do."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module


def some_conditions(b=2, p=1, t=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return Conditions(
        text=torch.randn(b, 8, 12, generator=generator),
        text_mask=torch.ones(b, 8, dtype=torch.bool),
        fps=torch.full((b,), 24.0),
        num_frames=torch.full((b,), 4.0 * t),
        actions=torch.randint(0, 2, (b, p, t, 4, NUM_KEYS), generator=generator).float(),
        has_actions=torch.ones(b, p, dtype=torch.bool),
        instruction=torch.randn(b, 5, 12, generator=generator),
        instruction_mask=torch.ones(b, 5, dtype=torch.bool),
        is_instructed=torch.zeros(b, t, dtype=torch.bool),
        video_prompt=torch.randn(b, p, t, 4, 4, 4, generator=generator),
        has_prompt=torch.ones(b, dtype=torch.bool),
    )


def some_latents(b=2, p=1, t=3):
    return torch.randn(b, p, t, 4, 4, 4), torch.rand(b, p, t)


def test_an_untrained_instructnet_changes_nothing():
    foundation = stir(small_msdit())
    latents, time = some_latents()
    conditions = some_conditions()
    steered = GameGenX(foundation, small_instructnet())(latents, time, conditions)
    assert torch.equal(steered, GameGenX(foundation, None)(latents, time, conditions))


def test_causal_frames_do_not_see_later_frames():
    model = stir(GameGenX(small_msdit(), small_instructnet()))
    latents, time = some_latents()
    conditions = some_conditions()
    later = latents.clone()
    later[:, :, 2] += 1
    difference = (model(latents, time, conditions) - model(later, time, conditions)).abs().flatten(3).amax(-1)
    assert (difference[:, :, :2] == 0).all()
    assert (difference[:, :, 2] > 0).all()


def test_gradient_checkpointing_gives_the_same_gradients_and_keeps_less():
    model = stir(GameGenX(small_msdit(causal=False), small_instructnet()))
    latents, time = some_latents()
    conditions = some_conditions()
    found = []
    for is_on in (False, True):
        model.msdit.gradient_checkpointing = model.instructnet.gradient_checkpointing = is_on
        kept = {}

        def keep(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no two have one place
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            velocity = model(latents, time, conditions)
        velocity.square().mean().backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        model.zero_grad(set_to_none=True)
        found.append((sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), velocity, gradients))
    (whole, velocity, gradients), (less, again, repeated) = found
    assert torch.equal(velocity, again)
    assert gradients.keys() == repeated.keys()
    assert all(torch.equal(gradients[name], repeated[name]) for name in gradients)
    assert less < 0.5 * whole


def test_a_key_moves_its_own_latent_frame_and_none_before():
    model = stir(GameGenX(small_msdit(), small_instructnet()))
    latents, time = some_latents()
    calm = some_conditions()
    actions = calm.actions.clone()
    actions[:, :, 1, 3] = 1 - actions[:, :, 1, 3]  # the last video frame inside the second latent frame
    pressed = Conditions(**{**calm.__dict__, "actions": actions})
    moved = (model(latents, time, calm) - model(latents, time, pressed)).abs().flatten(3).amax(-1)
    assert (moved[:, :, 0] == 0).all()
    assert (moved[:, :, 1] > 0).all()


def test_what_the_drawn_state_shows_is_expected_even_of_a_first_frame():
    carry = stir(
        CarryOver(4, dim=8, patch=2, keys_dim=6, ring=1, num_ways=3, width=8, least_deviation=0.1, state_channels=5)
    )
    before, keys = torch.zeros(2, 2, 4, 8, 8), torch.randn(2, 2, 6)
    before[:, 1] = torch.randn(2, 4, 8, 8)
    state = torch.zeros(2, 2, 5, 8, 8)
    state[0, :, 3, 2, 6] = 1
    told, untold = carry(before, keys, state), carry(before, keys)
    assert torch.equal(told.mean[1], untold.mean[1])  # nothing is told of the second clip
    assert (told.mean[0, 0] != 0).any()
    moved = (told.mean[0, 1] != untold.mean[0, 1]).any(0)
    assert moved[2, 6]
    assert not moved[:, :3].any()  # three convolutions away


def test_an_untold_clip_is_expected_to_be_what_it_would_be_without_a_state():
    instructnet = stir(small_instructnet(state_channels=5))
    before, actions = torch.randn(2, 3, 4, 8, 8), torch.zeros(2, 3, 4, NUM_KEYS)
    known = torch.ones(2, dtype=torch.bool)
    state = torch.randn(2, 3, 5, 8, 8)
    told = instructnet.expect(before, actions, known, *SILENCE, state, torch.tensor([True, False]))
    untold = instructnet.expect(before, actions, known, *SILENCE)
    assert torch.equal(told.mean[1], untold.mean[1])
    assert not torch.equal(told.mean[0], untold.mean[0])


def test_words_change_what_is_expected_of_the_frames_that_they_are_for_whatever_fills_up_the_row():
    instructnet = stir(small_instructnet())
    before, actions, known = torch.randn(2, 3, 4, 8, 8), torch.zeros(2, 3, 4, NUM_KEYS), torch.ones(2, dtype=torch.bool)
    words, mask = torch.randn(2, 5, 12), torch.tensor([[True, True, False, False, False]] * 2)
    is_instructed = torch.tensor([[False, True, True], [False, False, False]])
    silent = instructnet.expect(before, actions, known, words, mask, torch.zeros_like(is_instructed))
    spoken = instructnet.expect(before, actions, known, words, mask, is_instructed)
    is_changed = (spoken.mean != silent.mean).flatten(2).any(2)
    assert torch.equal(is_changed, is_instructed)
    longer = instructnet.expect(before, actions, known, words + ~mask[..., None], mask, is_instructed)
    assert torch.equal(spoken.mean, longer.mean)
    deaf = stir(small_instructnet(expects_words=False))
    assert torch.equal(
        deaf.expect(before, actions, known, words, mask, is_instructed).mean,
        deaf.expect(before, actions, known, *SILENCE).mean,
    )


def test_one_new_frame_is_expected_once_for_all_steps_of_a_solver():
    model = stir(GameGenX(small_msdit(), small_instructnet()))
    latents, _ = some_latents(t=4)
    conditions, asked = some_conditions(t=4), []
    model.instructnet.carry.register_forward_hook(lambda *_: asked.append(1))
    past = PastFrames()
    model(latents[:, :, :3], torch.ones(2, 1, 3), conditions.frames(0, 3), past=past)
    past.freeze()
    for now in (0.0, 0.5, 0.9):
        time = torch.full((2, 1, 1), now)
        after_past = model(latents[:, :, 3:], time, conditions.frames(3, None), past=past)
        whole = model(latents, torch.cat([torch.ones(2, 1, 3), time], 2), conditions)[:, :, 3:]
        assert torch.allclose(after_past, whole, atol=1e-5)
    assert len(asked) == 1 + 1 + 3  # the context, the new frame, and whole clips


def test_keys_choose_how_the_frame_before_is_carried_over_and_only_from_nearby():
    carry = stir(
        CarryOver(latent_channels=4, dim=8, patch=2, keys_dim=6, ring=1, num_ways=3, width=8, least_deviation=0.1)
    )
    before, keys = torch.randn(1, 2, 4, 8, 8), torch.randn(1, 2, 6)
    expected = carry(before, keys)
    assert not torch.allclose(expected.mean, carry(before, -keys).mean)
    touched = before.clone()
    touched[0, 0, :, 4, 4] += 1
    moved = (carry(touched, keys).mean != expected.mean).any(2)
    assert [divmod(int(place), 8) for place in moved[0, 0].flatten().nonzero()] == [
        (row, column)
        for row in range(1, 8)
        for column in range(1, 8)  # three convolutions one after another
    ]
    assert not moved[0, 1].any()


def test_nothing_is_expected_of_a_frame_that_has_none_before_it():
    carry = stir(
        CarryOver(latent_channels=4, dim=8, patch=2, keys_dim=6, ring=1, num_ways=3, width=8, least_deviation=0.1)
    )
    before, keys = torch.randn(2, 2, 4, 8, 8), torch.randn(2, 2, 6)
    before[0, 0] = 0
    expected = carry(before, keys)
    assert (expected.mean[0, 0] == 0).all()
    assert (expected.deviation[0, 0] == 1).all()
    assert (expected.mean[1] != 0).any()
    assert (expected.deviation[1] != 1).any()


@pytest.mark.parametrize("time", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.5, 0.4)])
def test_of_a_normal_distribution_the_expected_velocity_is_the_best_guess(time, mean, deviation):
    generator = torch.Generator().manual_seed(0)
    data = mean + deviation * torch.randn(200_000, generator=generator)
    noise = torch.randn(200_000, generator=generator)
    point = (time * data + (1 - time) * noise).view(1, 1, 1, 400, 500)
    velocity = (data - noise).view_as(point)
    expected = Expectation(torch.full_like(point, mean), torch.full_like(point, deviation))
    times = torch.full((1, 1), time)
    guess = velocity_around(expected, point, times, torch.zeros_like(point))
    spread = velocity_around(expected, point, times, torch.ones_like(point)) - guess
    error = velocity - guess
    assert error.mean().abs() < 0.01  # nothing left to know from the point:
    assert (error * (point - point.mean())).mean().abs() < 0.01
    assert torch.allclose(spread, spread.flatten()[0].expand_as(spread), atol=1e-6)
    assert error.std() == pytest.approx(float(spread.flatten()[0]), rel=0.01)  # a correction is measured in its units


def test_keys_that_nobody_gave_do_not_matter():
    model = stir(GameGenX(small_msdit(), small_instructnet()))
    latents, time = some_latents()
    conditions = some_conditions()
    unsaid = torch.zeros_like(conditions.has_actions)
    one = Conditions(**{**conditions.__dict__, "has_actions": unsaid})
    other = Conditions(**{**one.__dict__, "actions": 1 - one.actions})
    assert torch.equal(model(latents, time, one), model(latents, time, other))


def test_an_instruction_reaches_only_the_frames_that_it_holds_for():
    model = stir(GameGenX(small_msdit(), small_instructnet()))
    latents, time = some_latents()
    silent = some_conditions()
    holds = silent.is_instructed.clone()
    holds[:, 1:] = True
    told = Conditions(**{**silent.__dict__, "is_instructed": holds})
    moved = (model(latents, time, silent) - model(latents, time, told)).abs().flatten(3).amax(-1)
    assert (moved[:, :, 0] == 0).all()
    assert (moved[:, :, 1:] > 0).all()


@pytest.mark.parametrize("num_context", [1, 3, 4])
def test_a_context_seen_once_gives_what_the_whole_window_gives(num_context):
    model = stir(GameGenX(small_msdit(), small_instructnet()))
    latents, time = some_latents(t=5)
    time[:, :, :num_context] = 1
    conditions = some_conditions(t=5)
    whole = model(latents, time, conditions)[:, :, num_context:]
    past = PastFrames()
    model(latents[:, :, :num_context], time[:, :, :num_context], conditions.frames(0, num_context), True, past)
    past.freeze()
    for _ in range(2):  # any number of passes
        new = slice(num_context, None)
        cached = model(latents[:, :, new], time[:, :, new], conditions.frames(num_context, None), True, past)
        assert torch.allclose(cached, whole, atol=1e-5)


def test_one_pass_beside_a_past_gives_every_frame_what_it_gets_after_its_own_past():
    model = stir(GameGenX(small_msdit(), small_instructnet()))
    shown, _ = some_latents(t=4)
    latents, time = some_latents(t=4)
    conditions = some_conditions(t=4)
    past = PastFrames(is_beside=True)
    model(shown[:, :, :3], torch.ones_like(time[:, :, :3]), conditions.frames(0, 3), True, past)
    past.freeze()
    beside = model(latents, time, conditions, True, past)
    for i in range(4):
        window = torch.cat([shown[:, :, :i], latents[:, :, i : i + 1]], dim=2)
        times = torch.cat([torch.ones_like(time[:, :, :i]), time[:, :, i : i + 1]], dim=2)
        after = model(window, times, conditions.frames(0, i + 1))[:, :, -1]
        assert torch.allclose(beside[:, :, i], after, atol=1e-5)


def test_conditions_of_the_first_clips_are_those_of_a_smaller_batch():
    conditions = some_conditions(b=3).clips(2)
    assert {len(value) for value in vars(conditions).values() if value is not None} == {2}


def test_players_are_independent_rows_of_one_batch():
    model = stir(GameGenX(small_msdit(), small_instructnet()))
    latents, time = some_latents(b=1, p=2)
    conditions = some_conditions(b=1, p=2)
    together = model(latents, time, conditions)
    for player in range(2):
        alone = Conditions(
            **{
                **conditions.__dict__,
                "actions": conditions.actions[:, player : player + 1],
                "has_actions": conditions.has_actions[:, player : player + 1],
                "video_prompt": conditions.video_prompt[:, player : player + 1],
            }
        )
        view = slice(player, player + 1)
        assert torch.allclose(together[:, view], model(latents[:, view], time[:, view], alone), atol=1e-5)


def test_an_absent_text_is_the_learned_null_text_whatever_its_numbers():
    model = stir(GameGenX(small_msdit(), None))
    latents, time = some_latents()
    conditions = some_conditions().without_text()
    other = Conditions(**{**conditions.__dict__, "text": conditions.text + 1})
    assert torch.equal(model(latents, time, conditions), model(latents, time, other))
    assert not torch.equal(model(latents, time, conditions), model(latents, time, some_conditions()))


def test_a_non_causal_model_looks_both_ways():
    model = stir(GameGenX(small_msdit(causal=False), None))
    latents, time = some_latents()
    later = latents.clone()
    later[:, :, 2] += 1
    moved = model(latents, time, some_conditions()) - model(later, time, some_conditions())
    assert (moved[:, :, 0] != 0).any()


def test_residuals_are_spread_evenly_and_end_with_the_last_block():
    assert residual_places(4, 6) == [0, 2, 3, 5]
    assert residual_places(28, 56) == list(range(1, 56, 2))
    assert residual_places(0, 6) == []
    with pytest.raises(ValueError, match="do not fit"):
        residual_places(7, 6)


def test_actions_are_cut_into_latent_frames_and_a_short_first_one_is_led_by_its_first_keys():
    actions = torch.arange(10.0).view(1, 10, 1)
    grouped = actions_per_latent(actions, Coding(4, None))
    assert grouped.flatten().tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_foundation_starts_by_expecting_nothing():
    latents, time = some_latents()
    predicted = GameGenX(small_msdit(), None)(latents, time, some_conditions())
    expected = velocity_around(
        Expectation.of_nothing(latents[:, 0]), latents[:, 0], time[:, 0], torch.zeros_like(latents[:, 0])
    )
    assert torch.equal(predicted[:, 0], expected)
