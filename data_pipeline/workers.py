"""Work on many sources in several processes; what each yields arrives as it happens."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, wait
from typing import Any

import cv2

Work = Callable[..., Iterator[Any]]  # called with one job's arguments


def run_in_workers(
    work: Work, jobs: Sequence[tuple[Any, ...]], workers: int, at_work: AbstractContextManager[None]
) -> Iterator[tuple[int, Any]]:
    """Yields (number of the job, what it yields). `work` travels to each worker once, so what it loads stays loaded.

    Every worker holds `at_work` while it lives. A worker whose parent is gone ends at its next word. A ValueError and
    an OSError of a job come back as they are; any other mistake as a RuntimeError with the worker's traceback.
    """
    if workers == 1 or len(jobs) <= 1:
        for number, job in enumerate(jobs):
            for item in work(*job):
                yield number, item
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes inherit it: they share the cores among themselves
    context = multiprocessing.get_context("spawn")  # video readers do not survive a fork
    processes = []
    free: list[Connection] = []
    try:
        for _ in range(min(workers, len(jobs))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(work, theirs, at_work), daemon=True)
            process.start()
            theirs.close()  # so that the end of the worker is the end of the pipe
            processes.append(process)
            free.append(ours)
        yield from _converse(jobs, free)
        for pipe in free:
            pipe.close()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()


def _converse(jobs: Sequence[tuple[Any, ...]], pipes: Sequence[Connection]) -> Iterator[tuple[int, Any]]:
    waiting = list(enumerate(jobs))[::-1]
    busy: dict[Connection, int] = {}
    for pipe in pipes:
        busy[pipe] = _hand_out(pipe, waiting)
    while busy:
        for pipe in [pipe for pipe in wait(list(busy)) if isinstance(pipe, Connection)]:
            number = busy[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, ConnectionError):
                raise RuntimeError(
                    f"a worker died while it worked on {jobs[number][0]!r} (out of memory?). Nothing finished is lost: "
                    "run the same command again, with fewer workers if it happens again"
                ) from None
            if kind == "item":
                yield number, value
            elif kind == "mistake":
                raise ValueError(value)
            elif kind == "system":
                raise OSError(*value)
            elif kind == "bug":
                raise RuntimeError(f"while working on {jobs[number][0]!r}:\n{value}")
            elif waiting:
                busy[pipe] = _hand_out(pipe, waiting)
            else:
                del busy[pipe]


def _hand_out(pipe: Connection, waiting: list[tuple[int, tuple[Any, ...]]]) -> int:
    number, job = waiting.pop()
    with contextlib.suppress(ConnectionError):  # it has died: who listens to it next says so
        pipe.send(job)
    return number


def _serve(work: Work, pipe: Connection, at_work: AbstractContextManager[None]) -> None:
    cv2.setNumThreads(1)
    with at_work:
        # Whoever holds `at_work` before its parent died keeps the next run waiting; whoever comes later must not begin.
        parent = multiprocessing.parent_process()
        while parent is not None and parent.is_alive():
            try:
                job = pipe.recv()
                try:
                    for item in work(*job):
                        pipe.send(("item", item))
                except ValueError as mistake:
                    pipe.send(("mistake", str(mistake)))
                except OSError as mistake:
                    known = mistake.errno, mistake.strerror, mistake.filename
                    pipe.send(("system", known if mistake.errno else (str(mistake),)))
                except Exception:
                    pipe.send(("bug", traceback.format_exc()))
                else:
                    pipe.send(("done", None))
            except (EOFError, ConnectionError):
                return  # the parent is gone, or has no more work
