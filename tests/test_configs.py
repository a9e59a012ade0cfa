"""Every experiment composes, stands on the one that it names, and takes one step; the paper's carry its numbers."""

import math
from copy import deepcopy
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from made_shards import write_dataset
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

from gamegen_x.config import CONFIGS, build, check
from gamegen_x.models.weights import load_network
from gamegen_x.schema.weights_folder import read_config
from gamegen_x.training.checks import check_weights
from gamegen_x.training.metrics_file import read_metrics
from gamegen_x.training.run import run

EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
NETWORKS_OF = {
    "vae": {"vae"},
    "decoder": {"vae", "text_encoder", "msdit", "instructnet", "small_decoder"},
    "pretrain": {"vae", "text_encoder", "msdit"},
    "instruct": {"vae", "text_encoder", "msdit", "instructnet"},
    "distill": {"vae", "text_encoder", "msdit", "instructnet"},
    "dynamics": {"vae", "text_encoder", "msdit", "instructnet", "transition"},
}
ONE_STEP = [
    "steps=1",
    "threads=1",
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=1",
    "trainer.limit_val_batches=1",
    "data.num_workers=0",
    "callbacks.progress=null",
    "sampler.num_steps=1",
]
NUM_FRAMES = 24  # of a made-up clip
NARROW = {"dim": 64, "num_heads": 2, "num_pairs": 2}  # what is left of a network that no CPU could train


@cache
def composed(name):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [f"experiment={name}"])


@cache
def trainer_of_a_cpu():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", ["trainer=cpu"]).trainer


def snowglobes_truth():
    """What Snowglobe tells of some frames: networks may be told of it."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        game = build(compose("record", ["game=snowglobe", "output=unused"]).game)
    game.reset(seed=0)
    facts = []
    for _ in range(NUM_FRAMES):
        game.step({agent: np.eye(game.num_keys, dtype=np.uint8)[0] for agent in game.agents})
        facts.append(game.facts_now())
    return {name: np.stack([each[name] for each in facts]) for name in facts[0]}


def stands_on(cfg):
    """The experiment whose weights another one takes over, None for the first stage."""
    return None if cfg.weights is None else Path(cfg.weights).parent.name


def shrunk(name):
    """Sizes, trainer and logs only: task, times, mix, optimizer and schedule stay the experiment's."""
    cfg = deepcopy(composed(name))
    cfg.trainer = trainer_of_a_cpu()
    cfg.logger = {"csv": cfg.logger.csv}
    cfg.merge_with_dotlist(ONE_STEP)
    if cfg.callbacks.preview is not None:
        cfg.callbacks.preview.num_clips = 1
    if cfg.data.buckets is None:
        cfg.data.batch_size = 2
        cfg.data.num_frames = min(cfg.data.num_frames, NUM_FRAMES)
    for bucket in (cfg.data.buckets or {}).values():
        bucket.update(height=32, width=32, num_frames=min(bucket.num_frames, NUM_FRAMES), batch_size=1)
    if cfg.data.height is not None:
        cfg.data.update(height=32, width=32)
    if cfg.msdit.dim > 256:
        cfg.msdit.update(NARROW)
        cfg.instructnet.update(num_blocks=3, keys_dim=16)
    if cfg.stage == "dynamics":
        cfg.transition.update(num_players=2, num_places=2, hidden=16)  # the made-up records are of two players
        cfg.task.update(warm_up_frames=NUM_FRAMES // 2, soon_frames=NUM_FRAMES // 2)
    if max(stage.channels for stage in cfg.vae.stages) > 256:
        cfg.vae.num_groups = 4
        for stage in cfg.vae.stages:
            stage.update(channels=8, encoder_blocks=1, decoder_blocks=1)
    if "critic" in cfg.task and cfg.task.critic is not None:
        cfg.task.critic.channels = 8
        cfg.task.perceptual.weights = None  # random features
    return cfg


class Workshop:
    """Trains each experiment for one step, and before it those that it stands on."""

    def __init__(self, folder):
        self.folder = folder
        self.trained = {}

    def train(self, name):
        """The config that was run, and its weights folder."""
        if name not in self.trained:
            cfg = shrunk(name)
            cfg.output = str(self.folder / name)
            cfg.data.dataset.folder = str(self.shards(cfg))
            if cfg.text_encoder._target_.endswith("PretrainedT5TextEncoder"):
                cfg.text_encoder.update(path=self.t5, dim=32)
            if cfg.weights is not None:
                cfg.weights = str(self.train(stands_on(cfg))[1])
            self.trained[name] = cfg, run(cfg, f"python train.py experiment={name}")
        return self.trained[name]

    def shards(self, cfg):
        """Made-up records of two players, as many as there are buckets to fill."""
        folder = self.folder / Path(cfg.data.dataset.folder).parent.name
        if not folder.is_dir():
            num_clips = 8 if folder.name == "ogamedata" else 2
            truth = {"state": snowglobes_truth()} if folder.name.startswith("snowglobe") else {"has_state": True}
            write_dataset(folder, num_clips, num_frames=NUM_FRAMES, action_space=build(cfg.action_space), **truth)
        return folder

    @cached_property
    def t5(self):
        """A T5 of random weights, in the files that a pretrained one has."""
        folder = str(self.folder / "t5")
        tokenizer = ByT5Tokenizer()
        tokenizer.save_pretrained(folder)
        T5EncoderModel(
            T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)
        ).save_pretrained(folder)
        return folder


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("experiments"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_passes_the_check_and_stands_on_one_of_the_others(name):
    cfg = composed(name)
    check(cfg)
    assert cfg.name == name
    before = stands_on(cfg)
    if cfg.stage == "vae":
        assert before is None
    else:
        earlier = composed(before)
        assert cfg.weights == f"{earlier.output}/weights"
        may_follow = {
            "pretrain": {"vae"},
            "instruct": {"pretrain", "instruct"},
            "distill": {"instruct"},
            "decoder": {"instruct", "distill", "dynamics"},
            "dynamics": {"instruct"},
        }
        assert earlier.stage in may_follow[cfg.stage]
        assert OmegaConf.to_container(earlier.vae, resolve=True) == OmegaConf.to_container(cfg.vae, resolve=True)


def test_paper_text_encoder_is_in_no_weights_folder_and_may_stand_elsewhere(workshop, tmp_path):
    cfg, weights = workshop.train("paper_pretrain")
    assert "text_encoder" in read_config(weights)["networks"]
    assert not (Path(weights) / "text_encoder.safetensors").exists()
    assert load_network(weights, "text_encoder").max_tokens == cfg.text_encoder.max_tokens
    cfg = deepcopy(cfg)
    cfg.text_encoder.path = str(tmp_path)
    check_weights(Path(weights), cfg)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_takes_one_step(name, workshop):
    cfg, weights = workshop.train(name)
    trained, judged = read_metrics(workshop.folder / name / "metrics.csv")
    assert (trained["step"], judged["step"]) == ("1", "1")
    assert math.isfinite(float(trained["train/loss"]))
    assert float(trained["train/gradient_norm"]) > 0
    assert math.isfinite(float(judged["val/loss"]))
    kept = set(read_config(cfg.weights)["networks"]) if cfg.stage in ("decoder", "dynamics") else set()
    assert read_config(weights)["networks"].keys() == NETWORKS_OF[cfg.stage] | kept


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.endswith(("instruct", "unfrozen"))])
def test_the_foundation_moves_in_stage_two_where_the_experiment_says_so_only(name, workshop):
    cfg, weights = workshop.train(name)
    before, after = (load_file(folder / "msdit.safetensors") for folder in (Path(cfg.weights), weights))
    has_moved = any(not torch.equal(before[key], after[key]) for key in before)
    assert has_moved == (cfg.task.unfreeze != "none")


def test_a_latent_frame_may_be_one_video_frame():
    choices = ["experiment=snowglobe_duo_instruct", "vae=tiny_frame", "state.channels=52"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", choices)
    vae, small_decoder, drawer = build(cfg.vae), build(cfg.small_decoder), build(cfg.data.state.drawer)
    assert vae.temporal_factor == build(cfg.instructnet).frames_per_latent == drawer.frames_per_latent == 1
    assert drawer.num_channels == cfg.state.channels
    video = torch.zeros(1, 3, 3, 16, 16)
    latents = vae.encode(video).mean
    assert latents.shape == (1, 3, 8, 2, 2)
    assert vae.with_decoder(small_decoder).decode(latents, 3).shape == video.shape


def test_paper_stage_one_has_the_papers_numbers():
    cfg = composed("paper_pretrain")
    assert (cfg.task.text_drop, cfg.times.extension_share, cfg.trainer.max_epochs) == (0.25, 0.25, 20)
    assert cfg.steps == -1  # epochs decide
    assert cfg.callbacks.ema.decay == 0.9999
    assert cfg.times.base_tokens is not None  # times shift with resolution and length
    shares = {name: bucket.share for name, bucket in cfg.data.buckets.items()}
    assert shares == {
        "1024x1024x102": 0.08, "1024x1024x51": 0.018, "1024x1024x1": 0.02, "480px204": 0.0648, "480px408": 0.18,
        "480px89": 0.0648, "720px102": 0.54, "512x512x51": 0.0324,
    }  # fmt: skip


def test_paper_stage_two_trains_instructnet_alone_on_extension_under_the_papers_mix():
    cfg = composed("paper_instruct")
    assert cfg.task.unfreeze == "none"
    assert (cfg.times.extension_share, list(cfg.times.num_context)) == (1.0, [1])  # the first latent frame
    assert (cfg.data.height, cfg.data.width, cfg.data.num_frames) == (720, 1280, 102)  # four seconds
    assert cfg.task.context_noise > 0
    mix = {tuple(way.controls): way.share for way in cfg.task.mix}
    controlled = 1 - 0.2
    assert mix == pytest.approx(
        {
            (): 0.2,
            ("text", "keys"): 0.3 * controlled,
            ("text",): 0.3 * controlled,
            ("text", "video_prompt"): 0.3 * controlled,
            ("text", "keys", "video_prompt"): 0.1 * controlled,
        }
    )
    prompts = list(cfg.data.video_prompts.values())
    assert len(prompts) == 3
    assert prompts == pytest.approx([1 / 3] * 3, abs=1e-3)  # of the clips that follow one, each kind equally often


@pytest.mark.parametrize("name", ["paper_pretrain", "paper_instruct"])
def test_paper_optimizer_is_adam_at_a_constant_rate_under_zero2_on_24_gpus(name):
    cfg = composed(name)
    optimizer = build(cfg.optimizer)([("weight", torch.nn.Parameter(torch.zeros(2, 2)))])
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(5e-4, 0.0)]
    schedule = build(cfg.schedule)
    assert {schedule(step) for step in (0, 1, 10_000_000)} == {1.0}
    assert cfg.trainer.strategy._target_.endswith("ZeroStrategy")
    assert (cfg.trainer.strategy.stage, cfg.trainer.devices * cfg.trainer.num_nodes) == (2, 24)
    assert (cfg.precision, cfg.trainer.accelerator) == ("bf16", "gpu")


@pytest.mark.parametrize("name", ["paper_pretrain", "paper_instruct"])
def test_paper_text_is_t5_xxl_of_300_tokens_read_once_and_kept(name):
    cfg = composed(name)
    assert (cfg.text_encoder.path, cfg.text_encoder.dim) == ("google/t5-v1_1-xxl", 4096)
    assert cfg.text_encoder.max_tokens == cfg.msdit.max_text_tokens == 300
    assert cfg.task.text_cache is not None


def test_paper_autoencoder_is_trained_on_chunks_against_pixels_a_look_and_a_critic():
    cfg = composed("paper_vae")
    assert cfg.data.num_frames == cfg.vae.chunk_frames == 17
    assert cfg.vae.latent_channels == 4
    factors = torch.tensor([list(stage.factor) for stage in cfg.vae.stages]).prod(dim=0)
    assert factors.tolist() == [4, 8, 8]
    assert cfg.task.l2_weight == 0  # L1, KL, perceptual, adversarial
    assert min(cfg.task.kl_weight, cfg.task.perceptual_weight, cfg.task.critic_weight) > 0
    assert cfg.task.critic is not None
    assert cfg.task.perceptual is not None


def test_a_small_decoder_is_added_to_weights_that_stay_as_they_are(workshop):
    cfg, weights = workshop.train("snowglobe_decoder")
    before, after = read_config(cfg.weights), read_config(weights)
    assert after["networks"].keys() - before["networks"].keys() == {"small_decoder"}
    assert {**before, "networks": 0, "made_by": 0} == {**after, "networks": 0, "made_by": 0}
    for name in before["networks"]:
        kept = [(folder / f"{name}.safetensors").read_bytes() for folder in (Path(cfg.weights), weights)]
        assert kept[0] == kept[1]
