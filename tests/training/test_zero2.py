"""DeepSpeed's ZeRO stage 2, for real: two processes of one machine over gloo, against plain DDP."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from gamegen_x.models.weights import load_network
from gamegen_x.training.metrics_file import read_metrics
from tests.training.train_command import ROOT, WITHOUT_WEIGHTS, environment, train

STEPS = 20
RUN = [
    "task=pretrain",
    "optimizer=adamw",
    f"steps={STEPS}",
    "trainer.val_check_interval=20",
    "callbacks.checkpoints.every_n_steps=10",
    # Gradients that are divided twice by the accumulated batches are half as long, and escape clipping.
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=0.3",
    *WITHOUT_WEIGHTS,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("zero2")


@pytest.fixture(scope="module")
def plain(folder):
    train(folder / "ddp", folder / "cache", *RUN, "trainer=ddp_cpu")
    return folder / "ddp"


@pytest.fixture(scope="module")
def zero(folder, plain):
    train(folder / "zero", folder / "cache", *RUN, "trainer=deepspeed_zero2_cpu")
    return folder / "zero"


def series(run, name="train/loss"):
    return {int(row["step"]): float(row[name]) for row in read_metrics(run / "metrics.csv") if row[name]}


def test_zero2_losses_equal_those_of_plain_ddp_with_accumulation_and_clipping(plain, zero):
    ours, theirs = series(zero), series(plain)
    assert list(ours) == list(range(1, STEPS + 1))
    worst = max(abs(ours[step] - theirs[step]) for step in ours)
    print(f"largest difference of {STEPS} losses: {worst:.2e}")
    assert worst <= 1e-4
    ours, theirs = (series(run, "train/gradient_norm") for run in (zero, plain))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_zero2_gives_each_process_half_of_the_optimizers_state(zero):
    shards = sorted(zero.glob(f"checkpoints/step-{STEPS:08d}/checkpoint/zero_pp_rank_*_optim_states.pt"))
    assert len(shards) == 2
    held = []
    for shard in shards:
        stored = torch.load(shard, weights_only=False)["optimizer_state_dict"]["base_optimizer_state"]["state"]
        held.append(sum(state["exp_avg"].numel() for state in stored.values()))
    whole = sum(
        value.numel()
        for name in ("msdit", "text_encoder")
        for value in load_network(zero / "weights", name).parameters()
    )
    for count in held:
        assert count == pytest.approx(whole / 2, rel=0.01)


def test_zero2_resumes_bit_for_bit(folder, zero):
    again = folder / "again"
    shutil.copytree(zero, again)
    shutil.rmtree(again / f"checkpoints/step-{STEPS:08d}")
    (again / f"checkpoints/step-{STEPS:08d}.json").unlink()
    said = train(again, folder / "cache", *RUN, "trainer=deepspeed_zero2_cpu", "resume=true")
    assert "from step 10" in said
    assert read_metrics(again / "metrics.csv") == read_metrics(zero / "metrics.csv")


def test_zero2_checkpoints_are_consolidated_by_export(folder, zero):
    subprocess.run(
        [
            *(sys.executable, "-m", "gamegen_x.training.export"),
            *(f"checkpoint={zero}/checkpoints/step-{STEPS:08d}", f"output={folder}/exported"),
        ],
        cwd=ROOT,
        env=environment(),
        check=True,
        capture_output=True,
    )
    for name in ("vae", "text_encoder", "msdit"):
        load_network(folder / "exported", name)
        ours, theirs = (load_file(where / f"{name}.safetensors") for where in (folder / "exported", zero / "weights"))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
