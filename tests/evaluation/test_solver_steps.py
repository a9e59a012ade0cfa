import pytest
import torch
from moving_picture import PerfectModel, write_shards
from suites import CONTEXT, small_vae, suite

from gamegen_x.evaluation.recordings import read_recordings
from gamegen_x.evaluation.solver_steps import SolverSteps


class StillModel:
    def sample(self, request, on_progress):
        last = request.context[:, :, -1:].expand(-1, -1, request.num_frames - request.context.shape[2], -1, -1, -1)
        return torch.cat([request.context, last], dim=2)


class Model(PerfectModel):
    """Perfect with many steps; with one it stands still."""

    def with_solver(self, solver, num_steps):
        assert solver == "euler"
        return self if num_steps > 1 else StillModel()


def test_each_choice_is_judged_by_itself_beside_the_ceiling_and_the_repeated_frame(tmp_path):
    torch.set_num_threads(1)
    write_shards(tmp_path / "shards", 40, 12, {"train": 0, "val": 1000})
    recordings = read_recordings(
        tmp_path / "shards", num_players=1, min_frames=48, max_train_clips=99, max_val_clips=99, max_damaged_share=0.0
    )
    questions = {"steps": SolverSteps(choices={"euler": [1, 4]}, num_blocks=4)}
    result = suite(tmp_path / "judges", questions=questions, headlines=[]).run(
        checkpoint="stand-in",
        vae=small_vae(),
        sampler=Model(recordings.val, CONTEXT),
        recordings=recordings,
        device=torch.device("cpu"),
    )
    still, moving = (result.figures["solver_steps"][name] for name in ("euler, 1 step", "euler, 4 steps"))
    assert moving["sr_c"] > still["sr_c"] + 0.5
    assert still["psnr_db"] == pytest.approx(result.figures["first_block_repeated_db"], abs=0.01)
    assert moving["psnr_db"] > still["psnr_db"] + 5
    assert moving["frames_per_second"] > 0
