"""The properties that make the figures worth reading: a perfect model scores the ceiling, a deaf one scores chance."""

import json
import math

import pytest
import torch
from moving_picture import DeafModel, PerfectModel, StillModel
from suites import CONTEXT, examine, suite

from gamegen_x.evaluation.drift import Drift
from gamegen_x.evaluation.video_quality import VideoQuality
from gamegen_x.evaluation.view_consistency import ViewConsistency


@pytest.fixture(scope="module")
def perfect(recordings, judges):
    return examine(recordings, judges, PerfectModel(recordings.val, CONTEXT))


@pytest.fixture(scope="module")
def deaf(recordings, judges):
    return examine(recordings, judges, DeafModel(recordings.val, CONTEXT))


def test_the_judge_is_good_on_worlds_it_has_not_seen(perfect):
    assert perfect.figures["ceiling_accuracy"] > 0.9
    assert perfect.figures["sr_e_ceiling"] > 0.95


def test_a_perfect_model_scores_the_ceiling(perfect):
    figures = perfect.figures
    assert figures["sr_c"] > figures["ceiling_accuracy"] - 0.05
    assert min(figures["sr_c_by_third"]) > figures["ceiling_accuracy"] - 0.1
    assert figures["sr_e"] > figures["sr_e_ceiling"] - 0.1
    assert figures["direction_cosine"] > 0.95
    assert figures["direction_cosine_ceiling"] > 0.95


def test_a_deaf_model_scores_chance(deaf):
    figures = deaf.figures
    assert abs(figures["sr_c"] - figures["sr_c_chance"]) < 0.1
    assert figures["sr_c_chance"] == 0.2
    assert figures["sr_e"] < 0.2
    assert abs(figures["direction_cosine"]) < 0.3


def test_a_perfect_model_scores_chance_without_instructnet_and_without_words(perfect):
    assert abs(perfect.figures["sr_c_without_instructnet_above_chance"]) < 0.15
    assert perfect.figures["sr_e_without_instruction"] < 0.2


def test_blocks_and_thirds_add_up_to_the_mean(perfect):
    figures = perfect.figures
    assert len(figures["sr_c_by_block"]) == figures["num_blocks"] == 10
    assert math.isclose(sum(figures["sr_c_by_block"]) / 10, figures["sr_c"], abs_tol=1e-4)
    assert figures["sr_c_block_4"] == figures["sr_c_by_block"][3]


def test_keys_are_drawn_afresh_and_never_copied_from_the_recording(recordings, judges):
    model = DeafModel(recordings.val, CONTEXT)
    examine(recordings, judges, model, questions={"control": suite(judges).questions["control"]})
    played = torch.cat([request.actions for request in model.requests if request.use_instructnet])[:, 0, CONTEXT:]
    generation = suite(judges).generation
    copies = []
    for beginning, keys in zip(generation.beginnings(recordings.val), played, strict=True):
        own = beginning.recording.actions[0, beginning.start + CONTEXT :]
        num_frames = min(len(own), len(keys))
        copies.append(
            (own[:num_frames] == keys[:num_frames]).all(-1).float().mean() if num_frames else torch.tensor(0.2)
        )
    assert torch.stack(copies).mean() < 0.35  # chance is 0.2


def test_the_sentence_changes_nothing_before_it_is_said(recordings, judges):
    model = PerfectModel(recordings.val, CONTEXT)
    examine(recordings, judges, model, questions={"environment": suite(judges).questions["environment"]})
    told = [request for request in model.requests if any(request.instructions)]
    untold = [request for request in model.requests if not any(request.instructions)]
    assert told[0].instructions[0][0].frame == CONTEXT + 2 * 4
    assert torch.equal(told[0].context, untold[0].context)
    num_frames = min(told[0].actions.shape[2], untold[0].actions.shape[2])
    assert torch.equal(told[0].actions[:, :, :num_frames], untold[0].actions[:, :, :num_frames])


def test_weights_that_hold_only_a_vae_are_measured_as_far_as_they_go(recordings, judges):
    figures = examine(recordings, judges, None).figures
    assert "sr_c" not in figures
    assert figures["vae_psnr_db"] > 0


def test_drift_is_measured_against_the_real_beginning(recordings, judges):
    model = PerfectModel(recordings.val, CONTEXT)
    figures = examine(recordings, judges, model, questions={"drift": Drift(num_frames=4)}).figures
    assert figures["drift_sharpness_by_third"] == pytest.approx([1.0] * 3, abs=0.15)
    assert min(figures["drift_weather_kept_by_third"] + figures["drift_time_of_day_kept_by_third"]) > 0.9


def test_video_of_a_perfect_model_is_nearer_to_real_video_than_a_still(recordings, judges):
    perfect, still = (
        examine(
            recordings, judges, model(recordings.val, CONTEXT), questions={"quality": VideoQuality(windows_per_clip=3)}
        ).figures
        for model in (PerfectModel, StillModel)
    )
    assert perfect["fvd_judge_real"] == still["fvd_judge_real"]
    assert perfect["fvd_judge"] < still["fvd_judge"] / 4
    assert perfect["fid_extractor"] == "environment judge"


def test_questions_about_several_players_leave_one_player_alone(recordings, judges):
    model = PerfectModel(recordings.val, CONTEXT)
    figures = examine(recordings, judges, model, questions={"views": ViewConsistency(every_frames=8)}).figures
    assert "view_agreement" not in figures


def test_gates_say_what_was_not_learned(recordings, judges):
    result = examine(
        recordings, judges, None, gates={"vae_psnr_db": 30.0, "sr_c": 0.5}, gates_at_most={"vae_ssim": 1.0}
    )
    assert [reason.split(",")[0].split()[0] for reason in result.not_learned] == ["vae_psnr_db", "sr_c"]
    assert "not measured, wanted ≥ 0.5" in result.not_learned[1]
    assert not result.figures["gates_passed"]
    assert "not learned" in result.html


def test_the_report_needs_no_other_file_and_shows_every_film(perfect, tmp_path):
    path = perfect.write(tmp_path)
    html = path.read_text()
    assert html.count('<video src="data:video/mp4;base64,') == 3
    assert "<svg" in html
    assert "http" not in html.replace("http://www.w3.org", "")
    assert json.loads((tmp_path / "figures.json").read_text()) == perfect.figures
    assert html.count("ceiling") > 3
    assert html.count("chance") > 3


def test_a_suite_that_plays_less_than_it_judges_is_refused(judges):
    with pytest.raises(ValueError, match="num_blocks_without_instructnet <= num_blocks"):
        suite(judges, num_blocks=4)
