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

from gamegen_x.config import CONFIGS, chosen, entry_point, to_dict
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.trace import MAX_PLAYERS
from gamegen_x.serve.__main__ import check_packages
from gamegen_x.serve.fault_link import LinkFaults
from gamegen_x.serve.replay import replayed, world_of
from gamegen_x.serve.server_process import POLL_S, end, server_process
from gamegen_x.serve.session_log import SUFFIX, read_session
from gamegen_x.serve.tun_relay import TunRelay

MISSED = 1  # exit status
SERVER, PLAYERS = 0, 1  # ends
PORT = 8000  # of a namespace in which nobody else listens
FPS = 24.0  # ticks of the lines' times
READY = "ready\n"
SESSIONS = f"bots-0*{SUFFIX}"
SHORTEST_QUIET_S = 2.0  # longer than bots leave to what happened last


def played(line: Mapping[str, Any], output: Path, cfg: DictConfig) -> dict[str, Any]:
    """What the bots saw on one line, and whether the session is played again with the same states."""
    sessions, log_path = output / "sessions", output / "server.log"
    sessions.mkdir(parents=True, exist_ok=True)
    earlier = set(sessions.glob(SESSIONS))
    quiet = LinkFaults(delay=float(line.get("delay", LinkFaults.delay)))
    with TunRelay(quiet, cfg.seed, FPS) as relay:
        settings = [f"host={relay.addresses[SERVER]}", f"port={PORT}", "world=truth", "recording.restore_s=0"]
        settings += [f"recording.folder={sessions}", f"generate.folder={output / 'generated'}", *cfg.server]
        command = relay.command(SERVER, sys.executable, "-m", "gamegen_x.serve", *settings)
        with server_process(command, log_path, lambda: READY in log_path.read_text(), cfg.patience_s):
            with playing(relay, output, cfg) as bots:
                until = time.monotonic() + cfg.patience_s
                while not set(sessions.glob(SESSIONS)) - earlier and bots.poll() is None and time.monotonic() < until:
                    time.sleep(POLL_S)  # a session begins when somebody sits down
                time.sleep(cfg.quiet_s)
                relay.faults = faults_from(line, relay.now)
                time.sleep(cfg.seconds)
                relay.faults = quiet  # what was said can arrive before the end
                said, mistakes = bots.communicate(timeout=2 * cfg.quiet_s + cfg.patience_s)
                if bots.returncode != 0:
                    raise ValueError(f"the bots failed:\n{mistakes[-2000:]}")
            share = relay.num_lost / max(1, relay.num_sent)
    new = set(sessions.glob(SESSIONS)) - earlier
    if len(new) != 1:
        raise ValueError(f"{len(new)} new sessions of bots in {sessions}, expected one; {log_path} may say why")
    return {
        **json.loads(said.splitlines()[-1]),
        **played_again(new.pop()),
        "packets_lost_percent": round(100 * share, 2),
    }


@contextmanager
def playing(relay: TunRelay, output: Path, cfg: DictConfig) -> Iterator[subprocess.Popen[str]]:
    """Bots at their end, who end with whoever measures them."""
    settings = [f"url=http://{relay.addresses[SERVER]}:{PORT}", f"num={cfg.num_bots}", f"seats=[{cfg.num_bots}]"]
    settings += [f"seconds={cfg.seconds + 2 * cfg.quiet_s}", f"seed={cfg.seed}", f"output={output / 'bots.json'}"]
    command = relay.command(PLAYERS, sys.executable, "-m", "gamegen_x.serve.bots", *settings)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CONFIGS.parent
    ) as bots:
        try:
            yield bots
        finally:
            end(bots)


def played_again(log: Path) -> dict[str, Any]:
    session, num_ticks = read_session(log), 0
    try:
        for _ in replayed(session, world_of(session)):
            num_ticks += 1
    except ValueError as difference:
        return {"ticks_replayed": num_ticks, "first_difference": str(difference)}
    return {"ticks_replayed": num_ticks, "first_difference": None}


def faults_from(line: Mapping[str, Any], now: float) -> LinkFaults:
    """A line whose outages count from now."""
    outages = [(now + begin, now + end) for begin, end in line.get("outages", ())]
    return LinkFaults(**{**line, "outages": outages})


def is_whole(row: Mapping[str, Any]) -> bool:
    """Nobody's state differed, no event and no seat was lost, and the session, played again, is the same."""
    is_same = row["first_difference"] is None and row["ticks_replayed"] > 0
    return (
        is_same and row["pictures_min"] > 0 and not any(row[name] for name in ("desyncs", "lost_events", "lost_seats"))
    )


def check_lines(lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError where a line has a property that no line has."""
    for name, line in lines.items():
        try:
            faults_from(line, 0.0)
        except (TypeError, ValueError) as mistake:
            raise ValueError(f"lines.{name}: {mistake}; see LinkFaults in serve/fault_link.py") from None


@entry_point("real_lines", {"lines": dict})
def main(cfg: DictConfig) -> None:
    if cfg.seconds < 1 or cfg.quiet_s < SHORTEST_QUIET_S or not 1 <= cfg.num_bots <= MAX_PLAYERS:
        raise ValueError(
            f"seconds is at least 1, quiet_s at least {SHORTEST_QUIET_S:g} and num_bots 1 to {MAX_PLAYERS}, "
            f"got {cfg.seconds:g}, {cfg.quiet_s:g} and {cfg.num_bots}"
        )
    lines: dict[str, dict[str, Any]] = to_dict(cfg.lines)
    check_lines(lines)
    asked = chosen(cfg.only or None, list(lines), "line")
    check_packages()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(MISSED))  # namespaces outlive who made them: they are removed
    rows: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(asked, 1):
        left = (len(asked) - number + 1) * (cfg.seconds + 2 * cfg.quiet_s)
        print(f"[{number}/{len(asked)}] {name}: about {left / 60:.0f} min left in all", file=sys.stderr, flush=True)
        rows[name] = played(lines[name], Path(cfg.output).resolve() / name.replace(" ", "-"), cfg)
        print(f"    {json.dumps(rows[name])}", file=sys.stderr, flush=True)
    figures = {"lines": rows, "is_passed": all(map(is_whole, rows.values()))}
    with atomic_file(Path(cfg.output) / "figures.json") as path:
        path.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))
    if not figures["is_passed"]:
        sys.exit(MISSED)


if __name__ == "__main__":
    main()
