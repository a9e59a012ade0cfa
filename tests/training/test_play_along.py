"""A model that plays recorded sessions along, and the decoder that reads what it writes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, build
from gamegen_x.data.played import Score
from gamegen_x.data.records import RecordHeader
from gamegen_x.games.dynamics import RulesDynamics
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction
from gamegen_x.training.play_along import PlayAlong
from gamegen_x.training.randomness import Moment
from gamegen_x.world.facts import stacked
from tests.training.small_run import configure

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
def scores():
    """Two sessions of the game, in the second of which somebody speaks."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        dynamics: RulesDynamics = build(compose("evaluate", overrides=["suite=multiplayer"]).dynamics)
    return [score(dynamics, 0, ()), score(dynamics, 1, (Instruction("Make it night.", 12),))]


def score(dynamics, seed, instructions):
    world, facts, views = dynamics.fresh(seed, "train"), [], []
    actions = (np.random.default_rng(seed).random((NUM_FRAMES, 2, 7)) < 0.3).astype(np.uint8)
    for frame, held in enumerate(actions):
        for said in instructions:
            world = world.told(said.text) if said.frame == frame else world
        world = world.after(held)
        facts.append(world.facts())
        views.append(np.stack(world.views()))
    header = RecordHeader(f"session-{seed}", NUM_FRAMES, 2, 64, 64, 24.0, SPACE, "", instructions, True)
    return Score(header, np.stack(views, axis=1), actions, stacked(facts))


def test_a_model_plays_on_from_real_frames_and_the_same_whoever_plays_beside_it(player, scores):
    together = player.play(scores)
    alone = [player.play([one])[0] for one in scores]
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))
    for made, one in zip(together, scores, strict=True):
        video = torch.from_numpy(np.moveaxis(one.video, -1, 2)).float() / 127.5 - 1
        real = player.networks.encode(video).detach()
        torch.testing.assert_close(made[:, :CONTEXT], real[:, :CONTEXT], atol=1e-4, rtol=0)
        assert not torch.equal(made[:, CONTEXT:], real[:, CONTEXT:])
        nearer, farther = ((made - each).square().mean() for each in (real, real.flip(1)))
        assert nearer < farther / 3  # it keeps to what is true


def test_keys_sentences_and_the_truth_are_followed(player, scores):
    (made,) = player.play([scores[1]])
    silent = replace(scores[1], header=replace(scores[1].header, instructions=()))
    still = replace(scores[1], actions=np.zeros_like(scores[1].actions))
    elsewhere = replace(scores[1], state=scores[0].state)
    first_different = []
    for other in (silent, still, elsewhere):
        (changed,) = player.play([other])
        is_other = (made != changed).flatten(2).any(2).any(0)
        first_different.append(int(is_other.int().argmax()))
    assert first_different == [3, CONTEXT, CONTEXT]  # the sentence is said in the fourth latent frame


def test_who_cannot_play_is_refused(tmp_path):
    with pytest.raises(ValueError, match="context_latents and batch_size of a player are at least 1, got 0"):
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
        latents=torch.randn(real.shape)[:, None],
    )
    read = []
    task.small_decoder.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    task.train().losses(batch, Moment(0, 0, 0, 0))
    torch.testing.assert_close(read[0][:2], batch.latents[:2, 0] / 2.0 + 0.5)
    assert not torch.isclose(read[0][2:], batch.latents[2:, 0] / 2.0 + 0.5).all()
    assert "psnr_of_own_db" in task.eval().losses(batch, Moment(0, 0, 0, 0))
