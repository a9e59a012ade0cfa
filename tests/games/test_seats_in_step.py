import json

import numpy as np
import pytest

from gamegen_x.games.record import SeatVideo, VideoSettings
from gamegen_x.games.seats_in_step import OUT_OF_STEP, main, measure
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.trace import Trace

NUM_FRAMES, SIZE, FPS = 24, 64, 24.0
VIDEO = VideoSettings(codec="libx264", pixel_format="yuv420p", crf=12, preset="veryfast", keyframe_every=24)
EAST, WEST = 0.0, 180.0


def save(folder, state, camera, pictures):
    """A trace of two players in which nobody presses a key; `pictures` is "p t h w 3"."""
    trace = Trace(
        folder=folder,
        game="made_up",
        seed=0,
        fps=FPS,
        action_space=ActionSpace("made_up", ("w",)),
        players=("one", "two"),
        actions=np.zeros((NUM_FRAMES, 2, 1), np.uint8),
        state=state,
        camera=camera,
    )
    trace.save()
    for seat, frames in enumerate(pictures):
        video = SeatVideo(trace.video_path(seat), SIZE, SIZE, FPS, VIDEO)
        for frame in frames:
            video.write(frame)
        video.finish()


def duel():
    """Two who face each other, 100 apart, and walk north together: each sees the other in the middle of its picture."""
    position = np.zeros((NUM_FRAMES, 2, 3), np.float32)
    position[:, 1, 0], position[:, :, 1] = 100, 8 * np.arange(NUM_FRAMES)[:, None]
    return {
        "position": position,
        "seen_position": np.repeat(position[:, None], 2, axis=1),
        "health": np.full((NUM_FRAMES, 2), 100),
        "angle": np.tile([EAST, WEST], (NUM_FRAMES, 1)),
        "visible": np.tile(~np.eye(2, dtype=bool), (NUM_FRAMES, 1, 1)),
        "screen_xy": np.full((NUM_FRAMES, 2, 2, 2), SIZE / 2, np.float32),
    }


def noise():
    return np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, SIZE, SIZE, 3), np.uint8)


def measured_duel(folder, state):
    save(folder / "made_up-000000", state, "first_person", [noise(), noise()])
    return measure(folder)


def test_seats_in_step_fit_the_same_frame_and_no_other(tmp_path):
    figures = measured_duel(tmp_path, duel())
    assert (figures["traces"], figures["frames"], figures["minutes"]) == (1, NUM_FRAMES, round(1 / 60, 2))
    assert figures["places_compared"] == 2 * NUM_FRAMES
    assert (figures["in_step_share"], figures["largest_distance"]) == (1, 0)
    assert figures["share_that_fits_a_frame_earlier"] == figures["share_that_fits_a_frame_later"] == 0
    assert main([str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("lag", "fitting", "other"),
    [
        (1, "share_that_fits_a_frame_earlier", "share_that_fits_a_frame_later"),
        (-1, "share_that_fits_a_frame_later", "share_that_fits_a_frame_earlier"),
    ],
)
def test_an_engine_that_is_a_frame_off_is_found(tmp_path, lag, fitting, other):
    state = duel()
    state["seen_position"][:, 0] = np.roll(state["seen_position"][:, 0], lag, axis=0)
    figures = measured_duel(tmp_path, state)
    assert figures["in_step_share"] == 0.5
    assert figures["largest_distance"] >= 8
    assert (figures[fitting], figures[other]) == (0.5, 0)
    assert main([str(tmp_path)]) == OUT_OF_STEP


def test_a_missing_player_is_out_of_step_and_a_dead_one_is_not_asked_for(tmp_path):
    state = duel()
    state["seen_position"][:12, 0, 1] = np.nan
    state["health"][:6, 1] = 0
    figures = measured_duel(tmp_path, state)
    assert figures["places_compared"] == 2 * NUM_FRAMES - 6
    assert figures["in_step_share"] == pytest.approx(1 - 6 / (2 * NUM_FRAMES - 6))


def test_the_pixel_of_another_follows_from_where_both_stand(tmp_path):
    state = duel()
    state["angle"][:, 0] += 30  # turns to the left: the other is on the right
    right = SIZE / 2 * (1 + np.tan(np.radians(30)))
    state["screen_xy"][:, 0, 1, 0] = right
    figures = measured_duel(tmp_path, state)
    assert figures["pictures_of_another"] == 2 * NUM_FRAMES
    assert figures["pixels_off_90_percent"] == pytest.approx(0, abs=1e-4)
    state["screen_xy"][:, 0, 1, 0] = SIZE - right
    figures = measured_duel(tmp_path, state)
    assert figures["pixels_off_90_percent"] == pytest.approx(2 * right - SIZE, abs=1e-4)


def test_seats_of_a_shared_screen_must_show_the_same_pictures(tmp_path, capsys):
    pictures = noise()
    save(tmp_path / "same" / "made_up-000000", {}, "shared_screen", [pictures, pictures])
    assert main([str(tmp_path / "same")]) == 0
    assert json.loads(capsys.readouterr().out)["in_step_share"] == 1
    late = np.concatenate([pictures[:1], pictures[:-1]])
    save(tmp_path / "late" / "made_up-000000", {}, "shared_screen", [pictures, late])
    assert measure(tmp_path / "late")["in_step_share"] <= 1 / NUM_FRAMES


def test_traces_that_tell_nothing_are_refused_with_what_is_missing(tmp_path, capsys):
    assert main([str(tmp_path)]) == main([]) == 2
    save(tmp_path / "made_up-000000", {}, "overhead", [noise(), noise()])
    with pytest.raises(ValueError, match="hold no seen_position and share no screen"):
        measure(tmp_path)
    assert "holds none" in capsys.readouterr().err
