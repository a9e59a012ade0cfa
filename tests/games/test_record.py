import errno
import hashlib
import json

import av
import numpy as np
import pytest
from snowglobes import recording

from gamegen_x.config import build
from gamegen_x.games import record as recorder
from gamegen_x.games.door import Game, agent_names
from gamegen_x.games.record import Episode, record, record_episode
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.trace import Trace


def settings(output, *overrides):
    return recording(
        "game=snowglobe",
        f"output={output}",
        "num_episodes=2",
        "num_frames=24",
        "workers=1",
        "player_key=secret",
        *overrides,
    )


def decoded(path):
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.*")
    }


def test_a_recording_can_be_read_and_shows_the_world_after_the_keys_of_its_row(tmp_path):
    figures = record(settings(tmp_path, "num_episodes=1", "num_frames=240", "split=val"))
    assert figures["frames"] == 240
    (folder,) = [path.parent for path in tmp_path.glob("*/trace.json")]
    trace = Trace.load(folder)
    assert (trace.game, trace.num_frames, trace.num_players, trace.fps) == ("snowglobe", 240, 2, 24)
    game = build(settings(tmp_path).game)
    game.reset(seed=trace.seed, options={"split": "val"})
    said = {event.frame: event.text for event in trace.text_events}
    assert said
    replayed = []
    for frame, held in enumerate(trace.actions):
        if frame in said:
            game.instruct(said[frame])
        views, *_ = game.step(dict(zip(game.agents, held, strict=True)))
        replayed.append(list(views.values()))
        for name, fact in game.facts_now().items():
            np.testing.assert_array_equal(trace.state[name][frame], fact, err_msg=name)
    for seat in range(2):
        video, truth = decoded(trace.video_path(seat)).astype(float), np.stack([views[seat] for views in replayed])
        assert len(video) == 240
        error = ((video - truth) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 32
        assert ((video[1:] - truth[:-1]) ** 2).mean() > 2 * error


def test_a_second_run_makes_only_what_is_missing_or_half_done(tmp_path):
    record(settings(tmp_path))
    whole = contents(tmp_path)
    (tmp_path / "snowglobe-000001").rename(tmp_path / ".snowglobe-000001.partial")
    (tmp_path / ".snowglobe-000001.partial" / "trace.json").unlink()
    kept = (tmp_path / "snowglobe-000000" / "trace.json").stat().st_mtime_ns
    figures = record(settings(tmp_path))
    assert (figures["episodes"], figures["episodes_found"]) == (1, 1)
    assert contents(tmp_path) == whole
    assert (tmp_path / "snowglobe-000000" / "trace.json").stat().st_mtime_ns == kept
    assert record(settings(tmp_path, "num_episodes=3"))["episodes"] == 1


@pytest.mark.slow
def test_several_workers_record_what_one_does(tmp_path):
    record(settings(tmp_path / "one"))
    record(settings(tmp_path / "two", "workers=2"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_traces_of_other_settings_are_never_mixed(tmp_path):
    record(settings(tmp_path))
    with pytest.raises(ValueError, match=r"other settings of \['num_frames'\].*name another output"):
        record(settings(tmp_path, "num_frames=28"))


def test_an_odd_size_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="even sizes, got height=33 and width=64"):
        record(settings(tmp_path / "new", "game.height=33"))
    assert not (tmp_path / "new").exists()


class FullDisk(Game):
    """Breaks after some frames, as a full disk or a crash would."""

    metadata = {"name": "full_disk", "render_modes": []}  # noqa: RUF012

    def __init__(self):
        self.keys, self.num_players, self.fps = ActionSpace("one", ("w",)), 1, 30.0
        self.height = self.width = 16
        self.camera = self.licence = self.attribution = ""
        self.possible_agents = self.agents = agent_names(1)
        self.frames_left = 9

    def reset(self, seed=None, options=None):
        return {"player_0": np.zeros((16, 16, 3), np.uint8)}, {}

    def step(self, actions):
        self.frames_left -= 1
        if self.frames_left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return ({"player_0": np.full((16, 16, 3), 9 * self.frames_left, np.uint8)},)

    def facts_now(self):
        return {}


def bots():
    mix = build(recording("game=snowglobe").bots)
    habit = type(mix.habits["random_holds"])(common=["w", "_"], rare=[], rare_share=0.0, blocks=[1])
    return type(mix)({"press": habit}, {"press": 1.0}, block_frames=4)


def episode(folder, num_frames):
    plain = {"num_frames": num_frames, "split": "train"}
    cfg = settings(folder)
    return Episode(folder, 1, b"key", {**plain, "text_events": dict(cfg.text_events), "video": dict(cfg.video)})


def test_a_full_disk_leaves_nothing_half_done(tmp_path):
    with pytest.raises(OSError, match="No space"):
        record_episode(FullDisk(), bots(), episode(tmp_path / "trace", 20))
    assert list(tmp_path.iterdir()) == []


def test_any_game_without_facts_or_words_can_be_recorded(tmp_path):
    trace = record_episode(FullDisk(), bots(), episode(tmp_path / "trace", 8))
    loaded = Trace.load(trace.folder)
    assert loaded.num_frames == len(decoded(loaded.video_path(0))) == 8
    assert loaded.text_events == ()
    assert loaded.fps == 30


def test_sentences_come_every_few_seconds_on_the_grid_of_latent_frames():
    pace = {"min_seconds": 5, "max_seconds": 10, "align_frames": 4}
    moments = list(recorder._text_moments(np.random.default_rng(0), 24.0, 24 * 600, pace))
    waits = np.diff([0, *moments]) / 24
    assert all(moment % 4 == 0 for moment in moments)
    assert waits.min() >= 5 - 0.2
    assert waits.max() <= 10 + 0.2
    assert moments[-1] < 24 * 600


def test_identities_are_hashes_that_only_the_key_can_repeat(tmp_path):
    ids = {}
    for name, key in (("a", "secret"), ("b", "secret"), ("c", "other"), ("d", "null"), ("e", "null")):
        record(settings(tmp_path / name, "num_episodes=1", "num_frames=4", f"player_key={key}"))
        ids[name] = Trace.load(tmp_path / name / "snowglobe-000000").players
        assert all(len(player) == 16 and int(player, 16) >= 0 for player in ids[name])
    assert ids["a"] == ids["b"]
    assert len(set(ids.values())) == 4
    assert "secret" not in (tmp_path / "a" / "recording.json").read_text()


def test_progress_and_figures_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["record", "game=snowglobe", f"output={tmp_path}", "num_episodes=1", "num_frames=4", "workers=1"]
    )
    recorder.main()
    said = capsys.readouterr()
    figures = json.loads(said.out.splitlines()[-1])
    assert figures["frames"] == 4
    assert {"frames_per_second", "seconds_total"} <= set(figures)
    assert "recorded 1/1 traces" in said.err
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
