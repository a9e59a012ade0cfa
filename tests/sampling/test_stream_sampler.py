import copy
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gamegen_x.models.gamegen import Conditions, GameGenX
from gamegen_x.models.instructnet import InstructNet
from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.models.msdit import MSDiT
from gamegen_x.models.players.identity import SeatIdentity
from gamegen_x.models.text_encoder import ByteT5TextEncoder
from gamegen_x.models.vae import VideoVAE
from gamegen_x.sampling.clip_sampler import ClipSampler, SampleRequest
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.noise import noise_at
from gamegen_x.sampling.settings import SamplerSettings
from gamegen_x.sampling.stream_batch import StreamBatch, passes
from gamegen_x.sampling.stream_sampler import StreamSampler
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction

SAMPLER = SamplerSettings(num_steps=2, solver="euler", shift=1.0, guidance=1.0, window=4, block=1)
LIVE = {"num_slots": 3, "undo_ticks": 4, "precision": "fp32", "uses_small_decoder": True, "pass_players": 4.0}
DIM = {"dim": 32, "num_heads": 2, "mlp_ratio": 2.0, "patch": 2, "text_dim": 16, "rotary_base": 1e4, "causal": True}
SIZE = 32  # four tokens a frame: of fewer rows, BLAS adds in another order (see models/layers/rows.py)


def some_networks(
    frames_per_latent=4, kind="causal", players=None, state_channels=None, names=("w", "a"), expects_words=False
):
    torch.manual_seed(0)
    stage = {
        "factor": [frames_per_latent, 8, 8], "channels": 16, "encoder_blocks": 1, "decoder_blocks": 1,
        "temporal_kernel": 2, "resample": "shuffle",
    }  # fmt: skip
    vae = VideoVAE(4, 2, [stage], 4, chunk_frames=None, min_log_variance=-10.0, max_log_variance=4.0)
    msdit = MSDiT(
        latent_channels=4, out_channels=4, num_pairs=2, max_text_tokens=8, temporal_cross_attention=False,
        num_sinusoids=16, spatial_factor=8, preconditioned=True, players=players, state_channels=state_channels, **DIM,
    )  # fmt: skip
    instructnet = InstructNet(
        latent_channels=4, num_blocks=2, num_keys=len(names), frames_per_latent=frames_per_latent, keys_dim=32,
        carry={"ring": 1, "num_ways": 2, "width": 32, "least_deviation": 0.1}, temporal_cross_attention=False,
        players=players, expects_words=expects_words, **DIM,
    )  # fmt: skip
    text_encoder = ByteT5TextEncoder(dim=16, num_layers=1, num_heads=2, feed_forward=16, max_bytes=32, pool=4)
    for network in (vae, msdit, instructnet, text_encoder):
        for parameter in network.requires_grad_(False).eval().parameters():
            if parameter.abs().sum() == 0:
                torch.nn.init.normal_(parameter, std=0.1)
    return Networks(
        vae=vae, text_encoder=text_encoder, model=GameGenX(msdit, instructnet), kind=kind, config={},
        sampler_settings=SAMPLER, action_space=ActionSpace("test", names), fps=24.0, height=SIZE, width=SIZE,
        latent_scale=2.0, latent_shift=0.1,
    )  # fmt: skip


NETWORKS = some_networks()


@pytest.fixture(scope="module")
def sampler():
    return StreamSampler(NETWORKS, SAMPLER, **LIVE)


def keys(seed, frames_per_latent=4):
    """Keys of all slots in one step; another seed, other keys."""
    return (torch.rand(3, frames_per_latent, 2, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def frames(num_players, num_frames=8, seed=1):
    drawn = torch.rand(num_players, num_frames, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return drawn * 2 - 1


def run(sampler, stream, num_steps):
    return [sampler.step([stream], [keys(stream.tick)])[0] for _ in range(num_steps)]


def same(ones, others):
    return len(ones) == len(others) and all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


class SlidingWindow(PastFrames):
    """A whole world at once: every frame sees itself and the `window` - 1 frames before it."""

    def __init__(self, window):
        super().__init__()
        self.window = window

    def mask(self, num_keys, num_new):
        whole = torch.ones(num_new, num_keys, dtype=torch.bool)
        return whole.tril() & ~whole.tril(-self.window)


def regenerated(networks, context, actions, has_actions, prompt, session):
    """The latents of a world by passes over all of its frames, from the first one on, without any cache."""
    num_context, num_players = context.shape[2], context.shape[1]
    text, text_mask = networks.text_encoder.encode([prompt])
    silence, silence_mask = networks.text_encoder.encode([""])
    conditions = Conditions(
        text=text, text_mask=text_mask, fps=torch.tensor([24.0]),
        num_frames=torch.tensor([SAMPLER.window * 4.0]), actions=actions, has_actions=has_actions,
        instruction=silence, instruction_mask=silence_mask,
        is_instructed=torch.zeros(1, actions.shape[2], dtype=torch.bool), video_prompt=None,
        has_prompt=torch.tensor([False]),
    )  # fmt: skip
    latents = context
    for t in range(num_context, actions.shape[2]):
        noise = torch.stack(
            [noise_at(session, t - num_context, player, 0, context.shape[3:]) for player in range(num_players)]
        )
        new = noise[None, :, None]
        for step in range(SAMPLER.num_steps):
            now = step / SAMPLER.num_steps
            everything = torch.cat([latents, new], dim=2)
            time = torch.ones(everything.shape[:3])
            time[:, :, -1] = now
            past = SlidingWindow(SAMPLER.window)
            velocity = networks.model(everything, time, conditions.frames(0, t + 1), True, past)
            new = new + velocity[:, :, -1:] / SAMPLER.num_steps
        latents = torch.cat([latents, new], dim=2)
    return latents


def test_a_stream_is_the_sliding_window_over_the_whole_world(sampler):
    num_steps, context, given = 7, frames(2), torch.ones(2, 8, 2)
    stream = sampler.start("snow", 5, 2, context, given)
    shown = torch.cat(run(sampler, stream, num_steps), dim=1)[:2]
    led = torch.ones(1, 2, 2, 4, 2)
    later = torch.stack([keys(tick)[:2] for tick in range(num_steps)], dim=1)[None]
    latents = regenerated(
        NETWORKS, NETWORKS.encode(context)[None], torch.cat([led, later], dim=2), torch.ones(1, 2, dtype=torch.bool),
        "snow", 5,
    )  # fmt: skip
    video = NETWORKS.decode(latents[0], latents.shape[2] * 4)[:, 8:]
    difference = ((video + 1) * 127.5 - shown).abs().max()
    assert difference < 0.5 + 127.5e-4  # uint8 rounds by half a level; the rest is a ten-thousandth of the range


def test_keys_and_words_matter_from_their_own_step_on(sampler):
    calm, moved, told = (sampler.start("", 5, 1) for _ in range(3))
    for stream in (calm, moved, told):
        sampler.step([stream], [keys(0)])
    sampler.instruct(told, "let it snow")
    pressed = keys(1)
    pressed[0, 3] = 1 - pressed[0, 3]
    one, other, third = (
        sampler.step([stream], [held])[0] for stream, held in ((calm, keys(1)), (moved, pressed), (told, keys(1)))
    )
    assert not torch.equal(one, other)
    assert not torch.equal(one, third)
    sampler.instruct(told, None)
    assert told.standing.words.read is not None
    assert same([part for parts in told.standing.words.read for part in parts],
                [part for parts in calm.standing.words.read or () for part in parts])  # fmt: skip


def test_the_same_log_gives_the_same_bits_whatever_runs_beside_it(sampler):
    def log(company):
        stream = sampler.start("snow", 5, 2, frames(2))
        others = [sampler.start("night", 6 + i, num_players) for i, num_players in enumerate(company)]
        shown = []
        for tick in range(6):
            if tick == 2:
                sampler.instruct(stream, "make it night")
            if tick == 3:
                sampler.reset_context(stream, [1])
            streams = [*others, stream]
            shown.append(sampler.step(streams, [keys(tick + 10 * len(streams))] * len(others) + [keys(tick)])[-1])
            torch.rand(3)
        return shown

    alone = log([])
    assert same(alone, log([]))
    assert same(alone, log([3]))
    assert same(alone, log([1, 3, 2]))
    assert not same(alone, [frame.flip(0) for frame in alone])


@given(
    num_players=st.lists(st.integers(1, 8), max_size=6),
    pass_players=st.sampled_from([0.0, 1.0, 4.0, 100.0]),
)
def test_streams_go_together_where_that_is_cheapest(num_players, pass_players):
    found = passes(num_players, pass_players)
    assert sorted(i for part in found for i in part) == list(range(len(num_players)))

    def cost(parts):
        return sum(pass_players + len(part) * max(num_players[i] for i in part) for part in parts)

    for labels in product(range(len(num_players)), repeat=min(len(num_players), 4)):
        parts = [[i for i, label in enumerate(labels) if label == each] for each in set(labels)]
        rest = [[i] for i in range(len(labels), len(num_players))]
        assert cost(found) <= cost([*parts, *rest]) + 1e-9


def test_streams_that_go_apart_get_what_they_get_together(sampler):
    apart = StreamSampler(NETWORKS, SAMPLER, **{**LIVE, "pass_players": 0.0})

    def played(by):
        streams = [by.start("snow", 5 + i, count, frames(count)) for i, count in enumerate((2, 1, 3, 1))]
        by.leave(streams[1], 0)  # nobody is left there
        return [frame for tick in range(3) for frame in by.step(streams, [keys(tick + i) for i in range(4)])]

    assert same(played(sampler), played(apart))


def test_pictures_are_handed_on_before_the_model_has_taken_them_in():
    each_alone = StreamSampler(NETWORKS, SAMPLER, **{**LIVE, "pass_players": 0.0})
    streams = [each_alone.start("snow", 5 + i, count, frames(count)) for i, count in enumerate((2, 1, 3))]
    each_alone.leave(streams[1], 0)
    before = [stream.standing.last for stream in streams]
    seen = []

    def look(place, drawn):
        is_behind = [torch.equal(stream.standing.last, last) for stream, last in zip(streams, before, strict=True)]
        seen.append((place, drawn.clone(), is_behind))

    made = each_alone.step(streams, [keys(i) for i in range(3)], on_drawn=look)
    assert [place for place, _, _ in seen] == [1, 0, 2]  # who has nobody to draw for waits for nobody
    assert [is_behind for _, _, is_behind in seen] == [[True] * 3, [True] * 3, [False, True, True]]
    assert same([drawn for _, drawn, _ in seen], [made[place] for place, _, _ in seen])


def test_a_full_room_does_not_blow_up_those_of_one_player():
    assert passes([4, 1, 1, 1, 1], 4.0) == [[1, 2, 3, 4], [0]]
    assert passes([2, 1], 4.0) == [[1, 0]]


def test_who_comes_and_goes_changes_nobody_elses_bits(sampler):
    quiet, busy = (sampler.start("snow", 5, 1, frames(1)) for _ in range(2))
    seen_quiet, seen_busy = [], []
    for tick in range(6):
        if tick == 1:
            sampler.join(busy, 2, frames(1, seed=9)[0])
        if tick == 3:
            sampler.join(busy, 1)
        if tick == 4:
            sampler.leave(busy, 2)
        for stream, seen in ((quiet, seen_quiet), (busy, seen_busy)):
            seen.append(sampler.step([stream], [keys(tick)])[0])
    assert same([frame[0] for frame in seen_quiet], [frame[0] for frame in seen_busy])
    assert [bool(frame[2].any()) for frame in seen_busy] == [False, True, True, True, False, False]
    assert [bool(frame[1].any()) for frame in seen_busy] == [False, False, False, True, True, True]


def test_who_joins_with_frames_has_the_memory_of_one_who_began_with_them(sampler):
    whole, late = sampler.start("snow", 5, 3, frames(3)), sampler.start("snow", 5, 2, frames(3)[:2])
    sampler.join(late, 2, frames(3)[2])
    assert same(run(sampler, whole, 3), run(sampler, late, 3))


EVENTS = st.sampled_from(["join", "leave", "say", "cut", "nothing"])


@given(st.lists(st.tuples(EVENTS, st.integers(0, 2), st.integers(0, 3)), min_size=5, max_size=10))
@settings(max_examples=5, derandomize=True)
def test_a_rewound_world_replays_bit_for_bit(sampler, script):
    stream, boundaries, log = sampler.start("snow", 5, 2, frames(2)), [], []

    def play(event, slot):
        if event == "join" and slot not in stream.slots:
            sampler.join(stream, slot, frames(1, 4, seed=slot)[0] if stream.tick % 2 else None)
        elif event == "leave" and slot in stream.slots:
            sampler.leave(stream, slot)
        elif event == "say":
            sampler.instruct(stream, f"word {slot}")
        elif event == "cut" and slot in stream.slots:
            sampler.reset_context(stream, [slot])
        return sampler.step([stream], [keys(stream.tick)])[0]

    for event, slot, depth in script:
        boundaries.append(state(stream))
        log.append((event, slot, play(event, slot)))
        if 1 <= depth <= min(stream.tick, LIVE["undo_ticks"]):
            sampler.rewind(stream, depth)
            assert same(state(stream), boundaries[-depth])
            for old_event, old_slot, shown in log[-depth:]:
                assert torch.equal(play(old_event, old_slot), shown)


def state(stream):
    """All that later frames of the players depend on."""
    standing = stream.standing
    read = [part for parts in standing.words.read or () for part in parts]
    alive = torch.tensor(standing.is_live)
    seen = standing.is_there[:, stream.age_order]
    rows = [stream.ring[place][:, :, :, slot] for slot, places in enumerate(standing.is_there)
            for place in places.nonzero()[:, 0].tolist()]  # fmt: skip
    return [torch.tensor([standing.tick, standing.head]), alive, seen, *standing.decoder, *read, *rows]


def test_a_rewind_undoes_what_was_said_and_who_came_since_the_last_step(sampler):
    stream = sampler.start("snow", 5, 1)
    run(sampler, stream, 2)
    before = state(stream)
    run(sampler, stream, 1)
    sampler.join(stream, 1, frames(1)[0])
    sampler.instruct(stream, "make it night")
    sampler.rewind(stream, 1)
    assert same(state(stream), before)


def test_a_rewind_deeper_than_the_log_is_refused_and_changes_nothing(sampler):
    stream = sampler.start("snow", 5, 1)
    run(sampler, stream, 6)
    before = state(stream)
    with pytest.raises(ValueError, match=r"cannot rewind 5 ticks: .* last 4 "):
        sampler.rewind(stream, 5)
    with pytest.raises(ValueError, match="cannot rewind 0 ticks"):
        sampler.rewind(stream, 0)
    assert same(state(stream), before)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, 4, 5), r"stream 1 of the batch: .* = \(3, 4, 2\), got \(3, 4, 5\); the keys are \['w', 'a'\]"),
        (torch.zeros(2, 4, 2), r"got \(2, 4, 2\)"),
        (torch.full((3, 4, 2), float("nan")), "NaN"),
        (torch.full((3, 4, 2), 2.0), r"outside \[0, 1\]"),
    ],
)
def test_bad_actions_of_one_stream_leave_the_others_as_they_were(sampler, bad, message):
    alone, good, spoiled = (sampler.start("snow", session, 2) for session in (5, 5, 6))
    with pytest.raises(ValueError, match=message):
        sampler.step([good, spoiled], [keys(0), bad])
    assert good.tick == spoiled.tick == 0
    assert same(run(sampler, good, 2), run(sampler, alone, 2))
    run(sampler, spoiled, 1)


def test_a_stream_cannot_stand_twice_in_a_batch(sampler):
    stream = sampler.start("", 5, 1)
    with pytest.raises(ValueError, match="different streams"):
        sampler.step([stream, stream], [keys(0), keys(0)])
    with pytest.raises(ValueError, match="actions for 2"):
        sampler.step([stream], [keys(0), keys(0)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_players": 4}, r"1 to 3 players \(its slots\), got 4"),
        ({"num_players": 0}, "got 0"),
        ({"session": -1}, "whole number"),
        ({"context": torch.zeros(1, 8, 3, 40, 40)}, "these weights make 32x32 video"),
        ({"context": torch.zeros(2, 8, 3, 32, 32)}, r"= \(1, 3, 32, 32\), got \(2, 8, 3, 32, 32\)"),
        ({"context": torch.zeros(1, 6, 3, 32, 32)}, "whole units of 4.* got 6 frames"),
        ({"context": torch.full((1, 8, 3, 32, 32), float("nan"))}, "finite"),
        ({"context": torch.zeros(1, 8, 3, 32, 32), "actions": torch.zeros(1, 8, 3)}, r"= \(1, 8, 2\)"),
        ({"actions": torch.zeros(1, 8, 2)}, "without the context"),
    ],
)
def test_a_wrong_start_is_refused(sampler, arguments, message):
    with pytest.raises(ValueError, match=message):
        sampler.start(**{"prompt": "", "session": 5, "num_players": 1, **arguments})


def test_wrong_seats_are_refused(sampler):
    stream = sampler.start("", 5, 1)
    with pytest.raises(ValueError, match=r"slot 0 is not free; the empty slots of this stream are \[1, 2\]"):
        sampler.join(stream, 0)
    with pytest.raises(ValueError, match="slot 3 is not free"):
        sampler.join(stream, 3)
    with pytest.raises(ValueError, match="nobody holds slot 1"):
        sampler.leave(stream, 1)
    with pytest.raises(ValueError, match=r"nobody holds slots \[2\]"):
        sampler.reset_context(stream, [2])
    with pytest.raises(ValueError, match="first frames"):
        sampler.join(stream, 1, torch.zeros(8, 3, 16, 16))
    assert stream.slots == [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "base"}, r"kind is one of \['causal', 'distilled'\], these are 'base'"),
        ({"num_slots": 9}, "num_slots <= 8"),
        ({"window": 1}, "window of 2 or more"),
        ({"block": 2}, "block = 1"),
        ({"precision": "int3"}, r"expected one of \['fp32', 'bf16'\]"),
    ],
)
def test_a_wrong_sampler_is_refused(changes, message):
    networks = replace(NETWORKS, kind=changes.get("kind", "causal"))
    settings = replace(SAMPLER, **{name: value for name, value in changes.items() if name in ("window", "block")})
    live = {name: changes.get(name, value) for name, value in LIVE.items()}
    with pytest.raises(ValueError, match=message):
        StreamSampler(networks, settings, **live)


def test_an_empty_world_goes_on_without_a_picture(sampler):
    stream = sampler.start("", 5, 1)
    sampler.leave(stream, 0)
    (shown,) = run(sampler, stream, 1)
    assert stream.tick == 1
    assert not shown.any()


def test_memory_does_not_grow(sampler):
    stream = sampler.start("snow", 5, 2, frames(2))
    run(sampler, stream, 8)
    early = (stream.undo_bytes(), stream.snapshot_bytes(), stream.ring.data_ptr())
    run(sampler, stream, 30)
    assert (stream.undo_bytes(), stream.snapshot_bytes(), stream.ring.data_ptr()) == early


def test_the_log_of_a_tick_is_a_fraction_of_a_snapshot():
    sampler = StreamSampler(NETWORKS, replace(SAMPLER, window=16), **LIVE)
    stream = sampler.start("snow", 5, 2)
    run(sampler, stream, 6)
    assert stream.undo_bytes() / LIVE["undo_ticks"] <= stream.snapshot_bytes() / 8


def test_one_video_frame_a_step_where_the_vae_keeps_time():
    sampler = StreamSampler(some_networks(frames_per_latent=1), SAMPLER, **LIVE)
    stream = sampler.start("snow", 5, 2, frames(2, num_frames=3))
    assert sampler.step([stream], [keys(0, 1)])[0].shape == (3, 1, 3, SIZE, SIZE)


def test_guidance_keeps_a_second_past_without_the_prompt():
    plain, guided = (StreamSampler(NETWORKS, replace(SAMPLER, guidance=scale), **LIVE) for scale in (1.0, 4.0))
    one, other = (run(each, each.start("snow", 5, 2), 3) for each in (plain, guided))
    assert not same(one, other)
    unprompted = [run(each, each.start("", 5, 2), 3) for each in (plain, guided)]
    assert max((a.int() - b.int()).abs().max() for a, b in zip(*unprompted, strict=True)) <= 1


def test_an_instruction_leads_only_the_stream_that_was_told_and_only_for_a_while():
    shown, leads = [], []
    for scale in (1.0, 3.0):
        led = replace(SAMPLER, instruction_guidance=scale, instruction_latents=2)
        sampler = StreamSampler(NETWORKS, led, **LIVE)
        told, other = sampler.start("snow", 5, 2), sampler.start("snow", 6, 2)
        run(sampler, told, 1)
        sampler.instruct(told, "Let it snow.")
        shown.append([])
        for tick in range(3):
            leads.append(StreamBatch([told, other], sampler.layout).lead(scale, 2))
            shown[-1].append(sampler.step([told, other], [keys(tick), keys(tick)]))
    assert leads[:3] == [1.0, 1.0, 1.0]
    assert [lead.flatten().tolist() for lead in leads[3:5]] == [[3.0, 1.0], [3.0, 1.0]]
    assert leads[5] == 1.0
    (plain, _), (led, _) = (each[0] for each in shown)
    assert not torch.equal(plain, led)
    assert all(torch.equal(one[1], another[1]) for one, another in zip(*shown, strict=True))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_led_frame_of_a_stream_is_that_of_a_clip(guidance):
    networks = some_networks(expects_words=True)
    settings = replace(SAMPLER, guidance=guidance, instruction_guidance=3.0, instruction_latents=2)
    stream_sampler = StreamSampler(networks, settings, **{**LIVE, "num_slots": 1})
    first, held = frames(1), keys(3)[:1]
    stream = stream_sampler.start("snow", 5, 1, first, torch.zeros(1, 8, 2))
    stream_sampler.instruct(stream, "Let it snow.")
    batch = StreamBatch([stream], stream_sampler.layout)
    live = stream_sampler.denoise(batch, batch.conditions(held[None], has_actions=True, told=[None]))

    clips = ClipSampler(networks, settings)
    actions = torch.cat([torch.zeros(1, 8, 2), held], dim=1)[None]
    spoken = [Instruction("Let it snow.", 8)]
    request = SampleRequest(["snow"], 12, 0, actions=actions, context=first[None], instructions=[spoken])
    conditions = clips._instructed(clips._conditions(request, 3), spoken)
    noise = noise_at(5, stream.tick, 0, 0, stream_sampler.latent_shape)[None, None, None]
    made, plain = (
        clips._block(networks.encode(first)[None], noise, conditions, lead, True)
        for lead in (clips._lead(spoken, 2, 3), 1.0)
    )
    torch.testing.assert_close(live, made[:, :, 0], atol=1e-4, rtol=1e-4)
    assert (made - plain).abs().max() > 0.01


def test_bf16_stays_near_fp32(sampler):
    half = StreamSampler(NETWORKS, SAMPLER, **{**LIVE, "precision": "bf16"})
    one, other = (run(each, each.start("snow", 5, 2), 4) for each in (sampler, half))
    assert max((a.float() - b.float()).abs().mean() for a, b in zip(one, other, strict=True)) < 3
    assert next(NETWORKS.model.parameters()).dtype == torch.float32


def test_noise_is_a_function_of_its_place():
    place = {"session": 2**63, "tick": 3, "slot": 1, "step": 0, "shape": (4, 2, 2)}
    first = noise_at(**place)
    torch.rand(5)
    assert torch.equal(first, noise_at(**place))
    others = [noise_at(**{**place, name: place[name] + 1}) for name in ("session", "tick", "slot", "step")]
    assert all(not torch.equal(first, other) for other in others)
    assert abs(float(noise_at(1, 2, 3, 4, (10_000,)).std()) - 1) < 0.03


def test_players_of_a_joint_model_see_those_of_their_own_stream_and_keep_their_seats():
    sampler = StreamSampler(some_networks(players=partial(SeatIdentity, num_slots=3)), SAMPLER, **LIVE)
    both, other, alone = (sampler.start("", 5, num_players) for num_players in (3, 3, 3))
    sampler.leave(both, 0)
    sampler.leave(other, 0)
    sampler.leave(alone, 0)
    conditions = StreamBatch([both], sampler.layout).conditions(torch.zeros(1, 2, 4, 2), has_actions=True, told=[None])
    assert conditions.seats.tolist() == [[1, 2]]
    assert conditions.is_player.all()
    held = keys(1)
    pressed = held.clone()
    pressed[2] = 1 - pressed[2]
    (first,) = sampler.step([both], [held])
    (second,) = sampler.step([other], [pressed])
    assert not torch.equal(first[1], second[1])  # who plays beside them is seen
    (gone,) = sampler.step([alone], [torch.where(torch.tensor([True, False, False])[:, None, None], 1 - held, held)])
    assert torch.equal(first, gone)  # an empty slot is not


def test_a_small_decoder_changes_the_pictures_and_nothing_that_is_remembered():
    small = copy.deepcopy(NETWORKS.vae.decoder)
    for parameter in small.parameters():
        parameter.mul_(0.5)
    live = StreamSampler(replace(NETWORKS, small_decoder=small), SAMPLER, **LIVE)
    whole = StreamSampler(replace(NETWORKS, small_decoder=small), SAMPLER, **{**LIVE, "uses_small_decoder": False})
    streams = [one.start("", 1, 2) for one in (live, whole)]
    pictures = [one.step([stream], [keys(0)])[0] for one, stream in zip((live, whole), streams, strict=True)]
    assert not torch.equal(pictures[0], pictures[1])
    assert torch.equal(streams[0].ring, streams[1].ring)
