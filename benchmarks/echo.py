"""A bare WebSocket echo on the stack of `gamegen_x.serve`: `python -m benchmarks.echo PORT`."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()


@app.get("/readyz")
async def readyz() -> dict[str, bool]:
    return {"ready": True}


@app.websocket("/ws")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_bytes(await socket.receive_bytes())
    except WebSocketDisconnect:
        return


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), ws="websockets-sansio", ws_per_message_deflate=False, log_level="warning"
    )  # fmt: skip
