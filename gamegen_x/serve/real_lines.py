"""Bots and a server on faulty lines between them, with real sockets: `python -m gamegen_x.serve.real_lines`.

For each line of the config a server runs at one end of a TunRelay and bots at the other. The session is played again
afterwards, and every state compared with the hash that the server had logged. The last line is JSON.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gamegen_x.config import CONFIGS, entry_point, nearest, to_dict
from gamegen_x.schema.files import atomic_file
from gamegen_x.serve.__main__ import check_packages
from gamegen_x.serve.fault_link import LinkFaults
from gamegen_x.serve.replay import replayed, world_of
from gamegen_x.serve.session_log import SUFFIX, read_session
from gamegen_x.serve.tun_relay import TunRelay

MISSED = 1  # exit status
SERVER, PLAYERS = 0, 1  # ends
PORT = 8000  # of a namespace in which nobody else listens
END_S = 30.0
POLL_S = 0.1
FPS = 24.0  # ticks of the lines' times
READY = "ready\n"
FAILED_LINES = 5


@contextmanager
def serving(relay: TunRelay, output: Path, settings: list[str], patience_s: float) -> Iterator[None]:
    """A server at its end, until it is ready. Raises ValueError with its last words."""
    log_path = output / "server.log"
    command = [sys.executable, "-m", "gamegen_x.serve", f"host={relay.addresses[SERVER]}", f"port={PORT}", *settings]
    with log_path.open("w") as log:
        process = subprocess.Popen(
            relay.command(SERVER, *command), stdout=log, stderr=subprocess.STDOUT, cwd=CONFIGS.parent
        )
        try:
            until = time.monotonic() + patience_s
            while READY not in log_path.read_text():
                if process.poll() is not None or time.monotonic() > until:
                    said = "\n".join(log_path.read_text().splitlines()[-FAILED_LINES:])
                    raise ValueError(f"the server was not ready:\n{said}")
                time.sleep(POLL_S)
            yield
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def played(line: Mapping[str, Any], output: Path, cfg: DictConfig) -> dict[str, Any]:
    """What the bots saw on one line, and whether the session is played again with the same states."""
    output.mkdir(parents=True, exist_ok=True)
    quiet = LinkFaults(delay=float(line.get("delay", LinkFaults.delay)))
    with TunRelay(quiet, cfg.seed, FPS) as relay:
        settings = ["world=truth", f"recording.folder={output / 'sessions'}", "recording.restore_s=0"]
        settings += [f"generate.folder={output / 'generated'}", *cfg.server]
        with serving(relay, output, settings, cfg.patience_s):
            url = f"url=http://{relay.addresses[SERVER]}:{PORT}"
            bots = [
                url,
                f"num={cfg.num_bots}",
                f"seats=[{cfg.num_bots}]",
                f"seconds={cfg.seconds + 2 * cfg.quiet_s}",
                f"seed={cfg.seed}",
            ]
            command = [sys.executable, "-m", "gamegen_x.serve.bots", *bots, f"output={output / 'bots.json'}"]
            playing = subprocess.Popen(
                relay.command(PLAYERS, *command),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=CONFIGS.parent,
            )
            time.sleep(cfg.quiet_s)  # bots start and join
            relay.faults = faults_from(line, relay.now)
            time.sleep(cfg.seconds)
            relay.faults = quiet  # what was said can arrive before the end
            said, mistakes = playing.communicate()
            if playing.returncode != 0:
                raise ValueError(f"the bots failed:\n{mistakes[-2000:]}")
            share = relay.num_lost / max(1, relay.num_sent)
    (log,) = (output / "sessions").glob(f"bots-0*{SUFFIX}")
    session = read_session(log)
    num_ticks = sum(1 for _ in replayed(session, world_of(session)))
    return {
        **json.loads(said.splitlines()[-1]),
        "packets_lost_percent": round(100 * share, 2),
        "ticks_replayed": num_ticks,
    }


def faults_from(line: Mapping[str, Any], now: float) -> LinkFaults:
    """A line whose outages count from now."""
    outages = [(now + begin, now + end) for begin, end in line.get("outages", ())]
    return LinkFaults(**{**line, "outages": outages})


def is_whole(row: Mapping[str, Any]) -> bool:
    return row["desyncs"] == 0 and row["lost_events"] == 0 and row["pictures_min"] > 0 and row["ticks_replayed"] > 0


def check_lines(lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError where a line has a property that no line has."""
    for name, line in lines.items():
        try:
            faults_from(line, 0.0)
        except TypeError as mistake:
            raise ValueError(f"lines.{name}: {mistake}; see LinkFaults in serve/fault_link.py") from None


@entry_point("real_lines", {"lines": dict})
def main(cfg: DictConfig) -> None:
    if cfg.seconds < 1 or cfg.quiet_s < 1 or cfg.num_bots < 1:
        raise ValueError("seconds, quiet_s and num_bots are at least 1")
    lines: dict[str, dict[str, Any]] = to_dict(cfg.lines)
    check_lines(lines)
    chosen = [cfg.only] if isinstance(cfg.only, str) else list(cfg.only or lines)
    for name in chosen:
        if name not in lines:
            raise ValueError(f"only={name}: no such line{nearest(name, list(lines))}; there are {', '.join(lines)}")
    check_packages()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(MISSED))  # namespaces outlive who made them: they are removed
    rows: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(chosen, 1):
        left = (len(chosen) - number + 1) * (cfg.seconds + 2 * cfg.quiet_s)
        print(f"[{number}/{len(chosen)}] {name}: about {left / 60:.0f} min left in all", file=sys.stderr, flush=True)
        rows[name] = played(lines[name], Path(cfg.output) / name.replace(" ", "-"), cfg)
        print(f"    {json.dumps(rows[name])}", file=sys.stderr, flush=True)
    figures = {"lines": rows, "is_passed": all(map(is_whole, rows.values()))}
    with atomic_file(Path(cfg.output) / "figures.json") as path:
        path.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))
    if not figures["is_passed"]:
        sys.exit(MISSED)


if __name__ == "__main__":
    main()
