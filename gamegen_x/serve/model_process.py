"""ModelProcess: one model for all rooms, in a process of its own that is watched, and started again when it fails.

The event loop never waits for it: requests go into a pipe, answers wake whoever asked. A process that is killed, or
does not answer in time, takes no socket with it; rooms stand still until it is back, and go on from the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gamegen_x.games.door import Frame as Picture
from gamegen_x.schema.action_space import ActionSpace
from gamegen_x.schema.trace import MAX_PLAYERS
from gamegen_x.schema.weights_folder import players_together, read_config
from gamegen_x.serve.children import check_niceness, end_child
from gamegen_x.serve.model_worker import (
    CloseRequest,
    Drawn,
    DrawRequest,
    Past,
    Progress,
    Refusal,
    Shape,
    Stepped,
    WorkerSettings,
    run,
)
from gamegen_x.serve.played_world import ServedWorld, State
from gamegen_x.serve.room import Block, Room
from gamegen_x.world.facts import Facts, stacked

log = logging.getLogger(__name__)
Requests: TypeAlias = "SimpleQueue[DrawRequest | CloseRequest | None]"  # None: there will be no more
WATCH_SECONDS = 0.1
FEWER_STEPS = "fewer_steps"  # of the ladder


@dataclass(frozen=True)
class ModelRules:
    threads: int
    niceness: int
    precision: str
    uses_small_decoder: bool
    pass_players: float
    num_steps: int | None
    fewer_steps: int
    hang_s: float  # without an answer: then the process is ended
    load_s: float  # without a step forward while it loads
    wait_s: float  # before it is started again, doubled each time it fails at once
    max_wait_s: float
    past_blocks: int  # of the truth, that the model is shown when somebody joins or it starts again

    def __post_init__(self) -> None:
        if min(self.threads, self.fewer_steps, self.past_blocks) < 1:
            raise ValueError("threads, fewer_steps and past_blocks are at least 1")
        check_niceness(self.niceness)
        if min(self.hang_s, self.load_s, self.wait_s, self.max_wait_s) <= 0:
            raise ValueError("hang_s, load_s, wait_s and max_wait_s are above 0 seconds")


def read_shape(weights: str) -> Shape:
    """What a weights folder makes, without importing torch."""
    config = read_config(weights)
    stages = config["networks"]["vae"]["stages"]
    return Shape(
        frames=math.prod(int(stage["factor"][0]) for stage in stages),
        height=int(config["height"]),
        width=int(config["width"]),
        keys=ActionSpace.from_dict(config["action_space"]).keys,
        fps=float(config["fps"]),
        is_told=(config.get("drawn_state") or {}).get("channels") is not None,
        num_players=players_together(config),
    )


class ModelProcess:
    def __init__(self, rules: ModelRules, weights: str, device: str, max_rooms: int) -> None:
        self.rules, self.shape = rules, read_shape(weights)
        self.settings = WorkerSettings(
            weights=weights,
            device=device,
            threads=rules.threads,
            niceness=rules.niceness,
            precision=rules.precision,
            uses_small_decoder=rules.uses_small_decoder,
            pass_players=rules.pass_players,
            num_steps=rules.num_steps,
            fewer_steps=rules.fewer_steps,
        )
        self.progress = Progress("starting the model", 0)
        self.generation = 0  # of processes: what an earlier one remembered is lost
        self.num_restarts = 0
        self.times: deque[float] = deque(maxlen=512)  # milliseconds of batches
        self.rooms_together: deque[int] = deque(maxlen=512)
        self.pid = 0
        self._free = list(range(max_rooms))
        self._memory = SharedMemory(create=True, size=max_rooms * self.shape.room_bytes)
        self._pipe: Pipe | None = None
        # Of a room: one request that is waited for, and those of which nobody waits any more.
        self._requests: Requests = SimpleQueue()
        self._waiting: dict[int, tuple[float, asyncio.Future[bool]]] = {}
        self._count = 0
        self._progress_at = 0.0

    @property
    def is_ready(self) -> bool:
        return self.progress.percent >= 100

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
            self._memory.close()
            self._memory.unlink()

    def take_region(self) -> int:
        """A place in the shared memory for one room."""
        return self._free.pop()

    def give_region(self, region: int) -> None:
        self._send(CloseRequest(region))
        self._free.append(region)

    async def draw(self, request: dict[str, Any]) -> npt.NDArray[np.uint8] | None:
        """Pictures `[seats f h w 3]`, or None where the process failed meanwhile."""
        self._count += 1
        number = self._count
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = time.monotonic(), answer
        try:
            if not self._send(DrawRequest(number=number, **request)):
                return None
            if not await answer:
                return None
            shape = self.shape
            size = MAX_PLAYERS, shape.frames, shape.height, shape.width, 3
            return np.ndarray(size, np.uint8, self._memory.buf, request["region"] * shape.room_bytes).copy()
        finally:
            self._waiting.pop(number, None)

    async def _keep(self) -> None:
        """Starts the process, watches it, and starts it again; more patiently where it fails at once."""
        wait = self.rules.wait_s
        while True:
            started = time.monotonic()
            process, ended = await self._start()
            try:
                why = await self._watch(process, ended)
                log.warning("the model's process %s; starting another", why)
                self.progress = Progress("starting the model again", 0)
            finally:
                self._fail_all()
                await asyncio.to_thread(end_child, process)
            self.num_restarts += 1
            was_short = time.monotonic() - started < self.rules.load_s
            wait = min(2 * wait, self.rules.max_wait_s) if was_short else self.rules.wait_s
            await asyncio.sleep(wait if was_short else 0)

    async def _start(self) -> tuple[BaseProcess, asyncio.Event]:
        ours, theirs = multiprocessing.Pipe()
        arguments = (theirs, self._memory.name, self.shape, self.settings)
        process = multiprocessing.get_context("spawn").Process(target=run, args=arguments, daemon=True, name="model")
        await asyncio.to_thread(process.start)
        theirs.close()
        self.pid = process.pid or 0
        self.generation += 1
        self._pipe = ours
        self._requests = SimpleQueue()
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        reader = threading.Thread(target=self._read, args=(ours, loop, ended), daemon=True, name="model reader")
        writer = threading.Thread(target=_write, args=(ours, self._requests), daemon=True, name="model writer")
        reader.start()
        writer.start()
        return process, ended

    async def _watch(self, process: BaseProcess, ended: asyncio.Event) -> str:
        """Returns when the process has to be replaced, and why."""
        self._progress_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), WATCH_SECONDS)
            now = time.monotonic()
            if ended.is_set() or not process.is_alive():
                return f"ended with code {process.exitcode}"
            if not self.is_ready and now - self._progress_at > self.rules.load_s:
                return f"got no further than {self.progress.name!r} in {self.rules.load_s:g} s"
            if any(now - since > self.rules.hang_s for since, _ in self._waiting.values()):
                return f"did not answer for {self.rules.hang_s:g} s"

    def _read(self, pipe: Pipe, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        """In a thread: passes on what the process says, until it says no more."""
        # RuntimeError: the loop was closed. TypeError: the pipe was, while half of a message was read (as in _write)
        with contextlib.suppress(EOFError, OSError, RuntimeError, TypeError):
            while True:
                loop.call_soon_threadsafe(self._heard, pipe, pipe.recv())
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    def _heard(self, pipe: Pipe, news: Progress | Drawn | Stepped | Refusal) -> None:
        if pipe is not self._pipe:
            return  # from a process that was given up
        if isinstance(news, Progress):
            self.progress, self._progress_at = news, time.monotonic()
            return
        if isinstance(news, Stepped):
            self.times.append(news.milliseconds)
            self.rooms_together.append(news.num_rooms)
            return
        if isinstance(news, Refusal):
            log.warning("the model refused a step: %s", news.said)
        _, answer = self._waiting.get(news.number, (0.0, None))
        if answer is not None and not answer.done():
            answer.set_result(isinstance(news, Drawn))

    def _send(self, request: DrawRequest | CloseRequest) -> bool:
        """Never waits: a pipe is full where the process is busy, and for ever where it hangs."""
        if self._pipe is None:
            return False
        self._requests.put(request)
        return True

    def _fail_all(self) -> None:
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_result(False)
        if self._pipe is not None:
            self._requests.put(None)
            self._pipe.close()
            self._pipe = None


def _write(pipe: Pipe, requests: Requests) -> None:
    """In a thread: hands on what is asked of the process. Where that fails, whoever reads from it notices."""
    with contextlib.suppress(OSError, TypeError):  # TypeError: the pipe was closed while it was full
        while (request := requests.get()) is not None:
            pipe.send(request)


class ModelViews:
    """One room's pictures, made by the model. What players saw before they came, the truth's renderer made; where it
    has none, they saw nothing."""

    can_skip = False

    def __init__(self, process: ModelProcess, truth: ServedWorld, session: int, prompt: str = "") -> None:
        shape = process.shape
        self.process, self.truth, self.session, self.prompt = process, truth, session, prompt
        self.room: Room | None = None  # set once: the room needs the views' world, and the views the room's seats
        self._region = process.take_region()
        start = truth.start()
        self._past: deque[tuple[State, npt.NDArray[np.uint8]]] = deque(
            [(start, np.zeros((truth.num_players, truth.keys.num_keys), np.uint8))],
            process.rules.past_blocks * shape.frames,
        )
        self._generation = -1
        self._known: dict[int, int] = {}  # seat -> visit that the model has seen
        self._instruction = ""
        self._heard = start  # the state up to which the world has been listened to

    @property
    def is_ready(self) -> bool:
        return self.process.is_ready

    async def draw(self, block: Block) -> Sequence[Sequence[Picture]] | None:
        assert self.room is not None
        seats = {seat.number: seat.visit for seat in self.room.seats if seat.is_here}
        is_fresh = self._generation != self.process.generation
        known = {} if is_fresh else self._known
        newcomers = [seat for seat, visit in seats.items() if known.get(seat) != visit]
        self._listen(block.states[-1])
        request = {
            "region": self._region,
            "session": self.session,
            "keys": _padded(block.keys),
            "facts": self._facts(block.states),
            "seats": tuple(seats),
            "newcomers": await asyncio.to_thread(self._seen_by, newcomers) if newcomers else {},
            "prompt": self.prompt or self.truth.scene(block.states[0], len(seats)),
            "instruction": self._instruction,
            "is_fresh": is_fresh,
            "is_hurried": self.room.ladder.has_reached(FEWER_STEPS),
        }
        generation = self.process.generation
        for state, keys in zip(block.states, block.keys, strict=True):
            self._past.append((state, keys))
        pictures = await self.process.draw(request)
        if pictures is None:
            self._generation = -1
            return None
        self._generation, self._known = generation, seats
        return [[pictures[seat, t] for seat in range(self.truth.num_players)] for t in range(len(block.states))]

    def close(self) -> None:
        self.process.give_region(self._region)

    def _seen_by(self, seats: Sequence[int]) -> dict[int, Past | None]:
        """What the truth's renderer shows of the last blocks; before the first one, the beginning, standing still. None
        where it has no renderer: whoever comes, or comes back, begins with what is drawn next."""
        if not self.truth.is_drawn:
            return dict.fromkeys(seats)
        past = list(self._past)
        past = [past[0]] * (-len(past) % self.process.shape.frames) + past
        views = self.truth.draw([state for state, _ in past], np.stack([keys for _, keys in past]))
        facts = self._facts([state for state, _ in past])
        return {
            seat: Past(np.stack([each[seat] for each in views]), np.stack([keys[seat] for _, keys in past]), facts)
            for seat in seats
        }

    def _facts(self, states: Sequence[State]) -> Facts | None:
        """The truth of these ticks, where the model is told it."""
        if not self.process.shape.is_told:
            return None
        return stacked([self.truth.facts_of(state) for state in states])

    def _listen(self, state: State) -> None:
        """What the world was asked for, as a sentence: the model hears the newest."""
        self._instruction = self.truth.asked(self._heard, state) or self._instruction
        self._heard = state


def _padded(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Keys `[t p k]` as the model takes them: `[seats f k]`."""
    padded = np.zeros((MAX_PLAYERS, len(keys), keys.shape[2]), np.uint8)
    padded[: keys.shape[1]] = keys.swapaxes(0, 1)
    return padded
