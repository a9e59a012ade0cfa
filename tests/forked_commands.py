"""Commands, each in a fork of one process: what all of them import is imported once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HEAVY = ("torch", "transformers")  # the second is imported by Lightning
SERVE = f"""
import json, os, resource, runpy, sys, tempfile
import gamegen_x.config

def run(words):
    sys.argv[:] = words
    if words[0].endswith(".py"):
        runpy.run_path(words[0], run_name="__main__")
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)

for line in sys.stdin:
    words, folder, environment = json.loads(line)
    out, err, heavy = (tempfile.TemporaryFile("w+") for _ in range(3))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.environ.update(environment)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            run(words)
        finally:
            heavy.write(json.dumps([name for name in {HEAVY} if name in sys.modules]))
            heavy.flush()
        sys.exit()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    told = [file.seek(0) or file.read() for file in (out, err, heavy)]
    print(json.dumps([status, told[0], told[1], json.loads(told[2]), seconds]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, what it had imported of `HEAVY`, and its seconds of a core."""

    status: int
    out: str
    err: str
    imported: list[str]
    seconds: float


class ForkedCommands:
    """Runs commands in `folder`: words as after `python`, a script or, without .py, a module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HYDRA", "GAMEGEN"))}
        root = str(Path(__file__).resolve().parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            cwd=folder,
            env={**kept, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> ForkedCommands:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, *words: str, **environment: str) -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([words, str(self.folder), environment]) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))
