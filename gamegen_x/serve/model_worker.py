"""The process in which a model draws: requests come through a pipe, pictures go into shared memory.

All rooms that wait are stepped together. Torch is imported here, never where the sockets are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gamegen_x.schema.trace import MAX_PLAYERS
from gamegen_x.serve.children import begin_child, give_way
from gamegen_x.world.facts import Facts

if TYPE_CHECKING:
    from torch import Tensor

    from gamegen_x.data.state import Drawing
    from gamegen_x.sampling.stream import Stream
    from gamegen_x.sampling.stream_sampler import StreamSampler
    from gamegen_x.sampling.truth import Told

GATHER_S = 0.002  # how long the first request of a batch waits for others
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """What weights make in one step, and with which keys: read from their config, without torch."""

    frames: int
    height: int
    width: int
    keys: tuple[str, ...]
    fps: float
    is_told: bool  # what is true of the world
    num_players: int | None = None  # in the views it learned from; None: nobody wrote it down

    @property
    def room_bytes(self) -> int:
        return MAX_PLAYERS * self.frames * self.height * self.width * 3


@dataclass(frozen=True)
class WorkerSettings:
    weights: str
    device: str
    threads: int
    niceness: int
    precision: str
    uses_small_decoder: bool
    pass_players: float
    num_steps: int | None  # null: what the weights were trained for
    fewer_steps: int  # when rooms cannot keep up
    undo_ticks: int = 0


@dataclass(frozen=True)
class Past:
    """What a player has seen before: the model goes on from there."""

    frames: Pixels  # t h w 3
    keys: Pixels  # t k
    facts: Facts | None  # t ..., for weights that are told them


@dataclass(frozen=True)
class DrawRequest:
    """One step of one room. `newcomers` have a past that the model does not know yet, or none; others it remembers."""

    number: int
    region: int  # of the shared memory
    session: int  # the seed of this world's noise
    keys: Pixels  # seats f k
    seats: tuple[int, ...]  # whose views are wanted
    newcomers: Mapping[int, Past | None]
    prompt: str
    instruction: str
    facts: Facts | None  # f ..., the truth of the frames to draw, for weights that are told it
    is_fresh: bool  # forget what was drawn before
    is_hurried: bool


@dataclass(frozen=True)
class CloseRequest:
    region: int


@dataclass(frozen=True)
class Progress:
    name: str
    percent: int


@dataclass(frozen=True)
class Drawn:
    """The pictures of a request are in the shared memory."""

    number: int


@dataclass(frozen=True)
class Stepped:
    """The model has taken in all that it drew."""

    milliseconds: float  # of the whole batch
    num_rooms: int  # in it


@dataclass(frozen=True)
class Refusal:
    """A request that the model could not follow; the room starts afresh."""

    number: int
    said: str


def run(pipe: Pipe, memory: str, shape: Shape, settings: WorkerSettings) -> None:
    """The life of the process: load, then draw until the pipe ends."""
    begin_child()
    pipe.send(Progress("importing torch", 10))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads leave the cores to others
    import torch

    torch.set_num_threads(settings.threads)
    pipe.send(Progress("loading the weights", 40))
    sampler, few, many = _load(settings)
    pipe.send(Progress("drawing a first picture", 70))
    _warm_up(sampler, shape)
    shared = SharedMemory(memory)
    drawing = _drawing(sampler)
    worker = Worker(sampler, drawing, few, many, np.ndarray((shared.size,), np.uint8, shared.buf), shape)
    give_way(settings.niceness)
    pipe.send(Progress("ready", 100))
    try:
        while True:
            worker.draw(_requests(pipe, worker), pipe)
    except EOFError:
        return


class Worker:
    def __init__(
        self,
        sampler: StreamSampler,
        drawing: Drawing | None,
        few: Any,
        many: Any,
        memory: npt.NDArray[np.uint8],
        shape: Shape,
    ) -> None:
        self.sampler, self.few, self.many, self.memory, self.shape = sampler, few, many, memory, shape
        self.drawing = drawing
        self.streams: dict[int, Stream] = {}
        self._instructions: dict[int, str] = {}

    def close(self, request: CloseRequest) -> None:
        self.streams.pop(request.region, None)

    def draw(self, requests: Sequence[DrawRequest], pipe: Pipe) -> None:
        """Steps all rooms that asked, at once, and says of each that it is drawn as soon as it is."""
        import time

        import torch
        from einops import rearrange

        started = time.monotonic()
        ready = []
        for request in requests:
            try:
                self._prepare(request)
                ready.append(request)
            except ValueError as mistake:
                self.streams.pop(request.region, None)
                pipe.send(Refusal(request.number, str(mistake)))
        if not ready:
            return
        self.sampler.times = self.few if any(request.is_hurried for request in ready) else self.many
        keys = [torch.from_numpy(request.keys).float() for request in ready]
        told = [self._told(request.facts) for request in ready]

        def hand_on(place: int, frames: Tensor) -> None:
            """While players look at these pictures, the model takes them in."""
            pictures = rearrange(frames, "p f c h w -> p f h w c").contiguous().numpy()
            begin = ready[place].region * self.shape.room_bytes
            self.memory[begin : begin + pictures.nbytes] = pictures.reshape(-1)
            pipe.send(Drawn(ready[place].number))

        self.sampler.step([self.streams[request.region] for request in ready], keys, told, hand_on)
        pipe.send(Stepped((time.monotonic() - started) * 1000, len(ready)))

    def _prepare(self, request: DrawRequest) -> None:
        """Seats and unseats whom the room has seated and unseated, and passes on what was said."""
        stream = self.streams.get(request.region)
        if stream is None or request.is_fresh:
            stream = self.sampler.start(request.prompt, request.session, 1)
            self.sampler.leave(stream, 0)
            self.streams[request.region] = stream
            self._instructions[request.region] = ""
        if request.instruction != self._instructions[request.region]:
            self.sampler.instruct(stream, request.instruction)
            self._instructions[request.region] = request.instruction
        for slot in set(stream.slots) - set(request.seats):
            self.sampler.leave(stream, slot)
        for slot in sorted(set(request.seats)):
            if slot in request.newcomers and slot in stream.slots:
                self.sampler.leave(stream, slot)
            if slot in stream.slots:
                continue
            if slot not in request.newcomers:
                raise ValueError(f"the model does not know what seat {slot} has seen")
            past = request.newcomers[slot]
            if past is None:
                self.sampler.join(stream, slot)
            else:
                self._join(stream, slot, past)

    def _join(self, stream: Stream, slot: int, past: Past) -> None:
        import torch

        from gamegen_x.sampling.video_file import from_pixels

        frames = from_pixels(torch.from_numpy(past.frames.copy()))
        told = self._told(past.facts)
        own = None if told is None else replace(told, state=told.state[slot : slot + 1], near=None)
        self.sampler.join(stream, slot, frames, torch.from_numpy(past.keys.copy()).float(), own)

    def _told(self, facts: Facts | None) -> Told | None:
        from gamegen_x.sampling.truth import Told

        return None if self.drawing is None or facts is None else Told(*self.drawing(facts))


def _load(settings: WorkerSettings) -> tuple[StreamSampler, Any, Any]:
    from gamegen_x.diffusion.solvers import solver_times
    from gamegen_x.sampling.networks import Networks
    from gamegen_x.sampling.stream_sampler import StreamSampler

    networks = Networks.load(settings.weights, settings.device)
    sampling = networks.sampler_settings
    if settings.num_steps is not None:
        sampling = replace(sampling, num_steps=settings.num_steps)
    sampler = StreamSampler(
        networks,
        sampling,
        num_slots=MAX_PLAYERS,
        undo_ticks=settings.undo_ticks,
        precision=settings.precision,
        uses_small_decoder=settings.uses_small_decoder,
        pass_players=settings.pass_players,
    )
    few = solver_times(min(settings.fewer_steps, sampling.num_steps), sampling.shift)
    return sampler, few, sampler.times


def _drawing(sampler: StreamSampler) -> Drawing | None:
    from gamegen_x.data.state import drawing_of

    return drawing_of(sampler.networks.config, sampler.networks.vae.spatial_factor)


def _warm_up(sampler: StreamSampler, shape: Shape) -> None:
    import torch

    stream = sampler.start("", 0, 1)
    sampler.step([stream], [torch.zeros(MAX_PLAYERS, shape.frames, len(shape.keys))])


def _requests(pipe: Pipe, worker: Worker) -> list[DrawRequest]:
    """The next request, with those that come at almost the same time. Raises EOFError when the server has gone.

    Of a room's requests only the newest: for the ones before it nobody waits any more.
    """
    found: dict[int, DrawRequest] = {}
    while not found or pipe.poll(GATHER_S):
        request = pipe.recv()
        if isinstance(request, CloseRequest):
            found.pop(request.region, None)
            worker.close(request)
        else:
            found[request.region] = request
    return list(found.values())
