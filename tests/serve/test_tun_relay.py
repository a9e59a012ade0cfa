"""Real packets on faulty lines. Skipped where the system lets nobody make network namespaces."""

import json
import subprocess
import sys

import pytest

from gamegen_x.config import CONFIGS
from gamegen_x.serve.fault_link import LinkFaults
from gamegen_x.serve.real_lines import check_lines, faults_from, is_whole
from gamegen_x.serve.tun_relay import TunRelay

FPS = 24.0
NUM_BYTES = 200_000
LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 9000)) as listening:
    print("listening", flush=True)
    connection, _ = listening.accept()
    with connection:
        while part := connection.recv(65536):
            connection.sendall(part)
"""
SPEAK = """
import os, socket, sys, threading, time
sent = os.urandom(int(sys.argv[2]))
with socket.create_connection((sys.argv[1], 9000), timeout=60) as line:
    began = time.monotonic()
    line.sendall(b"1")
    assert line.recv(1) == b"1"
    round_trip = time.monotonic() - began
    speaking = threading.Thread(target=line.sendall, args=(sent,))
    speaking.start()
    heard = bytearray()
    while len(heard) < len(sent):
        heard += line.recv(65536)
    speaking.join()
print(round_trip, heard == sent)
"""


@pytest.fixture
def relay():
    made = TunRelay(LinkFaults(delay=0.6, loss=0.03, reorder=0.05, reorder_by=0.5), seed=1, fps=FPS)
    try:
        with made:
            yield made
    except PermissionError as refusal:
        pytest.skip(str(refusal))


def test_a_stream_comes_whole_through_packets_that_are_lost_and_late(relay):
    listener = subprocess.Popen(
        relay.command(0, sys.executable, "-c", LISTEN, relay.addresses[0]), stdout=subprocess.PIPE, text=True
    )
    assert listener.stdout.readline() == "listening\n"
    listener.stdout.close()
    speak = relay.command(1, sys.executable, "-c", SPEAK, relay.addresses[0], str(NUM_BYTES))
    said = subprocess.run(speak, capture_output=True, text=True, check=True, timeout=120).stdout.split()
    assert listener.wait(10) == 0
    assert float(said[0]) >= 2 * 0.6 / FPS
    assert said[1] == "True"
    assert relay.num_lost > 0


def test_a_line_that_is_cut_carries_nothing(relay):
    relay.faults = LinkFaults(outages=[(0.0, 1e9)])
    ping = relay.command(
        1, sys.executable, "-c", "import socket, sys; socket.create_connection((sys.argv[1], 9000), 0.5)"
    )
    refused = subprocess.run([*ping, relay.addresses[0]], capture_output=True, text=True, check=False)
    assert "timed out" in refused.stderr


def test_outages_count_from_the_moment_in_which_a_line_goes_bad():
    assert faults_from({"loss": 0.1, "outages": [[0, 240]]}, 100.0) == LinkFaults(loss=0.1, outages=[(100.0, 340.0)])
    for fault, said in (
        ({"lost": 0.1}, "lost"),
        ({"loss": 15}, "share from 0 to 1, got 15"),
        ({"jitter": -1}, "at least 0, got -1"),
        ({"outages": [[0]]}, "not enough values"),
    ):
        with pytest.raises(ValueError, match=rf"lines\.bad: .*{said}"):
            check_lines({"bad": fault})


def test_a_session_is_whole_where_states_agreed_and_every_event_was_heard():
    row = {"desyncs": 0, "lost_events": 0, "lost_seats": 0, "pictures_min": 10, "ticks_replayed": 100}
    row["first_difference"] = None
    assert is_whole(row)
    for name in ("desyncs", "lost_events", "lost_seats"):
        assert not is_whole(row | {name: 1})
    for name in ("pictures_min", "ticks_replayed"):
        assert not is_whole(row | {name: 0})
    assert not is_whole(row | {"first_difference": "tick 7"})


@pytest.mark.slow
def test_bots_play_through_a_bad_line(relay, tmp_path):
    settings = ["only=loss 5", "seconds=3", "quiet_s=2", f"output={tmp_path}"]
    command = [sys.executable, "-m", "gamegen_x.serve.real_lines", *settings]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CONFIGS.parent)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = json.loads(ran.stdout.splitlines()[-1])
    assert figures == json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["lines"]) == ["loss 5"]
    assert figures["lines"]["loss 5"]["packets_lost_percent"] > 0
