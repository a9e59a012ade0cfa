"""A message that is answered: what it costs a server in which people play, beside a bare echo on the same stack.

Both servers are processes of their own, and what counts is their processor time while messages come, less that of as
long a time without.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

import httpx
import psutil
from omegaconf import DictConfig
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.measuring import Rounds, Rule
from benchmarks.rows import Row, compared_rates
from benchmarks.settings import composed
from gamegen_x.config import build
from gamegen_x.serve.__main__ import listen
from gamegen_x.serve.client import Client
from gamegen_x.serve.protocol import PROTOCOL, Ping, Pong, decode_server, encode
from gamegen_x.serve.rehearsal import Harness

PEER = "bare echo"
ROOM = "benchmark"
PATIENCE_S = 60.0
LEAST_ANSWERED = 0.9  # of the messages sent, or the figure means nothing
TURN_S = 1 / 48  # a client looks at its clock twice a tick


@dataclass(frozen=True)
class Server:
    process: psutil.Process
    address: str
    new_line: Callable[[int], Line]  # of the client with this number

    def seconds(self) -> float:
        """Of the processor, until now."""
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


class Line:
    """A socket that sends Pings and counts what answers them."""

    def __init__(self) -> None:
        self.num_answers = 0
        self.is_ready = True

    @asynccontextmanager
    async def opened(self, address: str) -> AsyncIterator[None]:
        async with connect(f"ws://{address}/ws", subprotocols=[PROTOCOL], compression=None) as socket:  # type: ignore[list-item]
            self.socket = socket
            living = [asyncio.create_task(task) for task in (self._read(socket), self._live(socket))]
            try:
                yield
            finally:
                for task in living:
                    task.cancel()
                await asyncio.gather(*living, return_exceptions=True)
                await self._leave(socket)

    async def send(self, messages_per_second: float, seconds: float) -> None:
        """Evenly, for so long; nothing is waited for."""
        began, num_sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while num_sent < passed * messages_per_second:
                await self.socket.send(encode(Ping(1000 * passed)))
                num_sent += 1
            await asyncio.sleep(TURN_S / 4)

    async def _read(self, socket: ClientConnection) -> None:
        async for _ in socket:
            self.num_answers += 1

    async def _live(self, socket: ClientConnection) -> None:
        """What it does besides."""

    async def _leave(self, socket: ClientConnection) -> None:
        """What it says at the end."""


class PlayersLine(Line):
    """The line of somebody who plays."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client, self.is_ready = client, False

    async def _read(self, socket: ClientConnection) -> None:
        async for data in socket:
            assert isinstance(data, bytes)
            self.num_answers += isinstance(decode_server(data), Pong)
            self.client.receive(data, 1000 * time.monotonic())
            self.is_ready = self.client.frame is not None

    async def _live(self, socket: ClientConnection) -> None:
        self.client.connect(1000 * time.monotonic())
        while True:
            self.client.step(1000 * time.monotonic(), 1)
            for data in self.client.take():
                await socket.send(data)
            await asyncio.sleep(TURN_S)

    async def _leave(self, socket: ClientConnection) -> None:
        self.client.leave()
        for data in self.client.take():
            await socket.send(data)


def measure(settings: DictConfig, rule: Rule) -> list[Row]:
    limit = 10 * settings.messages_per_second
    serve = (
        *("gamegen_x.serve", "world=truth", "recording.folder=null", f"first_room.name={ROOM}", "port={port}"),
        f"first_room.num_players={settings.num_players}",
        *(f"room.connection.{name}={limit}" for name in ("max_messages", "flood_messages")),
    )
    harness: Harness = build(composed("serve").room)

    def player(number: int) -> Line:
        return PlayersLine(Client(harness.client, harness.room.sync, ROOM, token=f"player-{number}"))

    with _running(serve, player) as ours, _running(("benchmarks.echo", "{port}"), lambda _: Line()) as echo:
        servers = {"ours": ours, PEER: echo}
        rounds = [_each(servers, settings) for _ in range(rule.rounds)]
    costs = {name: tuple(each[name] for each in rounds) for name in servers}
    note = f"{settings.num_players} players in the room, {settings.messages_per_second} messages a second from each"
    row = compared_rates(
        "sockets", "answers", "answers/s", Rounds(costs, 0, False), dict.fromkeys(servers, 1.0), PEER, rule,
        settings.target,
    )  # fmt: skip
    return [replace(row, note=note)]


def _each(servers: Mapping[str, Server], settings: DictConfig) -> dict[str, float]:
    return {name: asyncio.run(_cost(server, settings)) for name, server in servers.items()}


async def _cost(server: Server, settings: DictConfig) -> float:
    """Processor seconds of one answer, beyond what the players cost without."""
    lines = [server.new_line(number) for number in range(settings.num_players)]
    async with AsyncExitStack() as stack:
        for line in lines:
            await stack.enter_async_context(line.opened(server.address))
        end = time.monotonic() + PATIENCE_S
        while not all(line.is_ready for line in lines):
            if time.monotonic() > end:
                raise RuntimeError(f"no picture came from {server.address} in {PATIENCE_S:g} s")
            await asyncio.sleep(TURN_S)
        spent, answers = [], []
        for rate in (0, settings.messages_per_second, 0):
            before, answered = server.seconds(), sum(line.num_answers for line in lines)
            await asyncio.gather(*(line.send(rate, settings.seconds) for line in lines))
            spent.append(server.seconds() - before)
            answers.append(sum(line.num_answers for line in lines) - answered)
    wanted, more = len(lines) * settings.messages_per_second * settings.seconds, answers[1] - answers[0]
    cost = spent[1] - (spent[0] + spent[2]) / 2
    if more < wanted * LEAST_ANSWERED or cost <= 0:
        raise RuntimeError(
            f"{server.address} answered {more} of {wanted:g} messages for {cost:.3f} s of the processor: nothing can "
            "be said of that; is the machine too busy, or sockets.seconds too short?"
        )
    return cost / more


@contextmanager
def _running(command: tuple[str, ...], new_line: Callable[[int], Line]) -> Iterator[Server]:
    """A server as a child, once it is ready."""
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    arguments = [part.format(port=port) for part in command]
    child = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL)
    try:
        _wait_for(child, f"http://127.0.0.1:{port}/readyz")
        yield Server(psutil.Process(child.pid), f"127.0.0.1:{port}", new_line)
    finally:
        child.terminate()
        child.wait()


def _wait_for(child: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and child.poll() is None:
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not become ready")
