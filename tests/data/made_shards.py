"""Shards whose pixels say which clip, view and frame they show, and which keys are held. All of it survives H.264."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, build
from gamegen_x.data.datamodule import VideoDataModule
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Caption, Instruction
from gamegen_x.schema.shard_record import ShardRecord

KEYS = ActionSpace("snowglobe", ("w", "a", "s", "d", "space", "e", "q"))
SIZE = 64
BLOCK = 8  # pixels of one bit
CLIP, VIEW, FRAME, HELD = 0, 2, 4, 6  # rows of blocks


def draw_frames(clip: int, view: int, actions: np.ndarray) -> np.ndarray:
    """Frames of one view: rows of black and white blocks, one bit each. `actions` are this view's, `[t k]`."""
    frames = np.full((len(actions), SIZE, SIZE, 3), 90, np.uint8)
    for t, held in enumerate(actions):
        for row, value in ((CLIP, clip), (VIEW, view), (FRAME, t), (HELD, int(np.packbits(held)[0]))):
            bits = np.unpackbits(np.array([value], np.uint8))
            frames[t, row * BLOCK : (row + 1) * BLOCK] = np.repeat(bits, BLOCK)[None, :, None] * 255
    return frames


def read_bits(pixels: np.ndarray, row: int) -> np.ndarray:
    """The numbers drawn in `[... 3 h w]` in [-1, 1]."""
    middle = pixels[..., 1, row * BLOCK + BLOCK // 2, BLOCK // 2 :: BLOCK]
    return np.packbits(np.asarray(middle) > 0, axis=-1)[..., 0]


def encode(frames: np.ndarray, codec: str = "libx264", pixel_format: str = "yuv420p") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=24)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.options = {"crf": "18", "preset": "veryfast", "g": "16", "threads": "1"} if codec == "libx264" else {}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def make_record(
    clip: int,
    *,
    num_players: int = 2,
    num_frames: int = 32,
    instructions: Sequence[Instruction] = (),
    has_state: bool = False,
    actions: np.ndarray | None = None,
    action_space: ActionSpace = KEYS,
    state: Mapping[str, np.ndarray] | None = None,
) -> ShardRecord:
    rng = np.random.default_rng(clip)
    if actions is None:
        actions = rng.integers(0, 2, (num_frames, num_players, action_space.num_keys), dtype=np.uint8)
    state = dict(state or {})
    if has_state:
        places = rng.uniform(8, SIZE - 8, (num_frames, num_players, num_players, 2))
        state = {
            "screen_xy": places.astype(np.float32),
            "visible": np.ones((num_frames, num_players, num_players), bool),
            "position": rng.uniform(0, 1024, (num_frames, num_players, 3)).astype(np.float32),
            "angle": rng.uniform(0, 360, (num_frames, num_players)).astype(np.float32),
        }
    return ShardRecord(
        key=f"clip-{clip:04d}",
        videos=tuple(encode(draw_frames(clip, view, actions[:, view])) for view in range(num_players)),
        num_frames=num_frames,
        height=SIZE,
        width=SIZE,
        fps=24.0,
        action_space=action_space,
        actions=actions,
        caption=Caption(f"Clip number {clip}."),
        source="made up",
        instructions=tuple(instructions),
        state=state,
    )


def write_shard(path: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    """Samples as `ShardRecord.to_sample` gives them, as a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for sample in samples:
            for name, content in sample.items():
                if name != "__key__":
                    member = tarfile.TarInfo(f"{sample['__key__']}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def write_dataset(folder: Path, num_clips: int, clips_per_shard: int = 4, **record: Any) -> Path:
    """`folder/train` and `folder/val` (of two clips)."""
    for start in range(0, num_clips, clips_per_shard):
        clips = range(start, min(start + clips_per_shard, num_clips))
        samples = [make_record(clip, **record).to_sample() for clip in clips]
        write_shard(folder / "train" / f"shard-{start // clips_per_shard:06d}.tar", samples)
    write_shard(folder / "val" / "shard-000000.tar", [make_record(clip, **record).to_sample() for clip in (200, 201)])
    return folder


def make_data(folder: Path, *overrides: str, data: str = "shards") -> VideoDataModule:
    """The data module that configs/data describes, for shards in `folder`."""
    root = folder.parent / "config"
    root.mkdir(exist_ok=True)
    (root / "root.yaml").write_text(
        "defaults: [{data: shards}, {action_space: snowglobe}, {places: in_views}, _self_]\n"
        f"seed: 0\nweights: null\nhydra: {{searchpath: ['file://{CONFIGS}']}}\n"
    )
    place = [f"data.dataset.folder={folder}"] if data != "synthetic" else [f"data.dataset.cache_folder={folder}"]
    with initialize_config_dir(str(root), version_base="1.3"):
        cfg = compose("root", overrides=[f"data={data}", *place, *overrides])
    module: VideoDataModule = build(cfg.data)
    module.prepare_data()
    module.setup()
    return module
