"""Solvers and numbers of steps are compared on what they obey and foresee."""

import pytest
from moving_picture import PerfectModel, StillModel
from suites import CONTEXT, examine

from gamegen_x.evaluation.solver_steps import SolverSteps


class NeedsSteps(PerfectModel):
    """Perfect with many steps; with one it stands still."""

    def with_solver(self, solver, num_steps):
        assert solver == "euler"
        if num_steps > 1:
            return self
        return StillModel([], self.context_frames)


def test_each_choice_of_steps_is_judged_beside_the_ceiling_and_the_repeated_frame(recordings, judges):
    questions = {"steps": SolverSteps(choices={"euler": [1, 4]}, num_blocks=4)}
    figures = examine(
        recordings, judges, NeedsSteps(recordings.val, CONTEXT), questions=questions, headlines=[]
    ).figures
    still, moving = (figures["solver_steps"][name] for name in ("euler, 1 step", "euler, 4 steps"))
    assert moving["sr_c"] > still["sr_c"] + 0.5
    assert still["psnr_db"] == pytest.approx(figures["first_block_repeated_db"], abs=0.01)
    assert moving["psnr_db"] > still["psnr_db"] + 5
    assert moving["frames_per_second"] > 0
