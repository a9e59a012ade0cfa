"""A session that was played live, judged: the game's own pictures score the ceiling, others do not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from snowglobes import recording

from gamegen_x.config import CONFIGS, build
from gamegen_x.evaluation.commands import UNLISTED, Commands
from gamegen_x.evaluation.judges import Judges
from gamegen_x.evaluation.live_session import LiveSession, control, covisibility, held_commands, words
from gamegen_x.games.record import record
from gamegen_x.sampling.video_file import read_video, write_video
from gamegen_x.schema.trace import TextEvent, Trace

LATER = 8  # frames that nobody was shown
COMMANDS = ["_", "w", "a", "s", "d"]


@pytest.fixture(scope="module")
def suite():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(compose("evaluate", ["suite=multiplayer"]).suite)


@pytest.fixture(scope="module")
def session(suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    settings = ("game=snowglobe", "num_episodes=1", "num_frames=96", "workers=1", "player_key=k", "split=val")
    quiet = ("text_events.min_seconds=90", "text_events.max_seconds=91", "bots.shares.follow=0.6")
    record(recording(*settings, *quiet, f"output={folder}"))
    (trace,) = folder.glob("*/trace.json")
    true = Trace.load(trace.parent)
    shown = replace(true, folder=tmp_path_factory.mktemp("shown"), actions=true.actions[LATER:], state=cut(true.state))
    for seat in range(2):
        frames, fps = read_video(true.video_path(seat))
        write_video(shown.video_path(seat), frames[LATER:], fps, crf=12)
    return LiveSession.of_traces(shown, true, LATER, suite.meetings.dynamics)


def cut(state):
    return {name: values[LATER:] for name, values in state.items()}


class ReadsTheTruth(Judges):
    """A judge that knows what was pressed, and sees only whether a picture is black."""

    def __init__(self, session, commands):
        self.inverse_dynamics = type("OfFour", (), {"block_frames": 4})
        self.ceilings = {"commands": 1.0}
        self.held = held_commands(session.actions, commands, 4)[:, 1:]

    def commands_in(self, video, commands, first_block):
        is_black = video[0].float().mean((1, 2, 3, 4)) == 0
        return torch.where(is_black[:, None], 0, self.held)[None]


def test_the_truth_is_that_of_the_frames_that_were_shown(session, suite):
    assert session.truth.shape == session.video.shape == (2, 88, 3, 64, 64)
    assert (session.truth.float() - session.video.float()).abs().mean() < 4


def test_a_block_counts_where_one_command_was_held_from_its_first_frame_to_its_last(session):
    commands = Commands(COMMANDS, session.world.game.keys)
    keys = np.concatenate([commands.action_space.parse(text) for text in ("w*4", "w*3", "a*1", "d*4", "w+d*4")])
    held = held_commands(torch.from_numpy(keys)[None], commands, 4)
    assert held.tolist() == [[1, UNLISTED, 4, UNLISTED]]


def test_a_session_behind_which_there_is_no_game_has_no_ceiling(session, suite):
    commands = Commands(COMMANDS, suite.meetings.dynamics.game.keys)
    alone = replace(session, truth=None, world=None)
    found = control(alone, ReadsTheTruth(session, commands), commands)
    assert found["sr_c"] == [1.0, 1.0]
    assert found["sr_c_ceiling"] is None


def test_keys_are_obeyed_by_pictures_that_show_them_and_not_by_black_ones(session, suite):
    commands = Commands(COMMANDS, suite.meetings.dynamics.game.keys)
    judge = ReadsTheTruth(session, commands)
    black = LiveSession(**{**vars(session), "video": torch.zeros_like(session.video)})
    good, bad = control(session, judge, commands), control(black, judge, commands)
    assert good["sr_c"] == good["sr_c_ceiling"] == bad["sr_c_ceiling"] == [1.0, 1.0]
    assert bad["sr_c_mean"] < 1
    assert min(good["sr_c_blocks"]) > 0
    assert good["sr_c_chance"] == 0.2


def test_players_are_seen_where_they_are_in_the_games_own_pictures_only(session, suite):
    question, signs = suite.questions["covisibility"], suite.meetings.signs
    black = LiveSession(**{**vars(session), "video": torch.zeros_like(session.video)})
    good, bad = covisibility(session, question, signs), covisibility(black, question, signs)
    assert good["covisibility_sightings"] > 0
    assert good["covisibility_f1"] == pytest.approx(good["covisibility_f1_ceiling"], abs=0.1)
    assert bad["covisibility_f1"] == 0


class SeesSnowUnlessBlack(Judges):
    """A judge that reads snow off every view that is not black."""

    def __init__(self):
        self.environment = SimpleNamespace(classes={"weather": ("clear", "rain", "snow", "fog")})

    def environment_in(self, frames, fact):
        return torch.where(frames.float().mean((1, 2, 3, 4)) == 0, 0, 2)


def test_a_sentence_is_heard_where_every_view_shows_it_before_the_next(session, suite):
    question = suite.questions["words_in_all_views"]
    video, truth = (value.repeat(1, 3, 1, 1, 1) for value in (session.video, session.truth))
    actions = session.actions.repeat(1, 3, 1)
    said = [(4, "Make it summer."), (8, "Let it snow."), (80, "Make it rain."), (140, "Let it snow.")]
    too_soon, too_late = (145, "Clear the sky."), (250, "Let it snow.")
    sentences = tuple(TextEvent(frame, 0, text) for frame, text in (*said, too_soon, too_late))
    spoken = replace(session, actions=actions, video=video, truth=truth, sentences=sentences)
    heard = words(spoken, SeesSnowUnlessBlack(), question)
    assert heard == {"sr_e": 0.33333, "sr_e_ceiling": 0.33333, "sr_e_sentences": 3}  # snow, rain, and a clear sky
    video[1] = 0
    assert words(replace(spoken, video=video), SeesSnowUnlessBlack(), question)["sr_e"] == 0.0
    assert words(session, SeesSnowUnlessBlack(), question)["sr_e"] is None


def test_where_players_are_is_asked_before_the_first_sentence_changes_the_light(session):
    spoken = replace(session, sentences=(TextEvent(40, 0, "Make it night."),))
    before = spoken.before_words()
    assert before.video.shape[1] == before.actions.shape[1] == len(before.facts["visible"]) == 40
    assert session.before_words() is session
