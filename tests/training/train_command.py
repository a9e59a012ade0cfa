"""Runs train.py as users do: in a process of its own, at a size that takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = [
    "logger=csv",
    "precision=fp32",
    "threads=1",
    "data.dataset.height=16",
    "data.dataset.width=16",
    "data.dataset.num_frames=16",
    "data.dataset.num_clips={train: 16, val: 4}",
    "data.num_frames=8",
    "data.batch_size=2",
    "vae.stages=[{factor: [4, 2, 2], channels: 8, encoder_blocks: 1, decoder_blocks: 1, temporal_kernel: 1, "
    "resample: shuffle}, {factor: [1, 4, 4], channels: 16, encoder_blocks: 1, decoder_blocks: 1, temporal_kernel: 2, "
    "resample: shuffle}]",
    "vae.latent_channels=4",
    "msdit.dim=32",
    "msdit.num_heads=1",
    "msdit.num_pairs=2",
    "instructnet.num_blocks=2",
    "text_encoder.dim=16",
    "text_encoder.feed_forward=16",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=1",
    "callbacks.preview=null",
]
WITHOUT_WEIGHTS = ["data.content=frames", "task.latent_scale=1.0", "task.latent_shift=0.0"]


def command(output: Path, cache: Path, *overrides: str) -> list[str]:
    places = [f"output={output}", f"data.dataset.cache_folder={cache}"]
    return [sys.executable, str(ROOT / "train.py"), *SMALLEST, *places, *overrides]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def train(output: Path, cache: Path, *overrides: str) -> str:
    """Trains to the end; gives what was said. Raises with it if the command failed."""
    done = subprocess.run(
        command(output, cache, *overrides), cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr
