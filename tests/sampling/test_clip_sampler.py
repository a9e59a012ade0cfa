import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from gamegen_x.models.gamegen import GameGenX
from gamegen_x.models.instructnet import InstructNet
from gamegen_x.models.msdit import MSDiT
from gamegen_x.models.text_encoder import ByteT5TextEncoder
from gamegen_x.models.vae import VideoVAE
from gamegen_x.models.weights import fingerprint, load_network, save_networks
from gamegen_x.sampling.clip_sampler import ClipSampler, SampleRequest
from gamegen_x.sampling.networks import Networks
from gamegen_x.sampling.settings import SamplerSettings
from gamegen_x.sampling.video_file import from_pixels, read_video, to_pixels, write_gif, write_video
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction

SPACE = ActionSpace("test", ("w", "a"))
SAMPLER = SamplerSettings(num_steps=2, solver="euler", shift=1.0, guidance=1.0, window=3, block=1)
STAGE = {
    "factor": [4, 8, 8], "channels": 16, "encoder_blocks": 1, "decoder_blocks": 1, "temporal_kernel": 1,
    "resample": "shuffle",
}  # fmt: skip
DESCRIPTIONS = {
    "vae": {
        "_target_": "gamegen_x.models.vae.VideoVAE", "latent_channels": 4, "latent_kernel": 2, "stages": [STAGE],
        "num_groups": 4, "chunk_frames": None, "min_log_variance": -10.0, "max_log_variance": 4.0,
    },
    "text_encoder": {
        "_target_": "gamegen_x.models.text_encoder.ByteT5TextEncoder", "dim": 16, "num_layers": 1, "num_heads": 2,
        "feed_forward": 16, "max_bytes": 32, "pool": 4,
    },
    "msdit": {
        "_target_": "gamegen_x.models.msdit.MSDiT", "latent_channels": 4, "out_channels": 4, "dim": 32, "num_pairs": 1,
        "num_heads": 2, "mlp_ratio": 2.0, "patch": 2, "text_dim": 16, "max_text_tokens": 8, "causal": True,
        "temporal_cross_attention": False, "rotary_base": 1e4, "num_sinusoids": 16, "spatial_factor": 8,
        "preconditioned": True,
    },
    "instructnet": {
        "_target_": "gamegen_x.models.instructnet.InstructNet", "latent_channels": 4, "dim": 32, "num_blocks": 2,
        "num_heads": 2, "mlp_ratio": 2.0, "patch": 2, "num_keys": 2, "frames_per_latent": 4, "keys_dim": 8,
        "text_dim": 16, "causal": True, "temporal_cross_attention": False, "rotary_base": 1e4,
        "carry": {"ring": 1, "num_ways": 2, "width": 8, "least_deviation": 0.1},
    },
}  # fmt: skip
CLASSES = {"vae": VideoVAE, "text_encoder": ByteT5TextEncoder, "msdit": MSDiT, "instructnet": InstructNet}
CONFIG = {
    "kind": "base", "fps": 24, "height": 32, "width": 32, "action_space": SPACE.to_dict(), "latent_scale": 2.0,
    "latent_shift": 0.1, "sampler": asdict(SAMPLER), "networks": DESCRIPTIONS, "made_by": {"command": "a test"},
}  # fmt: skip


def some_networks(names=tuple(CLASSES)):
    torch.manual_seed(0)
    networks = {}
    for name in names:
        arguments = {key: value for key, value in DESCRIPTIONS[name].items() if key != "_target_"}
        networks[name] = CLASSES[name](**arguments)
        for parameter in networks[name].parameters():
            if parameter.abs().sum() == 0:
                torch.nn.init.normal_(parameter, std=0.1)
    return networks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    save_networks(path, some_networks(), CONFIG, torch.float32)
    return path


@pytest.fixture(scope="module")
def sampler(folder):
    return ClipSampler(Networks.load(folder), SAMPLER)


def a_request(**changes):
    values = {"prompts": ["night", "day"], "num_frames": 16, "seed": 3, "actions": torch.zeros(2, 1, 16, 2)}
    return SampleRequest(**{**values, **changes})


def test_the_same_request_gives_the_same_clip_whatever_ran_before(sampler):
    first = sampler.sample(a_request())
    torch.randn(7)
    assert torch.equal(first, sampler.sample(a_request()))
    assert not torch.equal(first, sampler.sample(a_request(seed=4)))


def test_a_longer_clip_begins_like_a_shorter_one(sampler):
    short = sampler.sample(a_request())
    long = sampler.sample(a_request(num_frames=23, actions=torch.zeros(2, 1, 23, 2)))
    assert long.shape == (2, 1, 23, 3, 32, 32)
    assert torch.allclose(short, long[:, :, :16], atol=1e-5)


def test_a_clip_begins_with_its_context(sampler):
    context = torch.rand(2, 1, 8, 3, 32, 32) * 2 - 1
    video = sampler.sample(a_request(context=context))
    assert torch.equal(video[:, :, :8], context)
    assert video[:, :, 8:].abs().max() <= 1


def test_a_key_changes_its_block_and_later_ones_only(sampler):
    pressed = torch.zeros(2, 1, 16, 2)
    pressed[:, :, 8:] = 1
    calm, moved = sampler.sample(a_request()), sampler.sample(a_request(actions=pressed))
    assert torch.equal(calm[:, :, :8], moved[:, :, :8])
    assert not torch.equal(calm[:, :, 8:12], moved[:, :, 8:12])


def test_without_the_instructnet_keys_do_not_matter(sampler):
    pressed = torch.ones(2, 1, 16, 2)
    calm = sampler.sample(a_request(use_instructnet=False))
    assert torch.equal(calm, sampler.sample(a_request(actions=pressed, use_instructnet=False)))


def test_an_instruction_changes_what_follows_and_a_second_one_replaces_it(sampler):
    def spoken(*instructions):
        return sampler.sample(a_request(instructions=[list(instructions), []]))

    silent, snow = spoken(), spoken(Instruction("snow", 8))
    both = spoken(Instruction("snow", 8), Instruction("night", 12))
    assert torch.equal(silent[0, :, :8], snow[0, :, :8])
    assert not torch.equal(silent[0, :, 8:], snow[0, :, 8:])
    assert torch.equal(snow[:, :, :12], both[:, :, :12])
    assert not torch.equal(snow[0, :, 12:], both[0, :, 12:])
    assert torch.equal(silent[1], both[1])  # nobody spoke to the second clip


def test_players_of_one_clip_see_different_views(sampler):
    video = sampler.sample(a_request(num_players=2, actions=torch.zeros(2, 2, 16, 2)))
    assert video.shape == (2, 2, 16, 3, 32, 32)
    assert not torch.equal(video[:, 0], video[:, 1])


def test_guidance_asks_for_both_velocities(folder):
    plain = ClipSampler(Networks.load(folder), SAMPLER)
    guided = ClipSampler(Networks.load(folder), replace(SAMPLER, guidance=4.0))
    assert not torch.equal(plain.sample(a_request()), guided.sample(a_request()))


def test_an_instruction_leads_for_its_first_frames_and_only_clips_that_were_told(folder):
    spoken = [[Instruction("Let it snow.", 4)], []]
    plain, led = (
        ClipSampler(Networks.load(folder), replace(SAMPLER, instruction_guidance=scale, instruction_latents=1)).sample(
            a_request(instructions=spoken)
        )
        for scale in (1.0, 3.0)
    )
    assert torch.equal(plain[:, :, :4], led[:, :, :4])
    assert not torch.equal(plain[0, :, 4:8], led[0, :, 4:8])
    assert torch.equal(plain[1], led[1])


CHUNK = 5  # video frames that the autoencoder below codes by themselves: two latents, of 1 and of 4 frames


@pytest.fixture(scope="module")
def in_chunks(folder):
    networks = Networks.load(folder)
    networks.vae.chunk_frames = CHUNK
    return ClipSampler(networks, SAMPLER)


@pytest.mark.parametrize("frame", [0, 1, 5, 6, 10])
def test_keys_and_sentences_reach_the_latents_of_their_frames_where_clips_are_coded_in_chunks(in_chunks, frame):
    calm, pressed = torch.zeros(1, 1, 15, 2), torch.zeros(1, 1, 15, 2)
    pressed[:, :, frame] = 1
    silent = in_chunks.sample(a_request(prompts=["night"], num_frames=15, actions=calm))
    moved = in_chunks.sample(a_request(prompts=["night"], num_frames=15, actions=pressed))
    spoken = [[Instruction("snow", frame)]]
    told = in_chunks.sample(a_request(prompts=["night"], num_frames=15, actions=calm, instructions=spoken))
    for other in (moved, told):
        assert torch.equal(silent[:, :, :frame], other[:, :, :frame])
        assert not torch.equal(silent[:, :, frame], other[:, :, frame])


@pytest.mark.parametrize("num_context", [1, 5, 6, 10])
def test_a_clip_in_chunks_goes_on_from_any_whole_latent_such_as_one_reference_frame(in_chunks, num_context):
    context = torch.rand(1, 1, num_context, 3, 32, 32) * 2 - 1
    asked = a_request(prompts=["night"], num_frames=15, actions=None, context=context)
    assert torch.equal(in_chunks.sample(asked)[:, :, :num_context], context)
    with pytest.raises(ValueError, match=r"it has 1, 5, 6, 10, 11, 15, ... frames"):
        in_chunks.sample(replace(asked, context=context.new_zeros(1, 1, 3, 3, 32, 32)))


def test_a_clip_longer_than_a_window_that_is_made_at_once_goes_on_from_half_of_it(folder):
    whole = ClipSampler(Networks.load(folder), replace(SAMPLER, window=30, block=30))
    assert [whole.block_after(done) for done in (0, 1, 10, 15, 30, 45)] == [30, 29, 20, 15, 15, 15]
    assert [ClipSampler(Networks.load(folder), SAMPLER).block_after(done) for done in range(4)] == [1] * 4
    halves = ClipSampler(Networks.load(folder), replace(SAMPLER, window=4, block=4))
    one, other = (
        halves.sample(a_request(context=torch.full((2, 1, 16, 3, 32, 32), light), num_frames=24, actions=None))
        for light in (-1.0, 1.0)
    )
    assert not torch.allclose(one[:, :, 16:], other[:, :, 16:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": torch.zeros(2, 1, 16, 3)}, r"\(2, 1, 16, 2\), got \(2, 1, 16, 3\)"),
        ({"actions": torch.full((2, 1, 16, 2), float("nan"))}, "NaN"),
        ({"context": torch.zeros(2, 1, 8, 3, 40, 40)}, "these weights make 32x32 video"),
        ({"context": torch.zeros(2, 1, 6, 3, 32, 32)}, r"it has 4, 8, 12, 16, 20, 24, ... frames"),
        ({"context": torch.zeros(2, 1, 16, 3, 32, 32)}, "shorter than num_frames"),
        ({"prompts": [], "actions": None}, "at least one prompt"),
        ({"instructions": [[]]}, "one list a clip: 2 lists, got 1"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_drawn(sampler, changes, message):
    with pytest.raises(ValueError, match=message):
        sampler.sample(a_request(**changes))


def test_weights_come_back_bit_equal(folder):
    for name, network in some_networks().items():
        assert fingerprint(load_network(folder, name)) == fingerprint(network)


def test_half_weights_are_half_the_size_and_nearly_the_same(tmp_path, folder):
    save_networks(tmp_path, some_networks(), CONFIG, torch.bfloat16)
    whole, half = (load_network(path, "msdit").state_dict() for path in (folder, tmp_path))
    assert (tmp_path / "msdit.safetensors").stat().st_size < 0.6 * (folder / "msdit.safetensors").stat().st_size
    assert all(torch.allclose(whole[key], half[key], rtol=1e-2, atol=1e-6) for key in whole)


def test_weights_of_another_preset_are_refused_with_the_tensor(tmp_path, folder):
    config = json.loads((folder / "config.json").read_text())
    config["networks"]["msdit"]["dim"] = 64
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"another preset\? .*expected"):
        Networks.load(tmp_path)


def test_a_pickle_is_never_opened_as_weights(tmp_path, folder):
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    torch.save(Bomb(), tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"gamegen_x\.training\.export"):
        Networks.load(tmp_path / "last.ckpt")
    weights = tmp_path / "weights"
    weights.mkdir()
    for path in folder.iterdir():
        (weights / path.name).write_bytes(path.read_bytes())
    torch.save(Bomb(), weights / "vae.safetensors")
    with pytest.raises(ValueError, match="pickles are never read"):
        Networks.load(weights)
    assert not canary.exists()


def test_weights_may_build_networks_of_this_package_only(tmp_path):
    config = {"format": 1, **CONFIG, "networks": {**DESCRIPTIONS, "vae": {"_target_": "os.system", "command": "true"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"only, their config names 'os.system'"):
        load_network(tmp_path, "vae")


@pytest.mark.parametrize(("name", "stage"), [("vae", "vae"), ("msdit", "pretrain")])
def test_a_missing_network_names_the_stage_that_makes_it(tmp_path, name, stage):
    described = {key: value for key, value in DESCRIPTIONS.items() if key != name}
    save_networks(tmp_path, some_networks(tuple(described)), {**CONFIG, "networks": described}, torch.float32)
    with pytest.raises(ValueError, match=f"task={stage}"):
        Networks.load(tmp_path)


def test_a_foundation_alone_samples_too(tmp_path):
    described = {key: value for key, value in DESCRIPTIONS.items() if key != "instructnet"}
    save_networks(tmp_path, some_networks(tuple(described)), {**CONFIG, "networks": described}, torch.float32)
    networks = Networks.load(tmp_path)
    assert isinstance(networks.model, GameGenX)
    assert ClipSampler(networks, SAMPLER).sample(a_request(num_frames=6, actions=None)).shape[2] == 6


def test_frames_survive_the_video_file(tmp_path):
    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    frames = np.stack([np.broadcast_to(np.roll(ramp, t)[None, :, None], (32, 32, 3)) for t in range(12)])
    write_video(tmp_path / "clip.mp4", frames, 24.0, crf=1)
    read, fps = read_video(tmp_path / "clip.mp4")
    assert fps == 24
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).mean() < 3


def test_a_gif_has_every_frame(tmp_path):
    from PIL import Image

    write_gif(tmp_path / "clip.gif", np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8), 24.0)
    with Image.open(tmp_path / "clip.gif") as image:
        assert image.n_frames == 5


@pytest.mark.parametrize("content", [b"", b"this is a text file named mp4"])
def test_a_file_that_is_no_video_is_refused_by_name(tmp_path, content):
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"notes.mp4 (is not a readable video|holds no video)"):
        read_video(path)
    with pytest.raises(FileNotFoundError, match="no video file"):
        read_video(tmp_path / "absent.mp4")


def test_odd_sizes_and_other_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match="even height and width, got 15x16"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 15, 16, 3), np.uint8), 24.0, crf=1)
    with pytest.raises(ValueError, match=r"uint8 frames \[t h w 3\]"):
        write_video(tmp_path / "a.mp4", torch.zeros(2, 16, 16, 3), 24.0, crf=1)


def test_pixels_survive_their_range():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal(to_pixels(from_pixels(pixels)), pixels)
