"""Clocks: a client finds the server's tick, and a server keeps its step."""

import numpy as np
import pytest

from gamegen_x.serve.clock import Pacer, TickEstimate
from gamegen_x.serve.protocol import Pong

FPS = 24.0
HOUR_MS = 3.6e6


def exchange(estimate, now_ms, up_ms, down_ms, ahead_ms=0.0):
    """A Ping and its Pong over a line; the server's clock is `ahead_ms` of the client's."""
    there = now_ms + up_ms + ahead_ms
    estimate.pong(Pong(now_ms, there, there, tick=there * FPS / 1000), now_ms + up_ms + down_ms)


def test_the_quickest_of_many_exchanges_counts():
    rng, estimate = np.random.default_rng(0), TickEstimate(FPS)
    estimate.set(0, 0)
    for number in range(40):
        late = rng.exponential(40, 2)
        exchange(estimate, 500.0 * number, 20 + late[0], 20 + late[1])
        estimate.tick(500.0 * number + 200)
    assert estimate.tick(20_000) == pytest.approx(20_000 * FPS / 1000, abs=0.4)
    assert 0.4 < estimate.one_way < 1.0
    assert estimate.jitter > 0.5


def test_a_better_estimate_is_followed_without_a_jump():
    estimate = TickEstimate(FPS)
    exchange(estimate, 0, 20, 20)
    exchange(estimate, 100, 15, 15, ahead_ms=400)
    ticks = [estimate.tick(now) for now in np.arange(140, 12_000, 1000 / FPS)]
    assert np.diff(ticks).max() < 1.06
    assert ticks[-1] == pytest.approx((11_970 + 400) * FPS / 1000, abs=0.5)


def test_a_clock_that_was_set_between_ping_and_pong_says_nothing():
    estimate = TickEstimate(FPS)
    estimate.set(100, 1000)
    for jump in (-HOUR_MS, HOUR_MS):
        estimate.pong(Pong(t0=1000, t1=5, t2=5, tick=105), 1100 + jump)
    assert estimate.tick(1000) == 100


def test_a_world_that_stood_still_is_caught_up_with_at_once():
    estimate = TickEstimate(FPS)
    estimate.set(1000, 0)
    estimate.pong(Pong(t0=0, t1=0, t2=0, tick=400), 0)
    assert estimate.tick(0) == pytest.approx(400)


def play(pacer, works):
    """The moments at which blocks begin when each takes the given time."""
    now, begins = 0.0, []
    for work in works:
        now = max(now, pacer.next_at)
        begins.append(now)
        now += work
        pacer.done(now)
    return begins


def test_a_fixed_step_does_not_drift():
    works = np.random.default_rng(0).uniform(0, 0.9, 1000)
    assert play(Pacer(1, 2, 0.0), works) == list(range(1000))
    assert play(Pacer(1, 2, 0.0, is_fixed=False), works)[-1] > 1400


def test_one_slow_block_is_caught_up_and_a_very_slow_one_is_left_out():
    assert play(Pacer(1, 2, 0.0), [1.8, 0.1, 0.1, 0.1])[2:] == [2, 3]
    pacer = Pacer(4, 2, 0.0)
    assert pacer.done(41.0) == 36
    assert pacer.next_at == 40
