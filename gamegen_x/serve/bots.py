"""Scripted players on real sockets, to load a server and measure it: `python -m gamegen_x.serve.bots num=8`."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from omegaconf import DictConfig
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from gamegen_x.config import build, entry_point
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.trace import MAX_PLAYERS
from gamegen_x.serve.client import Client
from gamegen_x.serve.metrics import quantile
from gamegen_x.serve.protocol import PROTOCOL, EventMessage, Frame, Input, decode_client
from gamegen_x.serve.rehearsal import Harness

STEPS_PER_TICK = 2  # how often a bot looks at its clock
BACK_AFTER_S = 0.5
DEFAULT_FPS = 24.0  # before a Welcome
NO_CODE = 1006  # of a line that ended without a word


@dataclass
class BotReport:
    """What one bot saw. Times in milliseconds."""

    frames: int = 0
    pictures: int = 0
    bytes: int = 0
    events: int = 0
    connections: int = 0
    desyncs: int = 0
    errors: list[str] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)  # between pictures
    reflected: list[float] = field(default_factory=list)  # from a key to the first picture that shows it


class Bot:
    """Holds a key for a while, then another one, by chance."""

    def __init__(self, url: str, room: str, harness: Harness, seed: int, hold_s: float) -> None:
        self.url, self.hold_s = url, hold_s
        self.rng = np.random.default_rng(seed)
        self.report = BotReport()
        self.client = Client(harness.client, harness.room.sync, room, token=f"bot-{seed}", on_event=self._on_event)
        self.end_ms = math.inf
        self._held = 0
        self._is_new = False
        self._until = 0.0
        self._pressed: deque[tuple[int, float]] = deque()  # tick whose keys are new, and when they were pressed
        self._last_picture: float | None = None

    async def play(self, end_ms: float) -> None:
        """Plays until the moment, which may still be moved; comes back where the line breaks."""
        self.end_ms = end_ms
        while _now() < self.end_ms:
            try:
                async with connect(self.url, subprotocols=[PROTOCOL], compression=None, max_size=2**22) as socket:  # type: ignore[list-item]
                    self.report.connections += 1
                    self.client.connect(_now())
                    await self._converse(socket)
            except (WebSocketException, OSError) as mistake:
                self.report.errors.append("restarting" if self.client.is_restarting else type(mistake).__name__)
            if _now() < self.end_ms:
                await asyncio.sleep(BACK_AFTER_S)
        self.report.desyncs = self.client.num_desyncs

    async def _converse(self, socket: ClientConnection) -> None:
        reading = asyncio.create_task(self._read(socket))
        try:
            while _now() < self.end_ms and not self.client.is_lost and not reading.done():
                self._choose()
                self.client.step(_now(), self._held)
                for data in self.client.take():
                    self._note_press(data)
                    await socket.send(data)
                fps = self.client.welcome.fps if self.client.welcome is not None else DEFAULT_FPS
                await asyncio.sleep(1 / fps / STEPS_PER_TICK)
            if reading.done():
                reading.result()
        except ConnectionClosed as closed:
            self.client.closed(closed.rcvd.code if closed.rcvd else NO_CODE)
            raise
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> None:
        async for data in socket:
            before = self.client.frame
            self.client.receive(data, _now())
            self.report.bytes += len(data)
            frame = self.client.frame
            if frame is not None and frame is not before:
                self._count(frame)

    def _choose(self) -> None:
        """Another key now and then."""
        welcome = self.client.welcome
        if welcome is None or _now() < self._until:
            return
        self._until = _now() + 1000 * self.rng.exponential(self.hold_s)
        self._held = 1 << int(self.rng.integers(len(welcome.keys)))
        self._is_new = True

    def _note_press(self, data: bytes | str) -> None:
        """Which tick the newest choice is for: a later picture says whether it shows it."""
        if not self._is_new:
            return
        message = decode_client(data)
        if isinstance(message, Input):
            self._is_new = False
            self._pressed.append((message.tick, _now()))

    def _count(self, frame: Frame) -> None:
        now, report = _now(), self.report
        report.frames += 1
        report.pictures += frame.count
        if self._last_picture is not None:
            report.gaps.append(now - self._last_picture)
        self._last_picture = now
        while self._pressed and self._pressed[0][0] <= frame.input_tick:
            report.reflected.append(now - self._pressed.popleft()[1])

    def _on_event(self, _: EventMessage) -> None:
        self.report.events += 1


async def play(cfg: DictConfig, harness: Harness) -> dict[str, Any]:
    """All bots at once, in as many rooms as they need; one line of figures."""
    sizes = room_sizes(cfg.num, cfg.seats)
    rooms = [f"{cfg.rooms}-{number}" for number in range(len(sizes))]
    async with httpx.AsyncClient(base_url=cfg.url) as browser:
        tiers = [tier["name"] for tier in (await browser.get("/page.json")).json()["tiers"]]
        quality = tiers[0] if cfg.quality is None else cfg.quality
        if quality not in tiers:
            raise ValueError(f"{cfg.url} has the qualities {', '.join(tiers)}, got quality={quality}")
        for name, size in zip(rooms, sizes, strict=True):
            wish = {"name": name, "num_players": size, "world": cfg.world}
            answer = await browser.post("/rooms", json={key: value for key, value in wish.items() if value is not None})
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"{cfg.url} opened no room: {answer.json().get('detail', answer.status_code)}")
        url = f"{cfg.url.replace('http', 'ws', 1)}/ws?quality={quote(quality)}"
        places = [name for name, size in zip(rooms, sizes, strict=True) for _ in range(size)]
        bots = [Bot(url, name, harness, cfg.seed + i, cfg.hold_s) for i, name in enumerate(places[: cfg.num])]
        before = (await browser.get("/status")).json()
        started, end = time.monotonic(), _now() + 1000 * cfg.seconds
        playing = asyncio.gather(*(bot.play(math.inf) for bot in bots))
        try:
            near_the_end = await status_at(browser, end - 1000 * cfg.told_within_s)
            for bot in bots:  # on a bad line the answer may be late: what it tells of must still have time to be heard
                bot.end_ms = max(end, _now() + 1000 * cfg.told_within_s)
            await playing
        finally:
            playing.cancel()
        seconds = time.monotonic() - started
        after = (await browser.get("/status")).json()
    mine = [room for room in after["rooms"] if room["name"] in rooms]
    return {
        **summary([bot.report for bot in bots], seconds, cfg.stall_s),
        "lost_seats": sum(max(0, bot.client.num_joins - 1) for bot in bots),
        "lost_events": lost_events(bots, near_the_end["rooms"]),
        "server_memory_growth_mb": round(after["memory_mb"] - before["memory_mb"], 1),
        "server_lag_ms": after["lag_ms"],
        "server_block_ms_p99": max(room["block_ms"]["p99"] for room in mine),
        "server_late_ms_p99": max(room["late_ms"]["p99"] for room in mine),
        "skipped_ticks": sum(room["skipped_ticks"] for room in mine),
    }


async def status_at(browser: httpx.AsyncClient, moment_ms: float) -> dict[str, Any]:
    await asyncio.sleep(max(0.0, moment_ms - _now()) / 1000)
    status: dict[str, Any] = (await browser.get("/status")).json()
    return status


def lost_events(bots: Sequence[Bot], rooms: Sequence[Mapping[str, Any]]) -> int:
    """Events that a server had for the bots' seats some time before the end, and that they never heard."""
    said = {room["name"]: room["last_events"] for room in rooms}
    return sum(
        max(0, said[bot.client.room][bot.client.welcome.seat] - bot.client.event)
        for bot in bots
        if bot.client.welcome is not None and bot.client.room in said
    )


def room_sizes(num: int, seats: Sequence[int]) -> list[int]:
    """The seats of each room that `num` bots need; the sizes are gone through again and again."""
    wanted = list(seats)
    if num < 1 or not wanted or not all(1 <= size <= MAX_PLAYERS for size in wanted):
        raise ValueError(f"num is at least 1, and the seats of a room 1 to {MAX_PLAYERS}; got {num} and {wanted}")
    sizes: list[int] = []
    for size in itertools.cycle(wanted):
        if sum(sizes) >= num:
            break
        sizes.append(size)
    return sizes


def summary(reports: Sequence[BotReport], seconds: float, stall_s: float) -> dict[str, Any]:
    """The figures of a load test; rates are a bot's. A gap of more than `stall_s` between pictures is a stall."""
    rates = [report.pictures / seconds for report in reports]
    gaps = [gap for report in reports for gap in report.gaps]
    reflected = [delay for report in reports for delay in report.reflected]
    stalled = sum(gap for gap in gaps if gap > 1000 * stall_s)
    return {
        "bots": len(reports),
        "seconds": round(seconds, 1),
        "frames_per_second_mean": round(float(np.mean(rates)), 2),
        "frames_per_second_min": round(min(rates), 2),
        "pictures_min": min(report.pictures for report in reports),
        "frames_per_second_max_over_min": round(max(rates) / max(min(rates), 1e-9), 3),
        "stalled_percent": round(stalled / (10 * seconds * len(reports)), 2),
        "key_to_frame_ms_p50": quantile(reflected, 0.5, digits=1) or 0.0,
        "key_to_frame_ms_p99": quantile(reflected, 0.99, digits=1) or 0.0,
        "kilobytes_per_second": round(sum(report.bytes for report in reports) / 1000 / seconds / len(reports), 2),
        "events": sum(report.events for report in reports),
        "desyncs": sum(report.desyncs for report in reports),
        "connections": sum(report.connections for report in reports),
        "errors": sorted({error for report in reports for error in report.errors}),
    }


def _now() -> float:
    return time.monotonic() * 1000


@entry_point("bots")
def main(cfg: DictConfig) -> None:
    if not 0 <= cfg.told_within_s < cfg.seconds:
        raise ValueError(
            f"seconds is above told_within_s, and that at least 0; got {cfg.seconds} and {cfg.told_within_s}"
        )
    try:
        found = asyncio.run(play(cfg, build(cfg.room)))
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise ValueError(f"no server at {cfg.url}; run: python -m gamegen_x.serve") from None
    line = json.dumps(found)
    with atomic_file(cfg.output) as path:
        path.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
