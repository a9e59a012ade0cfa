"""A world simple enough to know every answer: a picture under a camera, a sky that can be asked for."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from gamegen_x.evaluation.recordings import Recording, as_bytes, as_pixels
from gamegen_x.sampling.clip_sampler import SampleRequest
from gamegen_x.sampling.video_file import read_video, write_video
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Caption, Instruction
from gamegen_x.schema.shard_record import ShardRecord

KEYS = ActionSpace("moving_picture", ("w", "a", "s", "d"))
COMMANDS = ("_", "w", "a", "s", "d")
SENTENCES = {
    "time_of_day": {"day": ["Make it day."], "night": ["Make it night."]},
    "weather": {"snow": ["Let it snow."]},
}
CLASSES = {"time_of_day": ("day", "night"), "weather": ("clear", "snow")}
SIZE, WORLD, FPS, NUM_FRAMES, BLOCK = 32, 96, 24.0, 64, 4
CRF = 8
EFFECTS = {"Make it day.": (0, 0), "Make it night.": (0, 1), "Let it snow.": (1, 1), "Clear the sky.": (1, 0)}


class MovingPicture:
    """One player. Two pixels a frame; a change of the sky shows at once."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        smooth = rng.normal(size=(WORLD, WORLD, 3))
        for axis in (0, 1):
            smooth = sum(np.roll(smooth, shift, axis) for shift in range(-3, 4))
        smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
        self.picture = 40 + 190 * smooth
        self.place = rng.integers(WORLD, size=2)
        self.facts = rng.integers(2, size=2)
        self.snow = np.random.default_rng(seed + 1)

    def step(self, keys: np.ndarray) -> np.ndarray:
        w, a, s, d = (int(key) for key in keys)
        self.place = self.place + 2 * np.array([s - w, d - a])
        rows, columns = ((start + np.arange(SIZE)) % WORLD for start in self.place)
        frame = self.picture[np.ix_(rows, columns)].copy()
        if self.facts[1]:
            frame[self.snow.uniform(size=(SIZE, SIZE)) < 0.06] = 255
        return (frame * (0.3 if self.facts[0] else 1.0)).astype(np.uint8)

    def instruct(self, text: str) -> None:
        fact, value = EFFECTS[text]
        self.facts[fact] = value


def write_shards(folder: Path, num_train: int, num_val: int, planets: Mapping[str, int]) -> None:
    """Clips whose keys are drawn per block, with one sentence each. The number of a clip's world is in its key."""
    for split, count in (("train", num_train), ("val", num_val)):
        (folder / split).mkdir(parents=True)
        with tarfile.open(folder / split / "shard-000000.tar", "w") as tar:
            for seed in range(planets[split], planets[split] + count):
                sample = _record(seed, folder).to_sample()
                key = sample.pop("__key__")
                for name, data in sample.items():
                    member = tarfile.TarInfo(f"{key}.{name}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def _record(seed: int, folder: Path) -> ShardRecord:
    rng = np.random.default_rng([seed, 7])
    drawn = [COMMANDS[number] for number in rng.integers(len(COMMANDS), size=NUM_FRAMES // BLOCK)]
    actions = KEYS.parse(" ".join(f"{name}*{BLOCK}" for name in drawn))
    world, frames, facts = MovingPicture(seed), [], []
    said = Instruction(str(rng.choice(list(EFFECTS))), int(rng.integers(12, 28)))
    for frame, keys in enumerate(actions):
        if frame == said.frame:
            world.instruct(said.text)
        frames.append(world.step(keys))
        facts.append(world.facts.copy())
    write_video(folder / "clip.mp4", np.stack(frames), FPS, CRF)
    return ShardRecord(
        key=f"clip-{seed:06d}",
        videos=((folder / "clip.mp4").read_bytes(),),
        num_frames=NUM_FRAMES,
        height=SIZE,
        width=SIZE,
        fps=FPS,
        action_space=KEYS,
        actions=actions[:, None],
        caption=Caption("A picture moves."),
        source="moving_picture",
        instructions=(said,),
        state={
            "planet": np.full(NUM_FRAMES, seed),
            **{fact: np.stack(facts)[:, number].astype(np.uint8) for number, fact in enumerate(CLASSES)},
        },
        facts=CLASSES,
    )


class PerfectModel:
    """Plays the world itself on from the request's context: it knows where each recording was."""

    is_deaf = False

    def __init__(self, recordings: list[Recording], context_frames: int) -> None:
        self.context_frames = context_frames
        self.requests: list[SampleRequest] = []
        self.places = {
            recording.video[:, start : start + context_frames].numpy().tobytes(): (recording, start)
            for recording in recordings
            for start in range(recording.num_frames - context_frames + 1)
        }

    def sample(self, request: SampleRequest, on_progress: object) -> torch.Tensor:
        self.requests.append(request)
        spoken = request.instructions or [()] * len(request.prompts)
        clips = [self._clip(request, number, spoken[number]) for number in range(len(request.prompts))]
        return torch.stack(clips)[:, None]

    def _clip(self, request: SampleRequest, number: int, spoken: tuple[Instruction, ...]) -> torch.Tensor:
        context = as_bytes(request.context[number])
        recording, start = self.places[context.numpy().tobytes()]
        world = MovingPicture(int(recording.key.split("-")[1].split(".")[0]))
        now = start + self.context_frames
        for frame in range(now):
            world.step(recording.actions[0, frame].numpy())
        world.facts = np.array([int(recording.facts[fact][now - 1]) for fact in CLASSES])
        keys = request.actions[number, 0, self.context_frames :]
        if self.is_deaf or not request.use_instructnet:  # then everybody wanders as they like
            rng = np.random.default_rng([number, request.seed])
            keys = keys[:, rng.permutation(KEYS.num_keys)].roll(int(rng.integers(4, len(keys))), 0)
        frames = []
        for frame, held in enumerate(keys.numpy(), start=self.context_frames):
            for instruction in spoken:
                if instruction.frame == frame and not self.is_deaf:
                    world.instruct(instruction.text)
            frames.append(world.step(held))
        made = as_pixels(torch.from_numpy(_coded(np.stack(frames)))).permute(0, 3, 1, 2)
        return torch.cat([request.context[number, 0], made])


def _coded(frames: np.ndarray) -> np.ndarray:
    """As recordings look: after H.264."""
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "clip.mp4", frames, FPS, CRF)
        return read_video(Path(folder) / "clip.mp4")[0]


class DeafModel(PerfectModel):
    """Shows the same world just as well, but moves as it likes and does nothing that it is told."""

    is_deaf = True


class StillModel(PerfectModel):
    """Shows the last picture of the context for ever."""

    def sample(self, request, on_progress):
        num_new = request.num_frames - self.context_frames
        still = request.context[:, :, -1:].expand(-1, -1, num_new, -1, -1, -1)
        return torch.cat([request.context, still], dim=2)
