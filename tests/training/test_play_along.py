"""A model that plays recorded sessions along, and the decoder that reads what it writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, build
from gamegen_x.data.played import WholeRecord
from gamegen_x.data.records import RecordHeader
from gamegen_x.games.dynamics import RulesDynamics
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction
from gamegen_x.training.checks import check_run
from gamegen_x.training.play_along import PlayAlong
from gamegen_x.training.randomness import Moment
from gamegen_x.world.facts import stacked
from tests.training.small_run import configure
from tests.training.train_command import WITHOUT_WEIGHTS

WEIGHTS = str(CONFIGS.parent / "weights" / "snowglobe-duo")
LIVE = {"num_slots": 2, "undo_ticks": 0, "precision": "fp32", "uses_small_decoder": False, "pass_players": 0}
SPACE = ActionSpace("snowglobe", ("w", "a", "s", "d", "space", "e", "q"))
NUM_FRAMES, CONTEXT = 24, 2


@pytest.fixture(scope="module")
def player():
    return PlayAlong(
        weights=WEIGHTS, context_latents=CONTEXT, batch_size=2, sampler={"num_steps": None}, live=LIVE, device="cpu"
    )


@pytest.fixture(scope="module")
def records():
    """Two sessions of the game, in the second of which somebody speaks."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        dynamics: RulesDynamics = build(compose("evaluate", overrides=["suite=multiplayer"]).dynamics)
    return [record(dynamics, 0, ()), record(dynamics, 1, (Instruction("Make it night.", 12),))]


def record(dynamics, seed, instructions):
    world, facts, views = dynamics.fresh(seed, "train"), [], []
    actions = (np.random.default_rng(seed).random((NUM_FRAMES, 2, 7)) < 0.3).astype(np.uint8)
    for frame, held in enumerate(actions):
        for said in instructions:
            world = world.told(said.text) if said.frame == frame else world
        world = world.after(held)
        facts.append(world.facts())
        views.append(np.stack(world.views()))
    header = RecordHeader(f"session-{seed}", NUM_FRAMES, 2, 64, 64, 24.0, SPACE, "", instructions, True)
    return WholeRecord(header, np.stack(views, axis=1), actions, stacked(facts))


def test_a_model_plays_on_from_real_frames_and_the_same_whoever_plays_beside_it(player, records):
    together = player.play(records)
    alone = [player.play([one])[0] for one in records]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))
    for made, one in zip(together, records, strict=True):
        video = torch.from_numpy(np.moveaxis(one.video, -1, 2)).float() / 127.5 - 1
        real = player.networks.encode(video).detach()
        torch.testing.assert_close(made[:, :CONTEXT], real[:, :CONTEXT], atol=1e-4, rtol=0)
        assert not torch.equal(made[:, CONTEXT:], real[:, CONTEXT:])
        nearer, farther = ((made - each).square().mean() for each in (real, real.flip(1)))
        assert nearer < farther / 3  # it keeps to what is true


def test_keys_sentences_and_the_truth_are_followed(player, records):
    (made,) = player.play([records[1]])
    silent = replace(records[1], header=replace(records[1].header, instructions=()))
    still = replace(records[1], actions=np.zeros_like(records[1].actions))
    elsewhere = replace(records[1], state=records[0].state)
    first_different = []
    for other in (silent, still, elsewhere):
        (changed,) = player.play([other])
        is_other = (made != changed).flatten(2).any(2).any(0)
        first_different.append(int(is_other.int().argmax()))
    assert first_different == [3, CONTEXT, CONTEXT]  # the sentence is said in the fourth latent frame


def test_what_was_said_at_the_beginning_still_holds_and_keys_may_come_in_another_order(player, records):
    said = {frame: (Instruction("Let it snow.", frame),) for frame in (2, CONTEXT * 4)}
    early, at_once = (
        player.play([replace(records[0], header=replace(records[0].header, instructions=said[frame]))])[0]
        for frame in said
    )
    assert torch.equal(early, at_once)
    assert not torch.equal(early, player.play([records[0]])[0])
    turned = ActionSpace("snowglobe", SPACE.keys[::-1])
    other = replace(
        records[0], header=replace(records[0].header, action_space=turned), actions=records[0].actions[..., ::-1]
    )
    assert torch.equal(player.play([other])[0], player.play([records[0]])[0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"has_actions": False}, "no keys that the model knows"),
        ({"action_space": ActionSpace("other", ("jump",))}, "no keys that the model knows"),
        ({"num_players": 3}, "more players than the model has slots"),
        ({"num_frames": 11}, "too short to play along"),
    ],
)
def test_records_that_cannot_be_played_along_say_why(player, records, changes, reason):
    assert player.fault(records[0]) is None
    assert player.fault(replace(records[0], header=replace(records[0].header, **changes))) == reason
    assert player.fault(replace(records[0], state={})).startswith("no ")


def test_what_decides_what_is_played_is_in_the_name_of_the_cache_and_nothing_else(player):
    def made_with(**changes):
        given = {
            "weights": WEIGHTS,
            "context_latents": 2,
            "batch_size": 2,
            "sampler": {},
            "live": LIVE,
            "device": "cpu",
        }
        return PlayAlong(**{**given, **changes}).made_with()

    assert made_with(batch_size=5, live={**LIVE, "undo_ticks": 3, "pass_players": 9}) == player.made_with()
    for change in ({"context_latents": 3}, {"sampler": {"shift": 9.0}}, {"live": {**LIVE, "precision": "bf16"}}):
        assert made_with(**change) != player.made_with()


def compose_train(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*overrides])


def test_only_who_learns_on_play_is_given_play_and_never_without_weights(tmp_path):
    with pytest.raises(ValueError, match=r"data\.play_along is for task=decoder with data\.content=frames"):
        check_run(configure(tmp_path, "task=vae", "data.play_along={_target_: x}"))
    doom = ["experiment=vizdoom_instruct", f"weights={WEIGHTS.replace('snowglobe-duo', 'vizdoom-duel')}"]
    doom += [f"data.dataset.folder={tmp_path}", f"output={tmp_path / 'run'}"]
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.tar").touch()
    plays, learns = "+play_along@data.play_along=default", "past.played_share=0.5"
    with pytest.raises(ValueError, match=r"past\.played_share above 0"):
        check_run(compose_train(*doom, plays))
    with pytest.raises(
        ValueError, match=r"past\.played_share=0\.5, but nobody plays the clips along; add \+play_along"
    ):
        check_run(compose_train(*doom, learns))
    cfg = compose_train(*doom, learns, plays)  # as docs/training.md has it
    check_run(cfg)
    assert build(cfg.data.play_along).fault_beside(Path(cfg.weights)) is None
    assert "another autoencoder" in build(cfg.data.play_along).fault_beside(Path(WEIGHTS))
    with pytest.raises(ValueError, match="task=decoder stands on a trained vae, but weights is null"):
        check_run(configure(tmp_path, "task=decoder", *WITHOUT_WEIGHTS))


def test_who_cannot_play_is_refused(tmp_path):
    tiny = WEIGHTS.replace("duo", "tiny")
    with pytest.raises(ValueError, match="weights/snowglobe-tiny cannot play along"):
        PlayAlong(weights=tiny, context_latents=1, batch_size=1, sampler={}, live=LIVE, device="cpu")
    with pytest.raises(ValueError, match="num_steps"):
        PlayAlong(weights=WEIGHTS, context_latents=1, batch_size=1, sampler={"num_steps": 0}, live=LIVE, device="cpu")
    with pytest.raises(ValueError, match=r"context_latents and batch_size of data\.play_along are at least 1, got 0"):
        PlayAlong(weights=WEIGHTS, context_latents=0, batch_size=1, sampler={}, live=LIVE, device="cpu")
    with pytest.raises(FileNotFoundError, match="no weights folder"):
        PlayAlong(weights=str(tmp_path / "none"), context_latents=1, batch_size=1, sampler={}, live=LIVE, device="cpu")


def test_a_decoder_reads_a_share_of_a_batch_from_played_latents(tmp_path):
    from tests.training.test_vae_losses import a_batch

    numbers = ["task.latent_scale=2.0", "task.latent_shift=0.5"]
    task = build(configure(tmp_path, "task=decoder", "task.own_share=0.5", *numbers).task)
    video = torch.zeros(4, 1, 4, 3, 16, 16)
    real = task.vae.encode(video[:, 0]).mean
    batch = a_batch(
        keys=["clip"] * 4,
        captions=[""] * 4,
        instructions=[""] * 4,
        instruction_starts=torch.zeros(4),
        actions=torch.zeros(4, 1, 4, 4),
        is_player=torch.ones(4, 1, dtype=torch.bool),
        fps=torch.full((4,), 24.0),
        video=video,
        others=None,
        played=torch.randn(real.shape)[:, None],
    )
    read = []
    task.small_decoder.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    task.train().losses(batch, Moment(0, 0, 0, 0))
    torch.testing.assert_close(read[0][:2], batch.played[:2, 0] / 2.0 + 0.5)
    assert not torch.isclose(read[0][2:], batch.played[2:, 0] / 2.0 + 0.5).all()
    assert "psnr_of_own_db" in task.eval().losses(batch, Moment(0, 0, 0, 0))
