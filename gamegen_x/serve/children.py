"""Processes that the server starts: they end with it, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess

GRACE_S = 2.0


def end_with_parent() -> None:
    """Called in a child: leaves Ctrl-C to the parent, and ends when the parent has gone, even where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_wait_and_end, args=(parent,), daemon=True).start()


def end_child(process: BaseProcess) -> None:
    """Ends a child that may hang."""
    if process.is_alive():
        process.terminate()
        process.join(GRACE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _wait_and_end(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
