"""The control suite at the size of a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from moving_picture import COMMANDS, SENTENCES

from gamegen_x.evaluation.camera_motion import CameraMotion, DirectionCosine
from gamegen_x.evaluation.control_success import ControlSuccess
from gamegen_x.evaluation.degradation import Degradation
from gamegen_x.evaluation.environment_success import EnvironmentSuccess
from gamegen_x.evaluation.generation import Generation
from gamegen_x.evaluation.judge_training import JudgeTraining, Schedule
from gamegen_x.evaluation.reconstruction import Reconstruction
from gamegen_x.evaluation.recordings import Recordings
from gamegen_x.evaluation.suite import Result, Suite
from gamegen_x.models.vae import VideoVAE

CONTEXT = 8


def small_vae() -> VideoVAE:
    torch.manual_seed(0)
    stage = {"encoder_blocks": 1, "decoder_blocks": 1, "temporal_kernel": 1, "resample": "shuffle"}
    return VideoVAE(
        latent_channels=4,
        latent_kernel=2,
        num_groups=2,
        chunk_frames=None,
        min_log_variance=-10.0,
        max_log_variance=4.0,
        stages=[{"factor": [4, 2, 2], "channels": 4, **stage}, {"factor": [1, 2, 2], "channels": 4, **stage}],
    ).eval()


def judge_training(folder: Path, **changes: Any) -> JudgeTraining:
    settings: dict[str, Any] = {
        "folder": str(folder),
        "seed": 0,
        "block_frames": 4,
        "inverse_dynamics": {"channels": [16, 32], "grid": 1, "hidden": 48},
        "inverse_dynamics_schedule": Schedule(180, 10, 32, 6e-3, 1e-4),
        "environment": {"channels": [8, 16]},
        "environment_schedule": Schedule(60, 5, 32, 1e-2, 1e-4),
        "degradation": Degradation(0.5, 0.5, 0.3, 0.05, 0.05, 4),
        "facts": ["weather", "time_of_day", "season"],
        "settle_frames": 2,
        "max_ceiling_blocks": 400,
        "inference_batch_size": 128,
        "seconds_between_lines": 1000.0,
    }
    return JudgeTraining(**{**settings, **changes})


def suite(folder: Path, **changes: Any) -> Suite:
    settings: dict[str, Any] = {
        "name": "control",
        "commands": COMMANDS,
        "num_blocks": 10,
        "num_blocks_without_instructnet": 6,
        "judges": judge_training(folder),
        "generation": Generation(
            num_clips=24,
            context_frames=CONTEXT,
            block_frames=4,
            batch_size=16,
            prompt=None,
            seed=0,
            seconds_between_lines=1000.0,
        ),
        "meetings": None,
        "questions": {
            "reconstruction": Reconstruction(
                num_clips=4, num_frames=16, batch_size=2, num_films=1, seconds_between_lines=1000.0
            ),
            "control": ControlSuccess(num_films=1),
            "environment": EnvironmentSuccess(
                sentences=SENTENCES,
                num_repeats=2,
                blocks_before=2,
                judged_seconds=(0.25, 0.75),
                judged_every_frames=4,
                num_films=1,
            ),
            "direction": DirectionCosine(
                directions={"w": [0.0, -1.0], "a": [-1.0, 0.0], "s": [0.0, 1.0], "d": [1.0, 0.0]},
                camera_motion=CameraMotion(
                    apart_frames=2,
                    max_pixels=3.0,
                    speck_pixels=3,
                    detail_pixels=9,
                    detail_levels=40.0,
                    dip_pixels=5,
                    min_dip=0.02,
                ),
                max_real_blocks=100,
                num_clips=6,
            ),
        },
        "headlines": [{"name": "SR-C", "value": "sr_c", "ceiling": "ceiling_accuracy", "unit": "share"}],
        "gates": {},
        "gates_at_most": {},
        "min_pane_width": 96,
        "crf": 28,
    }
    return Suite(**{**settings, **changes})


def examine(recordings: Recordings, folder: Path, sampler: Any, **changes: Any) -> Result:
    torch.set_num_threads(1)
    return suite(folder, **changes).run(
        checkpoint="stand-in", vae=small_vae(), sampler=sampler, recordings=recordings, device=torch.device("cpu")
    )
