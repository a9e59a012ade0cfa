import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_shards import KEYS, make_data, make_record, write_dataset, write_shard
from omegaconf import OmegaConf

from gamegen_x.config import CONFIGS
from gamegen_x.data.batch import Batch
from gamegen_x.data.datamodule import VideoDataModule
from gamegen_x.data.decode import Expected, decode_video
from gamegen_x.data.latent_cache import Encoder, LatentCache
from gamegen_x.data.played import WholeRecord
from gamegen_x.models.coding import Coding
from gamegen_x.models.vae import VideoVAE
from gamegen_x.models.weights import build_network, load_network, save_networks
from gamegen_x.schema.shard_record import ShardRecord

SHIFT, SCALE = 0.2, 1.7
OPTIONS = ["data.content=latents", "data.batch_size=2", "data.num_frames=8", "data.latents.is_autocast=false"]


def save_weights(folder: Path, seed: int = 0, chunk_frames: int | None = None) -> Path:
    description: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONFIGS / "vae" / "tiny.yaml"))  # type: ignore
    description = {**description, "num_groups": 4, "latent_channels": 4, "chunk_frames": chunk_frames}
    for stage in description["stages"]:
        stage.update(channels=8, encoder_blocks=1, decoder_blocks=1)
    torch.manual_seed(seed)
    config = {
        "kind": "base",
        "fps": 24,
        "height": 64,
        "width": 64,
        "action_space": KEYS.to_dict(),
        "latent_scale": SCALE,
        "latent_shift": SHIFT,
        "sampler": {},
        "networks": {"vae": description},
    }
    save_networks(folder, {"vae": build_network(description)}, config, torch.float32)
    return folder


def numbered_record(clip: int, num_players: int = 2, num_frames: int = 32) -> ShardRecord:
    """The keys held at a frame spell its number, so that keys tell where a window of latents is."""
    bits = np.unpackbits(np.arange(num_frames, dtype=np.uint8)[:, None], axis=1)[:, 1:]
    actions = np.repeat(bits[:, None], num_players, axis=1)
    return make_record(clip, num_players=num_players, num_frames=num_frames, actions=actions)


def frame_numbers(batch: Batch) -> np.ndarray:
    bits = batch.actions[:, 0].numpy().astype(np.uint8)
    return np.packbits(np.pad(bits, ((0, 0), (0, 0), (1, 0))), axis=-1)[..., 0]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    for shard in range(2):
        records = [numbered_record(2 * shard + clip) for clip in range(2)]
        write_shard(folder / "train" / f"shard-{shard}.tar", [record.to_sample() for record in records])
    write_shard(folder / "val" / "shard-0.tar", [numbered_record(200).to_sample()])
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every batch that a VAE encodes from now on."""
    sizes: list[int] = []
    encode_clip = VideoVAE.encode

    def counting(self: VideoVAE, video: torch.Tensor) -> Any:
        sizes.append(len(video))
        return encode_clip(self, video)

    monkeypatch.setattr(VideoVAE, "encode", counting)
    return sizes


def make_latents(shards: Path, weights: Path, *options: str) -> VideoDataModule:
    return make_data(shards, f"weights={weights}", *OPTIONS, *options)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_latents_and_keys_of_a_window_belong_together(
    shards: Path, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    weights = save_weights(tmp_path / "weights")
    data = make_latents(shards, weights, f"data.latents.dtype={dtype}")
    vae = load_network(weights, "vae")
    loader, starts = data.train_dataloader(), set()
    wholes = {}
    for clip in range(4):
        video = numbered_record(clip).videos[1]
        pixels = torch.from_numpy(decode_video(video, Expected(32, 64, 64))).movedim(-1, 1) / 127.5 - 1
        with torch.inference_mode():
            wholes[f"clip-{clip:04d}"] = (vae.encode(pixels[None]).mean[0] - SHIFT) * SCALE
    for _ in range(4):
        for batch in loader:
            assert batch.video is None
            assert batch.latents is not None
            assert batch.latents.shape == (2, 2, 2, 4, 8, 8)
            assert batch.latents.dtype == torch.float32
            frames = frame_numbers(batch)
            assert (np.diff(frames.astype(int), axis=1) == 1).all()
            starts |= set(frames[:, 0].tolist())
            for row, key in enumerate(batch.keys):
                whole = wholes[key]
                begin = frames[row, 0] // 4
                difference = (batch.latents[row, 1] - whole[begin : begin + 2]).abs().max()
                assert difference < tolerance * whole.abs().max()
    assert starts <= {0, 4, 8, 12, 16, 20, 24}
    assert len(starts) > 3


class Counter:
    """Its latents are the numbers of the video frames that they stand for."""

    temporal_factor, batch_size = 4, 2

    def made_with(self) -> Mapping[str, Any]:
        return {}

    def fault_beside(self, vae: Path) -> str | None:
        return None

    def fault(self, record: WholeRecord) -> str | None:
        return None

    def rest(self) -> None: ...

    def play(self, records: Sequence[WholeRecord]) -> list[torch.Tensor]:
        return [torch.arange(0.0, 32.0, 4.0)[None, :, None, None, None].expand(2, 8, 4, 8, 8) for _ in records]


def test_what_was_played_stands_beside_the_latents_of_the_same_frames(shards: Path, tmp_path: Path) -> None:
    data = make_latents(shards, save_weights(tmp_path / "weights"))
    data.settings = replace(data.settings, play_along=Counter())
    data.prepare_data()
    data.setup("fit")
    for batch in data.train_dataloader():
        assert batch.played is not None
        frames = frame_numbers(batch)[:, ::4]
        assert np.array_equal(batch.played[:, 1, :, 0, 0, 0].numpy(), frames)


def test_latents_in_chunks_have_no_play_beside_them(tmp_path: Path) -> None:
    for split in ("train", "val"):
        records = [numbered_record(clip, 1, 34).to_sample() for clip in (0, 1)]
        write_shard(tmp_path / "shards" / split / "a.tar", records)
    weights = save_weights(tmp_path / "weights", chunk_frames=17)
    data = make_latents(tmp_path / "shards", weights, "data.num_frames=34")
    data.settings = replace(data.settings, play_along=Counter())
    with pytest.raises(ValueError, match="codes in chunks of 17 frames"):
        data.prepare_data()


def test_keys_follow_the_chunks_of_the_vae(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_shard(
            tmp_path / "shards" / split / "a.tar", [numbered_record(clip, 1, 34).to_sample() for clip in (0, 1)]
        )
    weights = save_weights(tmp_path / "weights", chunk_frames=17)
    data = make_latents(tmp_path / "shards", weights, "data.num_frames=34")
    (batch,) = data.train_dataloader()
    assert batch.latents is not None
    assert batch.latents.shape[2] == 10
    assert frame_numbers(batch).tolist() == [Coding(4, 17).rows(34).tolist()] * 2


def test_windows_begin_with_a_chunk_of_the_vae(tmp_path: Path) -> None:
    for split in ("train", "val"):
        records = [numbered_record(clip, 1, 68).to_sample() for clip in range(8)]
        write_shard(tmp_path / "shards" / split / "a.tar", records)
    weights = save_weights(tmp_path / "weights", chunk_frames=17)
    data = make_latents(tmp_path / "shards", weights, "data.num_frames=17")
    starts = {int(row[0]) for batch in data.train_dataloader() for row in frame_numbers(batch)}
    assert starts <= {0, 17, 34, 51}
    assert len(starts) > 1


def test_what_was_encoded_is_used_again(shards: Path, tmp_path: Path, encoded: list[int]) -> None:
    weights = save_weights(tmp_path / "weights")
    make_latents(shards, weights, "data.latents.batch_size=3")
    assert sum(encoded) == 5 * 2  # every view of every clip once
    assert max(encoded) == 3
    encoded.clear()
    first = next(iter(make_latents(shards, weights).train_dataloader()))
    assert encoded == []
    save_weights(tmp_path / "same")
    again = next(iter(make_latents(shards, tmp_path / "same").train_dataloader()))
    assert encoded == []  # the same weights in another folder
    assert torch.equal(first.latents, again.latents)


@pytest.mark.parametrize("change", ["weights", "dtype", "scale", "size"])
def test_what_was_made_otherwise_is_not(shards: Path, tmp_path: Path, encoded: list[int], change: str) -> None:
    weights = save_weights(tmp_path / "weights")
    make_latents(shards, weights)
    encoded.clear()
    options = []
    if change == "weights":
        weights = save_weights(tmp_path / "weights", seed=1)
    elif change == "scale":
        config = json.loads((weights / "config.json").read_text())
        (weights / "config.json").write_text(json.dumps({**config, "latent_scale": 1.0}))
    else:
        options = ["data.latents.dtype=bfloat16"] if change == "dtype" else ["data.height=32", "data.width=32"]
    make_latents(shards, weights, *options)
    assert sum(encoded) == 10


def test_only_a_shard_that_changed_is_encoded_again(shards: Path, tmp_path: Path, encoded: list[int]) -> None:
    weights = save_weights(tmp_path / "weights")
    make_latents(shards, weights)
    encoded.clear()
    write_shard(shards / "train" / "shard-1.tar", [numbered_record(9).to_sample()])
    data = make_latents(shards, weights)
    assert sum(encoded) == 2
    assert [header.key for header in data.sources["train"].headers] == ["clip-0000", "clip-0001", "clip-0009"]


def test_killed_while_encoding_it_goes_on_with_the_next_shard(
    shards: Path, tmp_path: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = save_weights(tmp_path / "weights")
    encode_batch = Encoder.encode

    def killed_in_the_second_shard(self: Encoder, videos: Any) -> Any:
        if sum(encoded) >= 4:
            raise KeyboardInterrupt
        return encode_batch(self, videos)

    monkeypatch.setattr(Encoder, "encode", killed_in_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        make_latents(shards, weights)
    monkeypatch.setattr(Encoder, "encode", encode_batch)
    encoded.clear()
    make_latents(shards, weights)
    assert sum(encoded) == 6
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_cache_file_that_is_too_short_is_made_anew(shards: Path, tmp_path: Path, encoded: list[int]) -> None:
    weights = save_weights(tmp_path / "weights")
    make_latents(shards, weights)
    encoded.clear()
    spoilt = sorted((tmp_path / "cache" / "train" / "latents").glob("*.bin"))[0]
    spoilt.write_bytes(spoilt.read_bytes()[:-10])
    make_latents(shards, weights)
    assert sum(encoded) == 4


def test_bf16_autocast_stays_close(shards: Path, tmp_path: Path) -> None:
    weights = save_weights(tmp_path / "weights")
    exact = next(iter(make_latents(shards, weights).train_dataloader())).latents
    for path in (tmp_path / "cache").rglob("latents/*"):
        path.unlink()
    fast = next(iter(make_latents(shards, weights, "data.latents.is_autocast=true").train_dataloader())).latents
    assert exact is not None
    assert fast is not None
    assert 0 < (exact - fast).abs().max() < 0.05 * exact.abs().max()


def test_video_prompts_are_cached_as_latents_too(tmp_path: Path) -> None:
    write_dataset(tmp_path / "shards", 4, has_state=True)
    weights = save_weights(tmp_path / "weights")
    shares = "data.video_prompts={edges: 0.25, flow: 0.25, pose: 0.25}"
    pixels = make_latents(tmp_path / "shards", weights, shares)
    cached = make_latents(tmp_path / "shards", weights, shares, "data.cache_video_prompts=true")
    seen = 0
    for one, other in zip([*pixels.train_dataloader()], [*cached.train_dataloader()], strict=True):
        assert torch.equal(one.latents, other.latents)
        assert one.has_video_prompt.tolist() == other.has_video_prompt.tolist()
        if other.video_prompt_latents is not None:
            assert other.video_prompt is None
            assert other.video_prompt_latents.shape == other.latents.shape
            seen += int(other.has_video_prompt.sum())
    assert seen > 0


def test_weights_without_a_vae_say_which_stage_makes_it(shards: Path, tmp_path: Path) -> None:
    weights = save_weights(tmp_path / "weights")
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**config, "networks": {}}))
    with pytest.raises(ValueError, match="task=vae"):
        make_latents(shards, weights)


def test_latents_can_be_handed_to_workers(shards: Path, tmp_path: Path) -> None:
    data = make_latents(shards, save_weights(tmp_path / "weights"))
    cache: LatentCache = data._splits["train"]._latents["all"]
    before = cache.latents(0).clone()
    assert torch.equal(copy.deepcopy(cache).latents(0), before)
    assert cache._cache.__getstate__()["_opened"] == {}
