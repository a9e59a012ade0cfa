"""Trains the judges on real recordings, measures their ceilings on unseen worlds, and keeps them in a cache."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gamegen_x.evaluation.commands import UNLISTED, Commands
from gamegen_x.evaluation.degradation import Degradation
from gamegen_x.evaluation.judges import EnvironmentClassifier, InverseDynamics, Judges, half_precision
from gamegen_x.evaluation.progress import Progress
from gamegen_x.evaluation.recordings import Recording, Recordings, as_pixels
from gamegen_x.schema.files import atomic_file

RECIPE = 2  # raise it when training or ceilings change: judges of an older recipe are then not reused


@dataclass(frozen=True)
class Schedule:
    """How long and how fast one judge learns: AdamW, a linear warm-up and a cosine to zero."""

    num_steps: int
    num_warm_up_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Blocks:
    """Every place in the recordings where a player holds the same keys for one whole block, with a block before it."""

    recording: Int[Tensor, " n"]
    player: Int[Tensor, " n"]
    start: Int[Tensor, " n"]  # the frame at which the block before begins
    command: Int[Tensor, " n"]
    command_before: Int[Tensor, " n"]  # of the last frame before the block

    def __len__(self) -> int:
        return len(self.start)

    def taken(self, index: Int[Tensor, " m"]) -> Blocks:
        return Blocks(*(values[index] for values in vars(self).values()))

    def windows(self, recordings: Sequence[Recording], block_frames: int) -> UInt8[Tensor, "n f 3 h w"]:
        places = zip(self.recording.tolist(), self.player.tolist(), self.start.tolist(), strict=True)
        return torch.stack([recordings[r].video[p, s : s + 2 * block_frames] for r, p, s in places])

    def labels(self, recordings: Sequence[Recording], block_frames: int) -> UInt8[Tensor, "n k"]:
        places = zip(self.recording.tolist(), self.player.tolist(), self.start.tolist(), strict=True)
        return torch.stack([recordings[r].actions[p, s + block_frames] for r, p, s in places])


@dataclass(frozen=True)
class Pictures:
    """Single frames, and the class numbers of their facts."""

    recording: Int[Tensor, " n"]
    player: Int[Tensor, " n"]
    frame: Int[Tensor, " n"]
    facts: Mapping[str, Int[Tensor, " n"]]

    def __len__(self) -> int:
        return len(self.frame)

    def taken(self, index: Int[Tensor, " m"]) -> Pictures:
        facts = {fact: values[index] for fact, values in self.facts.items()}
        return Pictures(self.recording[index], self.player[index], self.frame[index], facts)

    def frames(self, recordings: Sequence[Recording]) -> UInt8[Tensor, "n 3 h w"]:
        places = zip(self.recording.tolist(), self.player.tolist(), self.frame.tolist(), strict=True)
        return torch.stack([recordings[r].video[p, t] for r, p, t in places])


def find_blocks(recordings: Sequence[Recording], commands: Commands, block_frames: int) -> Blocks:
    """Blocks of constant keys at any frame. Raises ValueError where a command is never held for a whole block."""
    found: list[Tensor] = []
    for number, recording in enumerate(recordings):
        numbers = commands.numbers_of(recording.actions)
        actions = recording.actions
        is_held_on = (actions[:, 1:] == actions[:, :-1]).all(-1)  # frame t + 1 holds what frame t holds
        is_block = is_held_on.unfold(1, block_frames - 1, 1).all(-1)  # from frame t on
        players, starts = is_block[:, block_frames:].nonzero(as_tuple=True)  # `starts`: of the block before
        found.append(
            torch.stack(
                [
                    torch.full_like(starts, number),
                    players,
                    starts,
                    numbers[players, starts + block_frames],
                    numbers[players, starts + block_frames - 1],
                ]
            )
        )
    blocks = Blocks(*torch.cat(found, 1))
    missing = [name for number, name in enumerate(commands.names) if not (blocks.command == number).any()]
    if missing:
        raise ValueError(
            f"no recording holds {missing} for {block_frames} frames; take them out of `commands`, or record more play"
        )
    return blocks


class JudgeTraining:
    """Makes the judges of a set of recordings, or finds them in `folder`, kept there by a hash of data and settings."""

    def __init__(
        self,
        *,
        folder: str,
        seed: int,
        block_frames: int,
        inverse_dynamics: Mapping[str, Any],  # channels, grid, hidden
        inverse_dynamics_schedule: Schedule,
        environment: Mapping[str, Any],  # channels
        environment_schedule: Schedule,
        degradation: Degradation,  # of the pictures that both learn from
        facts: Sequence[str],  # those that are judged where recordings have them
        settle_frames: int,  # a fact shows at the latest so many frames after it changed
        max_ceiling_blocks: int,
        inference_batch_size: int,
        seconds_between_lines: float,
    ) -> None:
        self.settings = {
            "recipe": RECIPE,
            "seed": seed,
            "block_frames": block_frames,
            "inverse_dynamics": dict(inverse_dynamics),
            "inverse_dynamics_schedule": asdict(inverse_dynamics_schedule),
            "environment": dict(environment),
            "environment_schedule": asdict(environment_schedule),
            "degradation": asdict(degradation),
            "facts": list(facts),
            "settle_frames": settle_frames,
            "max_ceiling_blocks": max_ceiling_blocks,
        }
        self.folder = Path(folder)
        self.seed = seed
        self.block_frames = block_frames
        self.inverse_dynamics_settings = dict(inverse_dynamics)
        self.inverse_dynamics_schedule = inverse_dynamics_schedule
        self.environment_settings = dict(environment)
        self.environment_schedule = environment_schedule
        self.degradation = degradation
        self.facts = tuple(facts)
        self.settle_frames = settle_frames
        self.max_ceiling_blocks = max_ceiling_blocks
        self.inference_batch_size = inference_batch_size
        self.seconds_between_lines = seconds_between_lines

    def judges(self, recordings: Recordings, commands: Commands, device: torch.device) -> Judges:
        """Trained judges with their ceilings; the same data and settings give the same judges."""
        clips = [[f"{clip.key} {clip.num_frames}" for clip in part] for part in (recordings.train, recordings.val)]
        chosen = hashlib.sha256(json.dumps(clips).encode()).hexdigest()[:16]  # of the data, by `reading`
        key = json.dumps([self.settings, recordings.data_id, chosen, list(commands.names)], sort_keys=True)
        folder = self.folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        inverse_dynamics, environment = self._untrained(recordings)
        if (folder / "judges.json").is_file():
            kept = json.loads((folder / "judges.json").read_text())
            inverse_dynamics.load_state_dict(load_file(folder / "inverse_dynamics.safetensors"))
            if environment is not None:
                environment.load_state_dict(load_file(folder / "environment.safetensors"))
            return Judges(inverse_dynamics, environment, kept["ceilings"], self.inference_batch_size, device)
        blocks = find_blocks(recordings.train, commands, self.block_frames)
        self._train_inverse_dynamics(inverse_dynamics.to(device), recordings, blocks)
        if environment is not None:
            self._train_environment(environment.to(device), recordings)
        judges = Judges(inverse_dynamics, environment, {}, self.inference_batch_size, device)
        judges.ceilings = self._ceilings(judges, recordings, commands)
        self._keep(folder, judges, json.loads(key))
        return judges

    def _untrained(self, recordings: Recordings) -> tuple[InverseDynamics, EnvironmentClassifier | None]:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            inverse_dynamics = InverseDynamics(
                num_keys=recordings.action_space.num_keys,
                block_frames=self.block_frames,
                **self.inverse_dynamics_settings,
            )
            classes = {
                fact: recordings.val[0].classes[fact] for fact in self.facts if fact in recordings.val[0].classes
            }
            environment = EnvironmentClassifier(classes, **self.environment_settings) if classes else None
        return inverse_dynamics, environment

    def _train_inverse_dynamics(self, network: InverseDynamics, recordings: Recordings, blocks: Blocks) -> None:
        """Every change from a command to another is drawn equally often, so that habits of the players tell nothing."""
        changes = (blocks.command - UNLISTED) * (blocks.command.max() + 2) + (blocks.command_before - UNLISTED)
        weights = 1 / changes.bincount()[changes]
        device = next(network.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)

        def loss(index: Int[Tensor, " n"]) -> Tensor:
            drawn = blocks.taken(index)
            windows = as_pixels(drawn.windows(recordings.train, self.block_frames).to(device))
            labels = drawn.labels(recordings.train, self.block_frames).to(device)
            logits = network(self.degradation(windows, self.block_frames, generator))
            return F.binary_cross_entropy_with_logits(logits.float(), labels.float())

        schedule = self.inverse_dynamics_schedule
        self._train("training the inverse-dynamics judge", network, schedule, self._draws(weights, schedule), loss)

    def _train_environment(self, network: EnvironmentClassifier, recordings: Recordings) -> None:
        """Every combination of facts is drawn equally often."""
        pictures = find_pictures(recordings.train, network.classes, self.settle_frames)
        joint = torch.zeros_like(pictures.frame)
        for fact, values in pictures.facts.items():
            joint = joint * len(network.classes[fact]) + values
        weights = 1 / joint.bincount()[joint]
        device = next(network.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)

        def loss(index: Int[Tensor, " n"]) -> Tensor:
            drawn = pictures.taken(index)
            frames = as_pixels(drawn.frames(recordings.train).to(device))
            logits = network(self.degradation(frames[:, None], 1, generator)[:, 0])
            losses = [F.cross_entropy(logits[fact].float(), drawn.facts[fact].to(device)) for fact in logits]
            return torch.stack(losses).sum()

        schedule = self.environment_schedule
        self._train("training the environment judge", network, schedule, self._draws(weights, schedule), loss)

    def _draws(self, weights: Float[Tensor, " n"], schedule: Schedule) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(schedule.num_steps):
            yield torch.multinomial(weights, schedule.batch_size, replacement=True, generator=generator)

    def _train(
        self,
        title: str,
        network: nn.Module,
        schedule: Schedule,
        draws: Iterator[Tensor],
        loss_of: Callable[[Tensor], Tensor],
    ) -> None:
        network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, schedule))
        progress = Progress(title, schedule.num_steps, self.seconds_between_lines)
        device = next(network.parameters()).device
        for step, index in enumerate(draws, start=1):
            with half_precision(device):
                loss = loss_of(index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            progress(step, f"loss {loss.item():.3f}")

    def _ceilings(self, judges: Judges, recordings: Recordings, commands: Commands) -> dict[str, float]:
        """Shares of unseen real video that are judged rightly, each class counting the same."""
        blocks = find_blocks(recordings.val, commands, self.block_frames)
        blocks = blocks.taken((blocks.command != UNLISTED).nonzero().flatten())
        generator = torch.Generator().manual_seed(self.seed)
        blocks = blocks.taken(torch.randperm(len(blocks), generator=generator)[: self.max_ceiling_blocks])
        said = commands.most_likely(judges.key_logits(blocks.windows(recordings.val, self.block_frames)))
        ceilings = {"commands": balanced_accuracy(said, blocks.command)}
        for number, name in enumerate(commands.names):
            ceilings[f"commands.{name}"] = balanced_accuracy(
                said[blocks.command == number], blocks.command[blocks.command == number]
            )
        if judges.environment is not None:
            ceilings |= self._environment_ceilings(judges, recordings)
        return ceilings

    def _environment_ceilings(self, judges: Judges, recordings: Recordings) -> dict[str, float]:
        assert judges.environment is not None
        pictures = find_pictures(recordings.val, judges.environment.classes, self.settle_frames)
        order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(self.seed))
        pictures = pictures.taken(order[: self.max_ceiling_blocks])
        frames = rearrange(pictures.frames(recordings.val), "n c h w -> n 1 c h w")
        return {
            fact: balanced_accuracy(judges.environment_in(frames, fact), pictures.facts[fact])
            for fact in judges.environment.classes
        }

    def _keep(self, folder: Path, judges: Judges, made_from: Any) -> None:
        with atomic_file(folder / "inverse_dynamics.safetensors") as path:
            save_file(_contiguous(judges.inverse_dynamics), path)
        if judges.environment is not None:
            with atomic_file(folder / "environment.safetensors") as path:
                save_file(_contiguous(judges.environment), path)
        with atomic_file(folder / "judges.json") as path:  # last: a folder without it is not finished
            path.write_text(json.dumps({"made_from": made_from, "ceilings": judges.ceilings}, indent=2) + "\n")


def balanced_accuracy(said: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """The mean over the classes in `truth` of the share said rightly; nan where there is no truth."""
    shares = [(said[truth == number] == number).float().mean() for number in truth.unique()]
    return float(torch.stack(shares).mean()) if shares else math.nan


def settled(values: Int[Tensor, " t"], settle_frames: int) -> Bool[Tensor, " t"]:
    """Frames at which a fact has been the same for `settle_frames` frames and more, as far as the clip tells."""
    is_same = torch.zeros(len(values), dtype=torch.bool)
    if len(values) > settle_frames:
        windows = values.unfold(0, settle_frames + 1, 1)
        is_same[settle_frames:] = (windows == windows[:, -1:]).all(1)
    return is_same


def find_pictures(recordings: Sequence[Recording], facts: Mapping[str, Sequence[str]], settle_frames: int) -> Pictures:
    """Every picture whose facts are all plain to see."""
    places: list[Tensor] = []
    values: dict[str, list[Tensor]] = {fact: [] for fact in facts}
    for number, recording in enumerate(recordings):
        is_settled = torch.stack([settled(recording.facts[fact], settle_frames) for fact in facts]).all(0)
        num_players, found = len(recording.video), is_settled.nonzero().flatten()
        frames = found.repeat(num_players)
        players = torch.arange(num_players).repeat_interleave(len(found))
        places.append(torch.stack([torch.full_like(frames, number), players, frames]))
        for fact in facts:
            values[fact].append(recording.facts[fact][frames])
    recording_numbers, player_numbers, frame_numbers = torch.cat(places, 1)
    found_facts = {fact: torch.cat(parts) for fact, parts in values.items()}
    return Pictures(recording_numbers, player_numbers, frame_numbers, found_facts)


def _rate(step: int, schedule: Schedule) -> float:
    warm_up = min(1.0, (step + 1) / schedule.num_warm_up_steps)
    return warm_up * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / schedule.num_steps)))


def _contiguous(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
