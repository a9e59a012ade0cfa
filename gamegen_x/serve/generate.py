"""Clips made to order: one at a time, each in a process of its own, so that play goes on and a crash costs one clip."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.caption import Instruction
from gamegen_x.schema.weights_folder import as_learned, read_config, warn_of_sentence
from gamegen_x.serve.children import begin_child, check_niceness, end_child, give_way

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


@dataclass(frozen=True)
class GenerateRules:
    weights: str
    folder: str
    max_waiting: int  # jobs; more are refused
    max_kept: int  # finished clips; then the oldest is removed
    max_frames: int
    niceness: int
    patience_s: float
    scale: int
    crf: int

    def __post_init__(self) -> None:
        check_niceness(self.niceness)
        if min(self.max_waiting, self.max_kept, self.max_frames, self.scale) < 1 or self.patience_s <= 0:
            raise ValueError("max_waiting, max_kept, max_frames and scale are at least 1, patience_s above 0 seconds")


@dataclass(frozen=True)
class ClipOrder:
    """What a clip shall show."""

    prompt: str
    keys: str  # as in sample.py
    num_frames: int
    instruction: str
    instruction_frame: int | None  # None: the middle of the clip
    num_players: int
    seed: int


@dataclass(frozen=True)
class Job:
    id: str
    order: ClipOrder
    stage: str = WAITING
    percent: float = 0.0
    said: str = ""  # what went wrong, or may not come out as asked
    path: Path | None = None


class QueueFullError(ValueError):
    """As many jobs wait as may."""


class Generator:
    def __init__(self, rules: GenerateRules, device: str) -> None:
        self.rules, self.device = rules, device
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self._news = asyncio.Event()

    def submit(self, order: ClipOrder) -> Job:
        """Raises ValueError on keys that the weights do not know or an instruction that nobody would hear,
        FileNotFoundError where there are no weights, QueueFullError where too many wait."""
        described = read_config(self.rules.weights)
        space = ActionSpace.from_dict(described["action_space"])
        space.parse(order.keys, self.rules.max_frames)
        if order.num_frames > self.rules.max_frames:
            raise ValueError(f"num_frames is at most {self.rules.max_frames}, got {order.num_frames}")
        Instruction.said(order.instruction, order.instruction_frame, order.num_frames)
        if sum(job.stage == WAITING for job in self.jobs.values()) >= self.rules.max_waiting:
            raise QueueFullError(f"{self.rules.max_waiting} clips are waiting; try again in a minute")
        order = replace(order, instruction=as_learned(described, order.instruction))
        job = Job(secrets.token_urlsafe(9), order, said=warn_of_sentence(described, order.instruction) or "")
        self.jobs[job.id] = job
        self._news.set()
        return job

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        worker = asyncio.create_task(self._work())
        try:
            yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker

    async def _work(self) -> None:
        while True:
            job = next((each for each in self.jobs.values() if each.stage == WAITING), None)
            if job is None:
                self._news.clear()
                await self._news.wait()
                continue
            try:
                async with asyncio.timeout(self.rules.patience_s):
                    await self._make(job)
            except TimeoutError:
                self._change(job.id, stage=FAILED, said=f"took longer than {self.rules.patience_s:g} seconds")
            except OSError as mistake:  # no process could be started: the next clip may fare better
                self._change(job.id, stage=FAILED, said=str(mistake))
            self._forget_old()

    async def _make(self, job: Job) -> None:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        path = Path(self.rules.folder) / f"{job.id}.mp4"
        arguments = (theirs, job.order, path, self.device, self.rules)
        process = multiprocessing.get_context("spawn").Process(target=_make_clip, args=arguments, daemon=True)
        self._change(job.id, stage=RUNNING)
        await asyncio.to_thread(process.start)
        theirs.close()
        try:
            while (news := await asyncio.to_thread(_received, ours)) is not None:
                self._change(job.id, **news)
            if self.jobs[job.id].stage == RUNNING:
                self._change(job.id, stage=FAILED, said="the process that made it ended before it was done")
        finally:
            end_child(process)
            ours.close()

    def _change(self, job: str, **values: Any) -> None:
        self.jobs[job] = replace(self.jobs[job], **values)

    def _forget_old(self) -> None:
        finished = [job for job in self.jobs.values() if job.stage in (DONE, FAILED)]
        for job in finished[: max(0, len(finished) - self.rules.max_kept)]:
            del self.jobs[job.id]
            if job.path is not None:
                job.path.unlink(missing_ok=True)


def _received(pipe: Pipe) -> dict[str, Any] | None:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def _make_clip(pipe: Pipe, order: ClipOrder, path: Path, device: str, rules: GenerateRules) -> None:
    """In the process of its own. A user's mistake is said; anything else ends the process, and that is said."""
    begin_child()
    give_way(rules.niceness)
    import torch
    from einops import rearrange

    from gamegen_x.sampling.clip_sampler import ClipSampler, SampleRequest
    from gamegen_x.sampling.networks import Networks
    from gamegen_x.sampling.video_file import to_pixels, write_video

    try:
        networks = Networks.load(rules.weights, device)
        rows = torch.from_numpy(networks.action_space.parse(order.keys)[: order.num_frames]).float()
        rows = torch.nn.functional.pad(rows, (0, 0, 0, order.num_frames - len(rows)))
        spoken = Instruction.said(order.instruction, order.instruction_frame, order.num_frames)
        request = SampleRequest(
            prompts=[order.prompt],
            num_frames=order.num_frames,
            seed=order.seed,
            num_players=order.num_players,
            actions=rows.expand(1, order.num_players, -1, -1),
            instructions=[[spoken]] if spoken else [],
        )
        sampler = ClipSampler(networks, networks.sampler_settings)
        video = sampler.sample(request, lambda done, total: pipe.send({"percent": round(95 * done / total, 1)}))
        frames = rearrange(to_pixels(video[0]), "p t h w c -> t h (p w) c")
        frames = frames.repeat_interleave(rules.scale, dim=1).repeat_interleave(rules.scale, dim=2)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames, networks.fps, rules.crf)
        pipe.send({"stage": DONE, "percent": 100.0, "path": path})
    except (ValueError, FileNotFoundError) as mistake:
        pipe.send({"stage": FAILED, "said": str(mistake)[:400]})
