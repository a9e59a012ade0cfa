"""The multiplayer suite at the size of a test: the game's own pictures score the ceiling, others do not."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException

from gamegen_x.config import CONFIGS, build
from gamegen_x.data.state import Drawing
from gamegen_x.evaluation.commands import Commands
from gamegen_x.evaluation.judges import EnvironmentClassifier, InverseDynamics, Judges
from gamegen_x.evaluation.meetings import LiveModel, Meetings
from gamegen_x.evaluation.recordings import Recording, Recordings
from gamegen_x.evaluation.subject import Subject
from gamegen_x.games.snowglobe_conditions import FACTS
from gamegen_x.models.players.sequence import TokenSequence
from gamegen_x.sampling.stream_sampler import StreamSampler
from tests.sampling.test_stream_sampler import SAMPLER, SIZE, some_networks

LIVE = {"num_slots": 2, "undo_ticks": 0, "precision": "fp32", "uses_small_decoder": True, "pass_players": 4.0}
KEYS = {  # of the JSON line
    "ceiling_accuracy", "sr_c", "isolation_ok", "covisibility_f1", "covisibility_f1_after_apart", "return_consistency",
    "drift_ratio", "sr_e", "frames_per_second_per_player",
}  # fmt: skip


class TrueToTheGame(Meetings):
    """A model whose pictures are the game's own."""

    def _played_on(self, staged, model):
        return [one.video for one in staged]


class Blank(Meetings):
    """A model that shows nothing."""

    def _played_on(self, staged, model):
        return [torch.zeros_like(one.video) for one in staged]


@pytest.fixture(scope="module")
def cfg():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(
            "evaluate",
            [
                "suite=multiplayer", f"game.height={SIZE}", f"game.width={SIZE}", "suite.meetings.max_worlds=2",
                "suite.questions.live_speed.timed_steps=2", "suite.meetings.signs.window=3",
                "suite.questions.covisibility.edge_pixels=2.0", "suite.questions.covisibility.middle_pixels=5.0",
                "suite.questions.covisibility.max_pixels=4.0",
            ],
        )  # fmt: skip


def a_subject(cfg, make=Meetings, is_told=False, max_blocks=None):
    if max_blocks is not None:
        cfg = deepcopy(cfg)
        cfg.suite.meetings.max_blocks = max_blocks
    settings = build(cfg.suite)
    meetings = settings.meetings
    meetings.__class__ = make
    game = meetings.dynamics.game
    torch.manual_seed(0)
    commands = Commands(settings.command_names, game.keys)
    inverse = InverseDynamics(game.keys.num_keys, 4, [8], 1, 8)
    environment = EnvironmentClassifier({name: FACTS[name] for name in ("weather", "time_of_day")}, [4])
    judges = Judges(inverse, environment, {"commands": 1.0}, 64, torch.device("cpu"))
    video = torch.zeros(2, 4, 3, SIZE, SIZE, dtype=torch.uint8)
    clip = Recording("r", "", video, torch.zeros(2, 4, 7, dtype=torch.uint8), {}, FACTS, (), game.keys, 24.0)
    drawing = None
    if is_told:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            state = build(compose("train", ["data=snowglobe", "state=map", "output=unused"]).data.state)
        drawing = Drawing(state, (SIZE // 8, SIZE // 8), (SIZE, SIZE))
    networks = some_networks(
        players=partial(TokenSequence, num_slots=2),
        state_channels=None if drawing is None else drawing.num_channels,
        names=tuple(game.keys.keys),
    )
    streams = StreamSampler(networks, replace(SAMPLER, num_steps=1), **LIVE)
    subject = Subject(
        vae=networks.vae, sampler=None, recordings=Recordings("", "", [clip], [clip]), judges=judges, commands=commands,
        generation=settings.generation, num_blocks=1, num_blocks_without_instructnet=1, device=torch.device("cpu"),
        meetings=meetings, live=LiveModel(streams, drawing),
    )  # fmt: skip
    return subject, settings.questions


def asked(subject, questions, *names):
    figures = {}
    for name in names or questions:
        figures |= questions[name].ask(subject).figures
    return figures


@pytest.fixture(scope="module")
def in_full():
    """Pictures of the size that the suite's colours are read in."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("evaluate", ["suite=multiplayer", "suite.meetings.max_worlds=2"])


SEEN = ("covisibility", "return_consistency", "isolation")


def test_the_games_own_pictures_score_the_ceiling(in_full):
    figures = asked(*a_subject(in_full, TrueToTheGame), *SEEN)
    for name in ("covisibility_f1", "covisibility_f1_after_apart", "return_consistency"):
        assert figures[name] == figures[f"{name}_ceiling"]
        assert figures[name] > figures[f"{name}_chance"] + 0.2
    assert figures["covisibility_f1"] > 0.9
    assert figures["covisibility_f1_after_apart_sightings"] > 0
    assert figures["isolation_ok"]
    assert figures["isolation_is_exact"]
    assert figures["isolation_own_change"] > 1


def test_a_model_that_shows_nothing_scores_nothing(cfg):
    figures = asked(*a_subject(cfg, Blank), "covisibility", "return_consistency")
    assert figures["covisibility_f1"] == figures["covisibility_f1_after_apart"] == 0
    assert figures["return_consistency"] < figures["return_consistency_ceiling"] - 0.2


def test_every_question_is_answered_for_random_weights(cfg):
    subject, questions = a_subject(cfg, is_told=True, max_blocks=32)
    figures = asked(subject, questions)
    assert figures.keys() >= KEYS
    assert len(figures["sr_c"]) == 2
    assert len(figures["drift_by_minute"]) == 1
    assert figures["isolation_num_worlds"] > 0
    assert figures["frames_per_second_per_player"] > 0
    met = subject.meeting("stay")[0]
    begun = met.staged.context_frames
    assert torch.equal(met.video[:, :begun], met.staged.video[:, :begun])
    assert not torch.equal(met.video[:, begun:], met.staged.video[:, begun:])


def test_a_model_that_is_told_nothing_is_asked_as_well(cfg):
    figures = asked(*a_subject(cfg, max_blocks=32), "covisibility")
    assert 0 <= figures["covisibility_f1"] <= 1


def test_a_script_that_cannot_be_played_is_refused(cfg):
    subject, _ = a_subject(cfg)
    script = subject.meetings.scripts_of("roam")[0]
    with pytest.raises(ValueError, match=r"holds \['x'\]"):
        subject.meetings.staged(type(script)(1, "", ["x", "w"]), subject.commands)
    with pytest.raises(ValueError, match="no scripts for the meeting 'dance'"):
        subject.meeting("dance")


def test_a_script_can_be_played_over_and_over_after_its_one_beginning(cfg):
    once, thrice = (played(cfg, 8, repeats) for repeats in (1, 3))
    begun = cfg.suite.meetings.context_blocks
    assert once.shape == (2, 8)
    assert torch.equal(thrice, torch.cat([once[:, :begun], *[once[:, begun:]] * 3], dim=1))
    with pytest.raises(InstantiationException, match="repeats of meetings is at least 1, got 0"):
        played(cfg, 8, 0)


def played(cfg, max_blocks, repeats):
    """The commands of a script."""
    cfg = deepcopy(cfg)
    cfg.suite.meetings.update(max_blocks=max_blocks, repeats=repeats)
    subject, _ = a_subject(cfg)
    return subject.meetings.staged(subject.meetings.scripts_of("roam")[0], subject.commands).commands


def test_blocks_that_are_no_whole_steps_of_the_model_are_refused(cfg):
    subject, _ = a_subject(cfg, max_blocks=8)
    meetings, model = subject.meetings, subject.live
    staged = meetings.staged(meetings.scripts_of("roam")[0], subject.commands)
    assert meetings.steps(staged, model) == [slice(at, at + 4) for at in range(16, 32, 4)]
    meetings.block_frames = 8
    assert meetings.steps(staged, model) == [slice(at, at + 4) for at in range(16, 32, 4)]
    meetings.block_frames = 6
    with pytest.raises(ValueError, match="a block of a script has 6 frames, a step of these weights 4"):
        meetings.steps(staged, model)
