"""A real server in a thread, and real players: what the tests of sockets share."""

import contextlib
import threading
import time

import httpx
import uvicorn
from hydra import compose, initialize_config_dir
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gamegen_x.config import CONFIGS
from gamegen_x.serve.__main__ import listen
from gamegen_x.serve.app import create_app
from gamegen_x.serve.client import Client
from gamegen_x.serve.host import Host
from gamegen_x.serve.protocol import PROTOCOL

PATIENCE_S = 60.0  # machines that run tests are busy


def serve_config(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("serve", overrides=["world=truth", *overrides])


def wait_until(is_true, said="it never became true", seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, said
        time.sleep(0.02)


class RunningServer:
    def __init__(self, host):
        self.host = host
        self._socket = listen("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url, self.ws = f"http://{self.address}", f"ws://{self.address}/ws"
        config = uvicorn.Config(
            create_app(host),
            ws="websockets-sansio",
            ws_max_size=host.sockets.message_bytes,
            ws_per_message_deflate=False,
            log_level="error",
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: self.host.stage.is_ready, "the server never became ready")
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)

    @property
    def rooms(self):
        return self.host.lobby.rooms


@contextlib.contextmanager
def running(*overrides):
    with RunningServer(Host(serve_config(*overrides))) as server:
        yield server


class PlayerThread:
    """An honest player: the client's core on a real socket, in a thread of its own."""

    def __init__(self, server, room="home", held=1, quality=""):
        harness = server.host.harness
        self.client = Client(harness.client, harness.room.sync, room, token="honest")
        self.frames, self.frame_times, self.held, self.num_connections = [], [], held, 0
        self._url = f"{server.ws}?quality={quality}"
        self._server, self._is_done = server, False
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self):
        httpx.post(f"{self._server.url}/rooms", json={"name": self.client.room}, timeout=PATIENCE_S).raise_for_status()
        self._thread.start()
        wait_until(lambda: self.frames, "no picture came")
        return self

    def __exit__(self, *_):
        self._is_done = True
        self._thread.join(PATIENCE_S)

    def _play(self):
        with connect(self._url, subprotocols=[PROTOCOL], compression=None) as socket:
            self.num_connections += 1
            self.client.connect(time.monotonic() * 1000)
            with contextlib.suppress(ConnectionClosed):
                while not self._is_done:
                    self._turn(socket)
                self.client.leave()
                for data in self.client.take():
                    socket.send(data)

    def _turn(self, socket):
        self.client.step(time.monotonic() * 1000, self.held)
        for data in self.client.take():
            socket.send(data)
        end = time.monotonic() + 1 / 48
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                before = self.client.frame
                self.client.receive(socket.recv(timeout=left), time.monotonic() * 1000)
                if self.client.frame is not before:
                    self.frames.append(self.client.frame)
                    self.frame_times.append(time.monotonic())
