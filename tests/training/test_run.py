"""Whole runs through the real entry points, in seconds."""

import re
import shutil
from unittest.mock import Mock

import av
import lightning as L
import pytest
import torch

from gamegen_x.config import build
from gamegen_x.models.weights import load_network
from gamegen_x.sampling.networks import Networks
from gamegen_x.schema.weights_folder import read_config
from gamegen_x.training.export import load_trained, trained_weights
from gamegen_x.training.metrics_file import read_metrics
from gamegen_x.training.progress import Progress
from gamegen_x.training.run import fill_task, run
from gamegen_x.training.task import Task, TrainingDiverged
from tests.training.small_run import configure

PREVIEW = [
    "callbacks.preview={_target_: gamegen_x.training.preview.Preview, folder: '${output}/videos', "
    "every_n_validations: 1, num_clips: 2, num_context_frames: 4, crf: 18, sampler: '${sampler}', seed: 0}",
    "sampler.window=2",
]
SHORT = ["steps=4", "trainer.val_check_interval=2", "callbacks.checkpoints.every_n_steps=2", *PREVIEW]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def train(folder, stage, *overrides):
    cfg = configure(folder, f"task={stage}", f"output={folder / stage}", *SHORT, *overrides)
    return cfg, run(cfg, "the command")


@pytest.fixture(scope="module")
def vae(folder):
    critic = [
        "task.critic={_target_: gamegen_x.models.discriminator.VideoCritic, frames: 4, channels: 8, num_levels: 2}"
    ]
    look = ["task.perceptual={_target_: gamegen_x.training.vae_losses.GradientDistance, num_scales: 2}"]
    weights = [
        "task.critic_weight=0.01",
        "task.critic_from_step=2",
        "task.perceptual_weight=0.1",
        "task.detail_strength=1.0",
    ]
    return train(folder, "vae", *critic, *look, *weights)


@pytest.fixture(scope="module")
def pretrain(folder, vae):
    return train(folder, "pretrain", f"weights={vae[1]}")


@pytest.fixture(scope="module")
def instruct(folder, pretrain):
    prompts = ["data.video_prompts={edges: 0.5}", "data.cache_video_prompts=true"]
    return train(folder, "instruct", f"weights={pretrain[1]}", "task.unfreeze=last_1", *prompts)


def test_the_autoencoder_leaves_metrics_videos_and_weights(folder, vae):
    rows = read_metrics(folder / "vae" / "metrics.csv")
    assert [row["step"] for row in rows] == ["1", "2", "2", "3", "4", "4"]
    assert all(float(row["train/loss"]) > 0 for row in rows if row["train/loss"])
    assert float(rows[-1]["val/psnr_db"]) > 0
    assert [bool(row["train/critic"]) for row in rows if row["train/loss"]] == [False, False, True, True]
    with av.open(str(folder / "vae" / "videos" / "step-00000004.mp4")) as video:
        assert video.streams.video[0].frames == 8
    assert read_config(vae[1])["networks"].keys() == {"vae"}
    load_network(vae[1], "vae")


def test_latents_have_unit_size_under_the_exported_scale(vae, pretrain):
    cfg, weights = vae
    data = build(cfg.data)
    data.prepare_data()
    data.setup()
    batch = next(iter(data.val_dataloader()))
    described = read_config(weights)
    mean = load_network(weights, "vae").encode(batch.video.flatten(0, 1)).mean
    normal = (mean - described["latent_shift"]) * described["latent_scale"]
    assert 0.3 < normal.std() < 3
    assert pretrain[0].task.latent_scale == described["latent_scale"]


def test_every_stage_adds_its_networks_and_keeps_those_before(vae, pretrain, instruct):
    networks = Networks.load(instruct[1])
    assert networks.model.instructnet is not None
    for name, earlier in (("vae", vae[1]), ("text_encoder", pretrain[1])):
        before, after = load_network(earlier, name).state_dict(), load_network(instruct[1], name).state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_unfreezing_the_last_block_moves_it_and_nothing_before(pretrain, instruct):
    before, after = (load_network(weights, "msdit").state_dict() for weights in (pretrain[1], instruct[1]))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith(("blocks.3.", "last")) for name in moved)


def test_an_exported_checkpoint_is_what_the_run_itself_exported(folder, instruct):
    cfg, weights = instruct
    task = build(cfg.task)
    fill_task(task, cfg.weights)
    trained, step = trained_weights(folder / "instruct" / "checkpoints" / "step-00000004")
    assert step == 4
    load_trained(task, trained)
    for name, network in task.networks().items():
        exported = load_network(weights, name).state_dict()
        assert all(torch.equal(value, exported[key]) for key, value in network.state_dict().items()), name


def test_checkpoints_hold_no_frozen_weights(folder, instruct):
    stored = torch.load(folder / "instruct" / "checkpoints" / "step-00000004", weights_only=True)
    assert all(
        name.startswith(("model.instructnet.", "model.msdit.blocks.3.", "model.msdit.last"))
        for name in stored["state_dict"]
    )


def test_a_loss_that_is_no_number_stops_before_the_update_and_names_the_records(tmp_path, monkeypatch):
    from gamegen_x.training import vae_task

    whole = vae_task.VAETask.losses

    def poisoned(self, batch, moment):
        losses = whole(self, batch, moment)
        if self.training and moment.micro_batch == 2:
            losses["loss"] = losses["loss"] * torch.nan
        return losses

    monkeypatch.setattr(vae_task.VAETask, "losses", poisoned)
    cfg = configure(
        tmp_path, "task=vae", "steps=8", "callbacks.checkpoints.every_n_steps=1", "trainer.val_check_interval=100"
    )
    with pytest.raises(TrainingDiverged, match=r"at step 3 the loss is nan.*synthetic-0000.*resume=true"):
        run(cfg, "the command")
    stored = torch.load(tmp_path / "run" / "checkpoints" / "step-00000002", weights_only=True)
    assert all(value.isfinite().all() for value in stored["state_dict"].values())
    assert not (tmp_path / "run" / "checkpoints" / "step-00000003").exists()


def test_frozen_networks_stay_in_eval_mode_while_instructnet_trains(folder, pretrain, monkeypatch):
    cfg = configure(folder, "task=instruct", f"output={folder / 'modes'}", *SHORT[:3], f"weights={pretrain[1]}")
    modes = {}
    whole = Task.training_step

    def look(self, batch, batch_idx):
        modes.update({name: network.training for name, network in self.networks().items()})
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", look)
    run(cfg, "the command")
    assert modes == {"vae": False, "text_encoder": False, "msdit": False, "instructnet": True}


def test_a_resume_that_is_refused_leaves_the_run_as_it_was(folder, pretrain, tmp_path):
    run_folder = tmp_path / "copy"
    shutil.copytree(folder / "pretrain", run_folder)
    before = {name: (run_folder / name).read_text() for name in ("config.yaml", "metrics.csv", "facts.json")}
    written_at = (run_folder / "facts.json").stat().st_mtime_ns
    overrides = [f"output={run_folder}", f"weights={folder / 'vae' / 'weights'}", "resume=true", "msdit.dim=48"]
    cfg = configure(folder, "task=pretrain", *SHORT, *overrides)
    with pytest.raises((ValueError, RuntimeError), match="made with other settings"):
        run(cfg, "the command")
    assert {name: (run_folder / name).read_text() for name in before} == before
    assert (run_folder / "facts.json").stat().st_mtime_ns == written_at


def test_a_run_without_an_end_shows_its_steps_and_no_time_left(capsys):
    progress = Progress(every_seconds=0.0, smoothing=0.5)
    trainer = Mock(L.Trainer, global_step=0, is_global_zero=True, estimated_stepping_batches=float("inf"))
    module = Mock(L.LightningModule)
    progress.on_train_start(trainer, module)
    trainer.global_step = 3
    progress.on_train_batch_end(trainer, module, None)
    assert re.fullmatch(r"step 3  [\d.]+ steps/s\n", capsys.readouterr().err)


def test_what_made_the_weights_stands_beside_them(instruct):
    described = read_config(instruct[1])
    assert described["made_by"]["command"] == "the command"
    assert described["made_by"]["step"] == 4
    assert described["kind"] == "causal"
    assert described["sentences"] == ["Make it night."]  # the only one in these recordings
    assert "| instructnet |" in (instruct[1] / "README.md").read_text()
