"""Suite: the questions that are asked together, from weights and recordings to figures and a report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gamegen_x.evaluation.answer import Answer, Row
from gamegen_x.evaluation.commands import Commands
from gamegen_x.evaluation.films import compose
from gamegen_x.evaluation.gates import Gate, check_gates
from gamegen_x.evaluation.generation import Generation, Sampler, Telling
from gamegen_x.evaluation.judge_training import JudgeTraining
from gamegen_x.evaluation.meetings import LiveModel, Meetings
from gamegen_x.evaluation.recordings import Recordings
from gamegen_x.evaluation.report import Report
from gamegen_x.evaluation.subject import Question, Subject
from gamegen_x.models.vae import VideoVAE
from gamegen_x.sampling.video_file import write_gif
from gamegen_x.schema.files import atomic_file

Frames = tuple[npt.NDArray[np.uint8], float]  # t h w 3, and how many a second


@dataclass(frozen=True)
class Result:
    """What a suite found out. `figures` are plain values, ready for JSON."""

    figures: Mapping[str, Any]
    html: str
    gates: Sequence[Gate]
    gifs: Mapping[str, Frames] = field(default_factory=dict)

    @property
    def not_learned(self) -> list[str]:
        """Why this model counts as not learned; empty where every gate is passed."""
        return [str(gate) for gate in self.gates if not gate.is_passed]

    def write(self, folder: str | Path) -> Path:
        """Writes `report.html`, `figures.json` and the GIFs; returns the report's path."""
        with atomic_file(Path(folder) / "report.html") as path:
            path.write_text(self.html)
        with atomic_file(Path(folder) / "figures.json") as path:
            path.write_text(json.dumps(self.figures) + "\n")
        for name, (frames, fps) in self.gifs.items():
            write_gif(Path(folder) / f"{name}.gif", frames, fps)
        return Path(folder) / "report.html"


class Suite:
    """Asks its questions in the order of the YAML. See configs/suite for what each value means."""

    def __init__(
        self,
        *,
        name: str,
        commands: Sequence[str],
        num_blocks: int,
        num_blocks_without_instructnet: int,
        judges: JudgeTraining,
        generation: Generation,
        meetings: Meetings | None,  # null: no worlds are shared
        questions: Mapping[str, Question | None],  # null takes one out
        headlines: Sequence[Mapping[str, str]],  # name, value and perhaps ceiling and chance: names of figures; unit
        gates: Mapping[str, float],  # figure -> what it must reach
        gates_at_most: Mapping[str, float],  # figure -> what it must not pass
        min_pane_width: int,  # pixels of one view on the films
        crf: int,
    ) -> None:
        if not 1 <= num_blocks_without_instructnet <= num_blocks:
            raise ValueError(
                "need 1 <= num_blocks_without_instructnet <= num_blocks, "
                f"got {num_blocks_without_instructnet} and {num_blocks}"
            )
        self.name = name
        self.command_names = list(commands)
        self.num_blocks = num_blocks
        self.num_blocks_without_instructnet = num_blocks_without_instructnet
        self.judges = judges
        self.generation = generation
        self.meetings = meetings
        self.questions = {name: question for name, question in questions.items() if question is not None}
        self.headlines = headlines
        self.gates = dict(gates)
        self.gates_at_most = dict(gates_at_most)
        self.min_pane_width = min_pane_width
        self.crf = crf

    def run(
        self,
        *,
        checkpoint: str,
        vae: VideoVAE,
        sampler: Sampler | None,
        recordings: Recordings,
        device: torch.device,
        live: LiveModel | None = None,
        telling: Telling | None = None,
    ) -> Result:
        """Examines one model. `sampler` is None for weights that hold a VAE only, `live` where no worlds are shared,
        `telling` where the model is not told what its keys do to the world."""
        started = time.monotonic()
        commands = Commands(self.command_names, recordings.action_space)
        judges = self.judges.judges(recordings, commands, device)
        subject = Subject(
            vae=vae,
            sampler=sampler,
            recordings=recordings,
            judges=judges,
            commands=commands,
            generation=self.generation,
            num_blocks=self.num_blocks,
            num_blocks_without_instructnet=self.num_blocks_without_instructnet,
            device=device,
            meetings=self.meetings,
            live=live,
            telling=telling,
        )
        answers = [answer for question in self.questions.values() if (answer := question.ask(subject)) is not None]
        figures: dict[str, Any] = {"suite": self.name, "checkpoint": checkpoint, "data_id": recordings.data_id}
        for answer in answers:
            figures |= answer.figures
        gates = check_gates(figures, self.gates, self.gates_at_most)
        figures["gates_passed"] = all(gate.is_passed for gate in gates)
        figures["seconds_total"] = time.monotonic() - started
        figures = _plain(figures)
        html = self._html(checkpoint, recordings, commands, answers, gates, figures)
        return Result(figures, html, gates, self._gifs(recordings, answers))

    def _gifs(self, recordings: Recordings, answers: Sequence[Answer]) -> dict[str, Frames]:
        """Films that have a name, composed."""
        keys = dict(enumerate(recordings.action_space.keys))
        films = [film for answer in answers for film in answer.films if film.name]
        return {film.name: (compose(film, keys, self.min_pane_width), recordings.fps) for film in films}

    def _html(
        self,
        checkpoint: str,
        recordings: Recordings,
        commands: Commands,
        answers: Sequence[Answer],
        gates: Sequence[Gate],
        figures: Mapping[str, Any],
    ) -> str:
        used = commands.rows.sum(0)
        report = Report(
            title=f"{checkpoint}: {self.name}",
            keys={number: name for number, name in enumerate(recordings.action_space.keys) if used[number] > 0},
            min_pane_width=self.min_pane_width,
            fps=recordings.fps,
            crf=self.crf,
        )
        about = [
            f"Judged on {len(recordings.val)} recordings of worlds that no training has seen ({recordings.name}, "
            f"data id {recordings.data_id}); the judges learned from {len(recordings.train)} other recordings.",
        ]
        return report.html(about, self._headlines(figures), answers, gates, figures)

    def _headlines(self, figures: Mapping[str, Any]) -> list[Row]:
        return [
            Row(
                line["name"],
                figures[line["value"]],
                figures.get(line.get("ceiling", "")),
                figures.get(line.get("chance", "")),
                line.get("unit", ""),
            )
            for line in self.headlines
            if figures.get(line["value"]) is not None
        ]


def _plain(value: Any) -> Any:
    """Values that JSON knows, figures to five digits; what is not a number becomes null."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
