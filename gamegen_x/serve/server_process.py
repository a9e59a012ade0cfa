"""A server in a process of its own, for those who measure it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gamegen_x.config import CONFIGS

END_S = 30.0
POLL_S = 0.1
FAILED_LINES = 5  # of a server's log, in a message


@contextmanager
def server_process(
    command: Sequence[str], log_path: Path, is_ready: Callable[[], bool], patience_s: float
) -> Iterator[float]:
    """Runs the command until it is ready, and tells after how many seconds; ends it with SIGTERM.

    Raises ValueError with its last words where it does not become ready.
    """
    started = time.monotonic()
    with log_path.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=CONFIGS.parent)
        try:
            while not is_ready():
                if process.poll() is not None or time.monotonic() > started + patience_s:
                    said = "\n".join(log_path.read_text().splitlines()[-FAILED_LINES:])
                    raise ValueError(f"the server was not ready after {time.monotonic() - started:.0f} s:\n{said}")
                time.sleep(POLL_S)
            yield time.monotonic() - started
        finally:
            end(process)


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that is not enough."""
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
