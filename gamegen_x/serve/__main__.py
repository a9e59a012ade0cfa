"""Serves a world to browsers: `python -m gamegen_x.serve` (configs/serve.yaml)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from gamegen_x.config import entry_point
from gamegen_x.schema.weights_folder import SHIPPED

if TYPE_CHECKING:
    from gamegen_x.serve.host import Host

NEEDED = ("fastapi", "msgspec", "prometheus_client", "simplejpeg", "uvicorn", "websockets", "xxhash")
NOTSENT_LOWAT = getattr(
    socket, "TCP_NOTSENT_LOWAT", None
)  # where it is not known, pictures wait a little in the kernel
NOTSENT_BYTES = 16_384
USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)  # where it is not known, who reads no more costs a socket
USER_TIMEOUT_MS = 20_000
BACKLOG = 128


@entry_point("serve")
def main(cfg: DictConfig) -> None:
    check_packages()

    import uvicorn

    from gamegen_x.serve.app import create_app
    from gamegen_x.serve.host import Host
    from gamegen_x.serve.lobby import MODEL

    if cfg.world == MODEL:
        check_weights(cfg.weights)
    host = Host(cfg)  # refuses what cannot be served, before anything is opened
    listener = listen(cfg.host, cfg.port)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.announcing = asyncio.create_task(self.announce())

        async def announce(self) -> None:
            await announce(host)
            if host.failure is not None:
                self.should_exit = True

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Players hear that the server restarts before their sockets are closed."""
            await host.drain()
            await super().shutdown(sockets)

    server = Server(
        uvicorn.Config(
            create_app(host),
            ws="websockets-sansio",
            ws_max_size=host.sockets.message_bytes,
            ws_per_message_deflate=False,  # pictures are compressed already, and deltas do not get smaller
            ws_ping_interval=host.sockets.ping_s,
            ws_ping_timeout=host.sockets.stall_s,
            timeout_graceful_shutdown=8,
            log_level="warning",
            server_header=False,
        )
    )
    shown = "127.0.0.1" if cfg.host in ("0.0.0.0", "::") else cfg.host
    print(f"playing {cfg.world}: http://{shown}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # as it is meant to end; everybody has been told
        server.run(sockets=[listener])
    print("ended", flush=True)
    if host.failure is not None:
        raise host.failure


async def announce(host: Host) -> None:
    """Says in the terminal how far it is, until one can play, or it is known that nobody can."""
    said = ""
    while not host.stage.is_ready:
        if host.failure is not None:
            return
        if host.stage.name != said:
            said = host.stage.name
            print(f"{said} ...", flush=True)
        await asyncio.sleep(0.1)
    print("ready", flush=True)


def check_packages() -> None:
    """Raises ValueError that names the extra."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} not installed; run: {sys.executable} -m pip install -c constraints.txt -e '.[serve]'"
        )


def check_weights(folder: str) -> None:
    """Raises ValueError that says how to get weights."""
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(
            f"there are no weights in {folder}; train some with `make demo`, name others with weights=... "
            f"({SHIPPED}), or play without a model: python -m gamegen_x.serve world=truth"
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; those it accepts have the same settings. Raises ValueError that says what to run instead."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if NOTSENT_LOWAT is not None:
        listener.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, NOTSENT_BYTES)
    if USER_TIMEOUT is not None:
        listener.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, USER_TIMEOUT_MS)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OverflowError:
        listener.close()
        raise ValueError(f"a port is a number from 0 to 65535, got {port}") from None
    except OSError as mistake:
        listener.close()
        if mistake.errno == errno.EADDRINUSE:
            kept = [each for each in sys.argv[1:] if not each.startswith("port=")]
            command = shlex.join(["python", "-m", "gamegen_x.serve", *kept, f"port={port + 1}"])
            said = f"port {port} is taken; run: {command}"
        elif mistake.errno in (errno.EACCES, errno.EPERM):
            said = f"port {port} is not yours to open; run: python -m gamegen_x.serve port=8000"
        else:
            said = f"cannot listen on {host}: {mistake.strerror}; run: python -m gamegen_x.serve host=127.0.0.1"
        raise ValueError(said) from None
    return listener


if __name__ == "__main__":
    main()
