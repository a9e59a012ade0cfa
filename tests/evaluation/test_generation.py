from dataclasses import replace

import numpy as np
import pytest
import torch
from moving_picture import COMMANDS, KEYS

from gamegen_x.evaluation.commands import Commands
from gamegen_x.evaluation.generation import Generation, Telling
from gamegen_x.evaluation.recordings import Recording
from gamegen_x.models.coding import Coding
from gamegen_x.sampling.clip_sampler import SampleRequest


class Echo:
    """Shows the first key of every frame as grey, after the context."""

    def __init__(self) -> None:
        self.requests: list[SampleRequest] = []

    def sample(self, request: SampleRequest, on_progress) -> torch.Tensor:
        self.requests.append(request)
        on_progress(1, 2)
        video = request.actions[..., :1, None, None].expand(-1, -1, -1, 3, 8, 8).clone()
        video[:, :, : request.context.shape[2]] = request.context
        return video


def generation(**changes) -> Generation:
    settings = {"num_clips": 7, "context_frames": 8, "block_frames": 4, "batch_size": 3, "prompt": None, "seed": 5}
    return Generation(**{**settings, **changes}, seconds_between_lines=1000.0)


def recordings(count: int) -> list[Recording]:
    video = torch.randint(256, (1, 20, 3, 8, 8), dtype=torch.uint8)
    actions = torch.ones(1, 20, 4, dtype=torch.uint8)
    return [
        Recording(f"r{number}", f"caption {number}", video, actions, {}, {}, (), KEYS, 24.0) for number in range(count)
    ]


def test_every_recording_is_used_before_any_is_used_again():
    beginnings = generation().beginnings(recordings(4))
    assert len({beginning.recording.key for beginning in beginnings[:4]}) == 4
    assert all(0 <= beginning.start <= 12 for beginning in beginnings)


def test_a_clip_is_real_context_then_one_block_for_each_command():
    commands, sampler, some = Commands(COMMANDS, KEYS), Echo(), generation()
    beginnings = some.beginnings(recordings(4))
    drawn = commands.draw(7, 1, 3, seed=0)
    play = some.play("", sampler, beginnings, commands, drawn, [()] * 7, use_instructnet=True)
    assert play.video.shape == (7, 1, 8 + 3 * 4, 3, 8, 8)
    assert torch.equal(play.video[2, :, :8], beginnings[2].context(8))
    assert torch.equal(commands.numbers_of(play.actions[:, :, 8::4].to(torch.uint8)), drawn)
    assert (play.actions[:, :, :8] == 1).all()  # the recording's own keys belong to the context
    assert [len(request.prompts) for request in sampler.requests] == [3, 3, 1]
    assert sampler.requests[0].prompts[0] == beginnings[0].recording.caption


class Counting:
    """A world whose one fact is how often the first key acted; its drawing is that number."""

    def __init__(self, count=0):
        self.count, self.num_players = count, 1

    def follow(self, facts, held):
        return Counting(int(facts["count"][-1]))

    def after(self, held):
        return Counting(self.count + int(held[0, 0]))

    def told(self, text):
        return self

    def facts(self):
        return {"count": np.array(self.count)}


def test_a_model_is_told_what_was_true_and_what_the_fresh_keys_make_of_it():
    commands, sampler, some = Commands(COMMANDS, KEYS), Echo(), generation()
    counted = {"count": np.arange(20)}
    beginnings = some.beginnings([replace(each, state=counted) for each in recordings(4)])
    drawn = commands.draw(7, 1, 3, seed=0)
    telling = Telling(
        Counting(),
        lambda facts: (torch.from_numpy(facts["count"]).float()[None, :, None, None, None], None),
        Coding(temporal_factor=4, chunk_frames=None),
    )
    some.play("", sampler, beginnings, commands, drawn, [()] * 7, use_instructnet=True, telling=telling)
    request, start = sampler.requests[0], beginnings[0].start
    expected = torch.arange(start, start + 8).tolist()
    for held in request.actions[0, 0, 8:, 0].tolist():
        expected.append(expected[-1] + int(held))
    assert request.state[0, 0, :, 0, 0, 0].tolist() == expected
    assert request.near is None
    views = [replace(each, state=None) for each in recordings(4)]
    with pytest.raises(ValueError, match="one view of several, and dynamics step what all players do"):
        some.play("", sampler, some.beginnings(views), commands, drawn, [()] * 7, use_instructnet=True, telling=telling)


class Walking:
    """Dynamics in which each player's place is the sum of its own first key."""

    def __init__(self, places=None) -> None:
        self.places = places

    @property
    def num_players(self) -> int:
        return len(self.places)

    def follow(self, facts, held):
        return Walking(facts["place"][-1])

    def after(self, held):
        return Walking(self.places + held[:, 0])

    def told(self, text):
        return self

    def facts(self):
        return {"place": self.places}


def test_each_of_two_players_moves_what_is_told_by_keys_of_its_own():
    commands, sampler, some = Commands(COMMANDS, KEYS), Echo(), generation()
    places = np.arange(20)[:, None] * [1, 10]
    pairs = [
        replace(
            each,
            state={"place": places},
            video=each.video.expand(2, -1, -1, -1, -1),
            actions=each.actions.repeat(2, 1, 1),
        )
        for each in recordings(4)
    ]
    telling = Telling(
        Walking(),
        lambda facts: (torch.from_numpy(facts["place"].T.copy()).float()[:, :, None, None, None], None),
        Coding(temporal_factor=4, chunk_frames=None),
    )
    beginnings, drawn = some.beginnings(pairs), commands.draw(7, 2, 3, seed=0)
    some.play("", sampler, beginnings, commands, drawn, [()] * 7, use_instructnet=True, telling=telling)
    request, start = sampler.requests[0], beginnings[0].start
    assert not torch.equal(request.actions[0, 0], request.actions[0, 1])
    for player in range(2):
        expected = places[start : start + 8, player].tolist()
        for held in request.actions[0, player, 8:, 0].tolist():
            expected.append(expected[-1] + int(held))
        assert request.state[0, player, :, 0, 0, 0].tolist() == expected


def test_a_given_prompt_replaces_every_caption():
    commands, sampler, some = Commands(COMMANDS, KEYS), Echo(), generation(prompt="")
    beginnings = some.beginnings(recordings(4))
    some.play("", sampler, beginnings, commands, commands.draw(7, 1, 1, 0), [()] * 7, use_instructnet=False)
    assert set(sampler.requests[0].prompts) == {""}
    assert not sampler.requests[0].use_instructnet


def test_a_context_that_ends_within_a_block_is_refused():
    with pytest.raises(ValueError, match="one block of 4 frames or several whole ones, got 6"):
        generation(context_frames=6)
