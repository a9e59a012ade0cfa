"""The server's routes: sockets, pages and figures for the outside, translated for what is inside."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from gamegen_x.config import MOST_SEEDS
from gamegen_x.games.snowglobe_look import PLAYER_COLOURS
from gamegen_x.schema.trace import MAX_PLAYERS
from gamegen_x.serve import figures
from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.frame_codec import Jpeg, Tier
from gamegen_x.serve.generate import DONE, ClipOrder, Job, QueueFullError
from gamegen_x.serve.host import Host, TooManySocketsError
from gamegen_x.serve.plain import ControlError, PlainSocket, control_once
from gamegen_x.serve.player import Player
from gamegen_x.serve.protocol import MAX_TEXT, PROTOCOL
from gamegen_x.serve.seat import JoinError

STATIC = Path(__file__).parent / "static"
MAX_BODY = 16_384  # bytes of a request
MAX_PROMPT = 2000  # characters
GHOST_FPS = 12
GONE = (WebSocketDisconnect, OSError, RuntimeError)  # RuntimeError: Starlette's word for "it was closed already"
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self' ws: wss:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class RoomRequest(BaseModel):
    """A room as somebody wants it; what is left out the server chooses. A room that is there stays as it is."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=64)] = ""
    world: Annotated[str, Field(max_length=16)] | None = None
    num_players: Annotated[int, Field(ge=1, le=MAX_PLAYERS)] | None = None
    camera: Annotated[str, Field(max_length=32)] | None = None
    seed: Annotated[int, Field(ge=0, lt=MOST_SEEDS)] | None = None
    prompt: Annotated[str, Field(max_length=MAX_PROMPT)] = ""


class GenerateRequest(BaseModel):
    """A clip to be made: `keys` are frames of each key, such as "W*24 D*24"."""

    model_config = ConfigDict(extra="forbid")
    prompt: Annotated[str, Field(max_length=MAX_PROMPT)] = "A player walks through a summer land on a clear day."
    keys: Annotated[str, Field(max_length=MAX_PROMPT)] = "_*1"
    num_frames: Annotated[int, Field(ge=1)] = 102
    instruction: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    instruction_frame: Annotated[int, Field(ge=0)] | None = None  # null: the middle of the clip
    num_players: Annotated[int, Field(ge=1, le=2)] = 1
    seed: Annotated[int, Field(ge=0, lt=MOST_SEEDS)] = 0


class ControlRequest(BaseModel):
    """One control signal for one player, without a socket. `resume` of the answer keeps the seat for the next call."""

    model_config = ConfigDict(extra="forbid")
    room: Annotated[str, Field(max_length=64)]
    resume: Annotated[str, Field(max_length=1024)] = ""
    signal: dict[str, Any]


def create_app(host: Host) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with host.running():
            yield

    app = FastAPI(
        title="GameGen-X",
        description="Play a generated world together. `/ws` speaks ggx.v1: see docs/wire.md.",
        lifespan=lifespan,
    )
    app.state.host = host
    app.add_exception_handler(RequestValidationError, _refuse)
    _add_doors(app, host)
    _add_play(app, host)
    _add_rooms(app, host)
    _add_generate(app, host)
    _add_figures(app, host)
    app.mount("/", StaticFiles(directory=STATIC, html=True), name="page")
    return app


def _refuse(_: Request, mistake: Exception) -> Response:
    """What is wrong with a request's values, without the values: not all of them can be written."""
    assert isinstance(mistake, RequestValidationError)
    found = [{name: each[name] for name in ("type", "loc", "msg")} for each in mistake.errors()]
    return Response(json.dumps({"detail": found}), 422, media_type="application/json")


def _add_doors(app: FastAPI, host: Host) -> None:
    """What every request passes."""

    @app.middleware("http")
    async def doors(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY or "transfer-encoding" in request.headers:
            return JSONResponse({"detail": f"a request has a length of at most {MAX_BODY} bytes"}, 413)
        if request.method not in ("GET", "HEAD") and not is_allowed(request.headers, host.cfg.origins):
            return JSONResponse({"detail": "this page may not use this server; see `origins` in serve.yaml"}, 403)
        response = await call_next(request)
        if request.url.path not in ("/docs", "/redoc"):  # they load their looks from elsewhere
            response.headers.update(SECURITY)
        return response


def is_allowed(headers: Any, origins: Any) -> bool:
    """Whether a page may talk to this server: its own pages, those on the list, and whatever is no page."""
    origin = headers.get("origin")
    return origin is None or origin in origins or urlsplit(origin).netloc == headers.get("host")


def _add_play(app: FastAPI, host: Host) -> None:
    @app.websocket("/ws")
    async def play(socket: WebSocket, quality: str = "") -> None:
        """One player or spectator, in ggx.v1."""
        await _serve(socket, socket, host.tier(quality))

    @app.websocket("/stream")
    async def stream(socket: WebSocket, room: str = "", quality: str = "") -> None:
        """The same world for simple clients: pictures come as bare JPEG, control signals go as JSON."""
        tier = host.tier(quality)
        await _serve(socket, PlainSocket(socket, room), tier if isinstance(tier, Jpeg) else host.best_tier)

    async def _serve(socket: WebSocket, lines: WebSocket | PlainSocket, tier: Tier) -> None:
        if not is_allowed(socket.headers, host.cfg.origins):
            return await socket.close()  # before it is accepted: 403
        if host.lobby.is_draining:
            await socket.accept()
            return await socket.close(status.WS_1012_SERVICE_RESTART, ErrorCode.GOING_AWAY.value)
        try:
            with host.socket_of(socket.client.host if socket.client else ""):
                offered = socket.scope.get("subprotocols", [])
                await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
                rules = host.harness.connection
                player = Player(lines, host.lobby, rules, host.clock, tier, host.sockets.stall_s, GONE)
                await player.play()
        except TooManySocketsError as full:
            await socket.accept()
            await socket.close(status.WS_1013_TRY_AGAIN_LATER, str(full))
        return None

    @app.post("/control")
    async def control(request: ControlRequest) -> dict[str, Any]:
        """Presses keys or says something for one player, and answers with the next picture of their view."""
        try:
            return await control_once(host, request.room, request.resume, json.dumps(request.signal))
        except ControlError as refused:
            headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s else None
            raise HTTPException(refused.status, str(refused), headers) from None


def _add_rooms(app: FastAPI, host: Host) -> None:
    @app.post("/rooms")
    async def open_room(request: RoomRequest) -> dict[str, Any]:
        """Opens a room, or finds the one of that name. Without a name it gets one that nobody guesses."""
        try:
            wish = request.model_dump()
            wish["name"] = request.name or secrets.token_hex(4)
            found = await host.lobby.open(host.order(**wish))
        except JoinError as refused:
            raise HTTPException(503, str(refused), {"Retry-After": "5"}) from None
        except ValueError as mistake:
            raise HTTPException(422, str(mistake)) from None
        return figures.of_room(found)

    @app.get("/rooms/{name}/truth/{seat}.mjpeg")
    async def truth(name: str, seat: int) -> StreamingResponse:
        """What is true, drawn by the game itself: to be laid over what a model makes of it."""
        found = host.lobby.rooms.get(name)
        if found is None or not 0 <= seat < found.room.world.num_players:
            raise HTTPException(404, f"no room {name!r} with a seat {seat}")
        if not found.truth.is_drawn:
            raise HTTPException(404, f"nobody can draw what is true in room {name!r}: a network keeps it")

        async def pictures() -> AsyncIterator[bytes]:
            while host.lobby.rooms.get(name) is found and not host.lobby.is_draining:
                jpeg = host.best_tier.encode_one(await asyncio.to_thread(found.true_view, seat))
                yield b"--ghost\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n"
                await asyncio.sleep(1 / GHOST_FPS)

        return StreamingResponse(pictures(), media_type="multipart/x-mixed-replace; boundary=ghost")


def _add_generate(app: FastAPI, host: Host) -> None:
    @app.post("/generate", status_code=202)
    async def generate(request: GenerateRequest) -> dict[str, Any]:
        """Begins a clip; ask for the answer's `url` until its stage is "done"."""
        try:
            return described(host.generator.submit(ClipOrder(**request.model_dump())))
        except QueueFullError as full:
            raise HTTPException(503, str(full), {"Retry-After": "60"}) from None
        except FileNotFoundError as missing:
            raise HTTPException(503, str(missing)) from None
        except ValueError as mistake:
            raise HTTPException(422, str(mistake)) from None

    @app.get("/generate/{job_id}")
    async def progress(job_id: str) -> dict[str, Any]:
        return described(_job(job_id))

    @app.get("/generate/{job_id}/video")
    async def video(job_id: str) -> FileResponse:
        job = _job(job_id)
        if job.stage != DONE or job.path is None:
            raise HTTPException(409, f"the clip is {job.stage}; ask for {job.percent:g} per cent more patience")
        return FileResponse(job.path, media_type="video/mp4", filename=f"gamegen-x-{job_id}.mp4")

    def _job(job_id: str) -> Job:
        if job_id not in host.generator.jobs:
            raise HTTPException(404, "no such clip; old ones are removed")
        return host.generator.jobs[job_id]

    def described(job: Job) -> dict[str, Any]:
        url = f"/generate/{job.id}"
        done = {"video": f"{url}/video"} if job.stage == DONE else {}
        return {"id": job.id, "stage": job.stage, "percent": job.percent, "said": job.said, "url": url, **done}


def _add_figures(app: FastAPI, host: Host) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        """The process lives."""
        return {"ok": True}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        """Whether one can play; until then how far it is."""
        stage = host.stage
        response.status_code = 200 if stage.is_ready else 503
        return {"ready": stage.is_ready, "stage": stage.name, "percent": stage.percent}

    @app.get("/status")
    async def host_status() -> dict[str, Any]:
        """Rooms, their speed, and how well everybody is in step."""
        return figures.of_host(host)

    @app.get("/metrics")
    async def metrics() -> Response:
        """The same for Prometheus."""
        return Response(figures.prometheus(host), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/page.json")
    async def page() -> dict[str, Any]:
        """What the page must know before anybody plays."""
        cfg, offer = host.cfg, host.offer
        return {
            "worlds": list(offer.worlds),
            "weights": Path(cfg.weights).name,
            "clip_weights": Path(cfg.generate.weights).name,
            "num_players": None if host.model is None else host.model.shape.num_players,
            "cameras": list(offer.cameras),
            "is_learned": offer.is_learned,
            "tiers": [{"name": tier.name, "codec": tier.codec} for tier in host.tiers],
            "first_room": str(cfg.first_room.name),
            "min_players": offer.num_players[0],
            "max_players": offer.num_players[-1],
            "anticipate": {camera: {k: list(v) for k, v in keys.items()} for camera, keys in cfg.anticipate.items()},
            "sentences": list(offer.sentences),
            "does": dict(cfg.does.get(offer.action_space, {})),
            "player_colours": [f"rgb({red:.0f} {green:.0f} {blue:.0f})" for red, green, blue in PLAYER_COLOURS],
        }
