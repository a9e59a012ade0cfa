"""Processes that the server starts: they end with it, however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

GRACE_S = 2.0


def check_niceness(niceness: int) -> None:
    """Raises ValueError for one that `nice` does not have, or only for an administrator."""
    if not 0 <= niceness <= 19:
        raise ValueError(f"niceness is between 0 (like all others) and 19 (after all others), got {niceness}")


def begin_child() -> None:
    """Called in a child: leaves Ctrl-C to the parent, and ends when the parent has gone, even where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_wait_and_end, args=(parent,), daemon=True).start()


def give_way(niceness: int) -> None:
    """Lets others that want the same core come first, by `niceness`, where the system knows it.

    So the event loop, which needs little and needs it now, waits for no slice of a process that computes. Called after
    loading what others wait for: beside a few busy browsers that would take minutes.
    """
    threads = Path("/proc/self/task")
    if threads.is_dir():  # Linux counts for each thread
        for thread in threads.iterdir():
            number = int(thread.name)
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.setpriority(os.PRIO_PROCESS, number, min(os.getpriority(os.PRIO_PROCESS, number) + niceness, 19))
    elif hasattr(os, "nice"):
        os.nice(niceness)


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
