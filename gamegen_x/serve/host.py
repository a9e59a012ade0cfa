"""Host: all that a running server owns, made from the configuration. What it does on sockets is `app.py`'s business."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gamegen_x.config import build, to_dict
from gamegen_x.games.snowglobe import Snowglobe
from gamegen_x.serve.frame_codec import EncodedBlock, Tier, split_pictures
from gamegen_x.serve.game_loop import GameLoop, TickClock, TruthViews
from gamegen_x.serve.generate import Generator
from gamegen_x.serve.lobby import MODEL, TRUTH, Lobby, OpenRoom, RoomOrder
from gamegen_x.serve.model_process import ModelProcess, ModelViews
from gamegen_x.serve.played_world import TruthWorld
from gamegen_x.serve.player import SocketRules
from gamegen_x.serve.recorder import Played, Recorder
from gamegen_x.serve.rehearsal import Harness
from gamegen_x.serve.room import REBIND, Block, Room


@dataclass(frozen=True)
class Stage:
    """How far the server is on its way to the first picture."""

    name: str
    percent: int

    @property
    def is_ready(self) -> bool:
        return self.percent >= 100


class TooManySocketsError(ValueError):
    """All sockets of this server, or of one address, are in use."""


class Host:
    def __init__(self, cfg: DictConfig) -> None:
        if cfg.world not in (TRUTH, MODEL):
            raise ValueError(f"world is {TRUTH!r} or {MODEL!r}, got {cfg.world!r}")
        self.cfg = cfg
        self.worlds = (TRUTH,) if cfg.world == TRUTH else (MODEL, TRUTH)
        self.harness: Harness = build(cfg.room)
        self.clock = TickClock(float(cfg.game.fps))
        self.tiers: Sequence[Tier] = [build(tier) for tier in cfg.tiers]
        self.lobby = Lobby(self.make_room, build(cfg.lobby))
        self.sockets: SocketRules = build(cfg.socket)
        self.recording = build(cfg.recording)
        self.generator = Generator(build(cfg.generate), cfg.weights, cfg.device)
        self.player_key = cfg.player_key.encode() if cfg.player_key else secrets.token_bytes(32)
        self.started_at = time.monotonic()
        self.num_visits = 0
        self.model: ModelProcess | None = None  # while the server runs, and with world=model only
        self._stage = Stage("starting", 0)
        self._open_sockets: Counter[str] = Counter()

    @property
    def stage(self) -> Stage:
        if self.model is not None and self._stage.is_ready:
            return Stage(self.model.progress.name, self.model.progress.percent)
        return self._stage

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From the first room to the last flush."""
        async with AsyncExitStack() as stack:
            if MODEL in self.worlds:
                rules, cfg = build(self.cfg.model), self.cfg
                self.model = ModelProcess(rules, cfg.weights, cfg.device, self.lobby.rules.max_rooms)
                await stack.enter_async_context(self.model.running())
            await stack.enter_async_context(self.lobby.running())
            await stack.enter_async_context(self.generator.running())
            opening = asyncio.create_task(self._open_first_room())
            try:
                yield
            finally:
                opening.cancel()

    @contextmanager
    def socket_of(self, address: str) -> Iterator[None]:
        """Counts a socket while it is open. Raises TooManySocketsError."""
        rules = self.sockets
        total = self._open_sockets.total()
        if total >= rules.max_sockets or self._open_sockets[address] >= rules.max_sockets_per_address:
            raise TooManySocketsError(
                f"{total} sockets are open, {self._open_sockets[address]} of them from one address"
            )
        self._open_sockets[address] += 1
        self.num_visits += 1
        try:
            yield
        finally:
            self._open_sockets[address] -= 1
            if not self._open_sockets[address]:
                del self._open_sockets[address]

    @property
    def num_sockets(self) -> int:
        return self._open_sockets.total()

    def tier(self, name: str) -> Tier:
        """The tier of that name, or the best."""
        return next((tier for tier in self.tiers if tier.name == name), self.tiers[0])

    def order(
        self,
        name: str,
        world: str | None = None,
        num_players: int | None = None,
        camera: str | None = None,
        seed: int | None = None,
        prompt: str = "",
    ) -> RoomOrder:
        """A room as somebody asks for it, with this server's habits where they say nothing. Raises ValueError."""
        order = RoomOrder(
            name=name,
            world=world or self.worlds[0],
            num_players=num_players or int(self.cfg.first_room.num_players),
            camera=camera or str(self.cfg.game.camera),
            seed=int(self.cfg.seed) if seed is None else seed,
            prompt=prompt,
        )
        if order.world not in self.worlds:
            hint = "; start the server with world=model" if order.world == MODEL else ""
            raise ValueError(f"this server has the worlds {', '.join(self.worlds)}, got {order.world!r}{hint}")
        if order.world == MODEL and order.camera != self.cfg.game.camera:
            raise ValueError(f"this model has learned the camera {self.cfg.game.camera!r}, got {order.camera!r}")
        if order.camera not in self.cfg.cameras:
            raise ValueError(f"cameras are {', '.join(self.cfg.cameras)}, got {order.camera!r}")
        return order

    def make_room(self, order: RoomOrder) -> OpenRoom:
        """Builds a world and all around it. Takes a while; called from a thread."""
        node = OmegaConf.merge(self.cfg.game, {"num_players": order.num_players, "camera": order.camera})
        assert isinstance(node, DictConfig)
        game: Snowglobe = build(node)
        truth = TruthWorld(game, order.seed)
        played = Played(order.name, to_dict(node), order.seed, truth.fps, order.world, self._weights_of(order))
        recorder = Recorder(self.recording, played, self.player_key)
        recorder.begin(truth.start())
        rest = self.clock, self.tiers[-1], int(self.cfg.max_behind)
        if order.world == TRUTH:
            room = Room(order.name, truth, self.harness.room, on_final=recorder.final)
            return OpenRoom(order, room, GameLoop(room, TruthViews(truth), *rest), truth, recorder)
        return self._model_room(order, truth, recorder, rest)

    def _model_room(
        self, order: RoomOrder, truth: TruthWorld, recorder: Recorder, rest: tuple[TickClock, Tier, int]
    ) -> OpenRoom:
        """A room whose pictures a model makes, a block at a time: keys that come too late for one act in the next."""
        assert self.model is not None
        views = ModelViews(self.model, truth, secrets.randbits(63), order.prompt)
        rules = replace(self.harness.room, block=self.model.shape.frames, late=REBIND)
        room = views.room = Room(order.name, truth, rules, on_final=recorder.final)

        def keep(block: Block, pictures: EncodedBlock) -> None:
            for seat in room.seats:
                if seat.is_here:
                    shown = split_pictures(pictures.payload(seat.number, self.tiers[0]))
                    for tick, jpeg in enumerate(shown, block.first_tick):
                        recorder.picture(tick, seat.number, jpeg)

        return OpenRoom(order, room, GameLoop(room, views, *rest, keep), truth, recorder, views.close)

    def _weights_of(self, order: RoomOrder) -> str:
        return Path(self.cfg.weights).name if order.world == MODEL else ""

    async def _open_first_room(self) -> None:
        self._stage = Stage("building the first world", 50)
        first = self.cfg.first_room
        await self.lobby.open(self.order(first.name))
        self._stage = Stage("ready", 100)
