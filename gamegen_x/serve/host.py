"""Host: all that a running server owns, made from the configuration. What it does on sockets is `app.py`'s business."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gamegen_x.config import build
from gamegen_x.schema.weights_folder import warn_of_players
from gamegen_x.serve.frame_codec import EncodedBlock, Jpeg, Tier, split_pictures
from gamegen_x.serve.game_loop import GameLoop, TickClock, TruthViews
from gamegen_x.serve.generate import Generator
from gamegen_x.serve.lobby import MODEL, TRUTH, Lobby, OpenRoom, RoomOrder
from gamegen_x.serve.metrics import NUM_SAMPLES
from gamegen_x.serve.model_process import ModelProcess, ModelViews
from gamegen_x.serve.offer import build_world, offer_of
from gamegen_x.serve.played_world import ServedWorld
from gamegen_x.serve.player import SocketRules
from gamegen_x.serve.protocol import Hello
from gamegen_x.serve.recorder import Played, Recorder
from gamegen_x.serve.rehearsal import Harness
from gamegen_x.serve.restore import open_sessions, state_at_end
from gamegen_x.serve.room import REBIND, Block, Room, RoomRules
from gamegen_x.serve.seat import JoinError, Seat
from gamegen_x.serve.session_log import Header, SessionEnd

log = logging.getLogger(__name__)
DRAIN_POLL_S = 0.05
LAG_EVERY_S = 0.05


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
        self.cfg = cfg
        self.offer = offer_of(cfg)
        self.harness: Harness = build(cfg.room)
        self.clock = TickClock(self.offer.fps)
        self.tiers = build_tiers(cfg.tiers)
        self.lobby = Lobby(self.make_room, build(cfg.lobby))
        self.sockets: SocketRules = build(cfg.socket)
        self.recording = build(cfg.recording)
        self.generator = Generator(build(cfg.generate), cfg.device)
        self.player_key = cfg.player_key.encode() if cfg.player_key else secrets.token_bytes(32)
        self.started_at = time.monotonic()
        self.num_visits = 0
        self._ended: dict[str, SessionEnd] = {}  # by room: what an earlier server was playing
        self.model: ModelProcess | None = None  # while the server runs, and with world=model only
        self._stage = Stage("starting", 0)
        self.failure: Exception | None = None  # why the first room could not be opened: the server is to end
        self._open_sockets: Counter[str] = Counter()
        self.lags: deque[float] = deque(maxlen=NUM_SAMPLES)  # ms by which the event loop comes late to what waits

    @property
    def stage(self) -> Stage:
        if self.model is not None and self._stage.is_ready:
            return Stage(self.model.progress.name, self.model.progress.percent)
        return self._stage

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From the first room to the last flush."""
        self._ended = {end.header.name: end for end in await asyncio.to_thread(self._open_sessions)}
        async with AsyncExitStack() as stack:
            if MODEL in self.offer.worlds:
                rules, cfg = build(self.cfg.model), self.cfg
                self.model = ModelProcess(rules, cfg.weights, cfg.device, self.lobby.rules.max_rooms)
                await stack.enter_async_context(self.model.running())
            await stack.enter_async_context(self.lobby.running())
            await stack.enter_async_context(self.generator.running())
            beside = [asyncio.create_task(task) for task in (self._open_first_rooms(), self._feel_lag())]
            try:
                yield
            finally:
                for task in beside:
                    task.cancel()

    async def _feel_lag(self) -> None:
        """Keys that arrive wait as long as anything else does, such as the end of this sleep."""
        while True:
            due = time.monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.lags.append(1000 * (time.monotonic() - due))

    async def drain(self) -> None:
        """Lets nobody in any more, tells everybody that the server restarts, and waits until their keys are final."""
        self.lobby.is_draining = True
        end = time.monotonic() + self.sockets.stall_s
        while self.num_sockets and time.monotonic() < end:
            await asyncio.sleep(DRAIN_POLL_S)
        await asyncio.sleep(2 * self.harness.room.block / self.clock.fps)

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
        return next((tier for tier in self.tiers if tier.name == name), self.best_tier)

    @property
    def best_tier(self) -> Jpeg:
        """What everybody begins with, recordings keep, and simple clients get."""
        best = self.tiers[0]
        assert isinstance(best, Jpeg)
        return best

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
        offer = self.offer
        order = RoomOrder(
            name=name,
            world=world or offer.worlds[0],
            num_players=num_players or self._usual_players(),
            camera=camera or offer.model_camera,
            seed=int(self.cfg.seed) if seed is None else seed,
            prompt=prompt,
        )
        offer.check(order)
        return order

    def _usual_players(self) -> int:
        wanted, possible = int(self.cfg.first_room.num_players), self.offer.num_players
        return min(max(wanted, possible[0]), possible[-1])

    def make_room(self, order: RoomOrder) -> OpenRoom:
        """Builds a world and all around it, or takes up the one of that name. Takes a while; called from a thread."""
        end = self._ended.pop(order.name, None)
        if end is not None:
            order = _order_of(end.header)
        game = self.offer.game(order)
        truth = build_world(game, order.seed)
        end = None if end is None else self._taken_up(truth, end)
        recorder = Recorder(self.recording, self._played(order, game, truth.fps), self.player_key)
        recorder.begin(truth.start(), None if end is None else end.seats)
        make = self._truth_room if order.world == TRUTH else self._model_room
        found = make(order, truth, recorder, -1 if end is None else end.last_tick)
        found.room.on_seat = partial(_record_seat, recorder, found.room)
        for number, record in ({} if end is None else end.seats).items():
            found.room.keep_seat(number, record.resume, self.clock.now())
        return found

    def _truth_room(self, order: RoomOrder, truth: ServedWorld, recorder: Recorder, last_tick: int) -> OpenRoom:
        room = self._room(order, truth, recorder, last_tick, self.harness.room)
        loop = GameLoop(room, TruthViews(truth), self.clock, int(self.cfg.max_behind))
        return OpenRoom(order, room, loop, truth, recorder)

    def _room(self, order: RoomOrder, truth: ServedWorld, recorder: Recorder, last_tick: int, rules: RoomRules) -> Room:
        life = secrets.token_hex(4)
        return Room(order.name, truth, rules, on_final=recorder.final, last_tick=last_tick, life=life)

    def _model_room(self, order: RoomOrder, truth: ServedWorld, recorder: Recorder, last_tick: int) -> OpenRoom:
        """A room whose pictures a model makes, a block at a time: keys that come too late for one act in the next."""
        assert self.model is not None
        many = warn_of_players(self.model.shape.num_players, truth.num_players)
        if many:
            log.warning("room %s: %s", order.name, many)
        views = ModelViews(self.model, truth, secrets.randbits(63), order.prompt)
        rules = replace(self.harness.room, block=self.model.shape.frames, late=REBIND)
        room = views.room = self._room(order, truth, recorder, last_tick, rules)

        def keep(block: Block, pictures: EncodedBlock) -> None:
            for seat in room.seats:
                if seat.is_here:
                    shown = split_pictures(pictures.payload(seat.number, self.best_tier))
                    for tick, jpeg in enumerate(shown, block.first_tick):
                        recorder.picture(tick, seat.number, jpeg)

        loop = GameLoop(room, views, self.clock, int(self.cfg.max_behind), keep)
        return OpenRoom(order, room, loop, truth, recorder, views.close)

    def _played(self, order: RoomOrder, game: Mapping[str, Any], fps: float) -> Played:
        return Played(order.name, game, order.seed, fps, order.world, self._weights_of(order), order.prompt)

    def _taken_up(self, truth: ServedWorld, end: SessionEnd) -> SessionEnd | None:
        """Brings a world to where its session ended; where it cannot be brought there, it begins anew."""
        try:
            truth.start_from(state_at_end(truth, end))
        except Exception as mistake:  # whatever a recording of before holds: it must not keep a room from opening
            log.warning("room %s begins anew: %s", end.header.name, mistake)
            return None
        log.warning(
            "room %s goes on after tick %d; %d seats wait for their players",
            end.header.name, end.last_tick, len(end.seats),
        )  # fmt: skip
        return end

    def _open_sessions(self) -> list[SessionEnd]:
        """The sessions that this server can go on with: of worlds as it would make them itself."""
        rules = self.recording
        if rules.folder is None or not rules.restore_s:
            return []
        found = open_sessions(Path(rules.folder), time.time() - rules.restore_s)
        return [end for end in found if self._is_ours(end.header)]

    def _is_ours(self, header: Header) -> bool:
        try:
            wanted = _order_of(header)
            order = self.order(**asdict(wanted))
        except (KeyError, ValueError):
            return False
        first = self.cfg.first_room.name
        is_same = header.game == self.offer.game(order) and header.weights == self._weights_of(order)
        return is_same and (order.name != first or order == self.order(first))

    def _weights_of(self, order: RoomOrder) -> str:
        return Path(self.cfg.weights).name if order.world == MODEL else ""

    async def _open_first_rooms(self) -> None:
        """The first room, and then, while people come in, those that were being played when the last server ended."""
        self._stage = Stage("building the first world", 50)
        try:
            await self.lobby.open(self.order(self.cfg.first_room.name))
        except Exception as mistake:  # whatever it is: without its first room a server would say "warming up" for ever
            self.failure = mistake
            return
        self._stage = Stage("ready", 100)
        for name, end in list(self._ended.items()):
            if name not in self._ended:  # somebody came before its turn
                continue
            try:
                await self.lobby.open(_order_of(end.header), may_make_space=False)
            except JoinError:  # no more fit, or the server ends: the others wait until somebody asks for them
                return
            except Exception as mistake:  # whatever a recording of before holds: it must not end the server
                log.warning("room %s is not taken up: %s", name, mistake)


def build_tiers(configs: Iterable[Any]) -> Sequence[Tier]:
    """The qualities that can be offered here. Raises ValueError where the first is not JPEG."""
    tiers: list[Tier] = []
    for tier in map(build, configs):
        if reason := tier.fault():
            log.warning("quality %s is not offered: %s", tier.name, reason)
        else:
            tiers.append(tier)
    names = [tier.name for tier in tiers]
    if len(set(names)) < len(names):
        raise ValueError(f"tiers have names of their own, got {names}")
    if not tiers or not isinstance(tiers[0], Jpeg):
        raise ValueError(
            "tiers begin with one of gamegen_x.serve.frame_codec.Jpeg, whose pictures everybody can read and sessions "
            f"keep; got {[type(tier).__name__ for tier in tiers]}"
        )
    return tiers


def _order_of(header: Header) -> RoomOrder:
    """The order that a recorded room was made of. Raises KeyError or ValueError where there was none."""
    game = header.game
    return RoomOrder(header.name, header.world, game["num_players"], game["camera"], header.seed, header.prompt)


def _record_seat(recorder: Recorder, room: Room, seat: Seat, hello: Hello | None) -> None:
    """`Room.on_seat`, for a session: who plays, as keyed hashes."""
    if hello is None:
        recorder.rise(room.tick + 1, seat.number)
    else:
        recorder.sit(room.tick + 1, seat.number, hello.token, seat.resume)
