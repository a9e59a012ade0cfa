"""What a server tells about itself: plain values for `/status`, series with few labels for `/metrics`."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gamegen_x.serve.lobby import MODEL, OpenRoom
from gamegen_x.serve.metrics import quantile
from gamegen_x.serve.seat import Presence

if TYPE_CHECKING:
    from gamegen_x.serve.host import Host

SYNC = (
    "full_syncs_per_minute",
    "desync_percent",
    "action_latency_ms_p50",
    "action_latency_ms_p95",
    "state_message_bytes",
    "bytes_per_tick",
    "queue_depth_mean",
    "queue_depth_max",
    "state_gap_variation",
)


def of_room(found: OpenRoom) -> dict[str, Any]:
    """One room as its page and its visitors see it."""
    room, loop = found.room, found.loop
    return {
        "name": room.name,
        "world": found.order.world,
        "has_ghost": found.order.world == MODEL and found.truth.is_drawn,
        "camera": found.order.camera,
        "seats": room.world.num_players,
        "here": list(room.here),
        "away": [seat.number for seat in room.seats if seat.presence is Presence.AWAY],
        "spectators": len(room.spectators),
        "last_events": [seat.last_event for seat in room.seats],
        "tick": room.tick,
        "fps": room.world.fps,
        "block": room.rules.block,
        "quality": room.ladder.name,
        "is_running": found.task is not None,
        "is_waiting": not loop.views.is_ready,
        "draw_ms": quantiles(loop.times.draw),
        "block_ms": quantiles(loop.times.block),
        "late_ms": quantiles(loop.times.late),
        "skipped_ticks": room.metrics.num_skipped_ticks,
        "recording": found.recorder.failure or "on",
        "sync": room.metrics.summary(room.world.fps),
    }


def of_host(host: Host) -> dict[str, Any]:
    stage = host.stage
    jobs = [job.stage for job in host.generator.jobs.values()]
    return {
        "ready": stage.is_ready,
        "stage": stage.name,
        "percent": stage.percent,
        "worlds": list(host.offer.worlds),
        "uptime_s": round(time.monotonic() - host.started_at, 1),
        "sockets": host.num_sockets,
        "memory_mb": round(memory_mb(), 1),
        "lag_ms": quantiles(host.lags),
        "jobs": {name: jobs.count(name) for name in ("waiting", "running", "done", "failed")},
        "model": of_model(host),
        "rooms": [of_room(found) for found in host.lobby.rooms.values()],
    }


def of_model(host: Host) -> dict[str, Any] | None:
    """How the model's process does; None where there is none."""
    model = host.model
    if model is None:
        return None
    return {
        "weights": host.cfg.weights,
        "frames_a_step": model.shape.frames,
        "stage": model.progress.name,
        "restarts": model.num_restarts,
        "step_ms": quantiles(model.times),
        "rooms_together": quantiles(model.rooms_together),
    }


def quantiles(series: Collection[float]) -> dict[str, float]:
    """0 where there are no values."""
    return {name: quantile(series, share, digits=2) or 0.0 for name, share in (("p50", 0.5), ("p99", 0.99))}


def memory_mb() -> float:
    """The most that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def prometheus(host: Host) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(host))
    return generate_latest(registry)


class _Collector:
    """Labels are error codes, kinds of messages and names of ours: nobody outside can make more of them."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def collect(self) -> Iterator[Metric]:
        rooms = list(self.host.lobby.rooms.values())
        yield GaugeMetricFamily("ggx_sockets", "open sockets", value=self.host.num_sockets)
        yield CounterMetricFamily("ggx_visits", "sockets that were opened", value=self.host.num_visits)
        yield GaugeMetricFamily("ggx_rooms", "open rooms", value=len(rooms))
        yield GaugeMetricFamily("ggx_players", "players who are here", value=sum(len(r.room.here) for r in rooms))
        yield GaugeMetricFamily("ggx_ready_percent", "how far the server is", value=self.host.stage.percent)
        yield GaugeMetricFamily("ggx_memory_bytes", "most memory held", value=memory_mb() * 2**20)
        yield from self._counts(rooms)
        yield self._times(rooms)
        restarts = 0 if self.host.model is None else self.host.model.num_restarts
        yield CounterMetricFamily(
            "ggx_model_restarts", "times that the model's process was started again", value=restarts
        )
        summaries = [r.room.metrics.summary(r.room.world.fps) for r in rooms if r.room.metrics.num_ticks]
        for name in SYNC:
            mean = float(np.mean([each[name] for each in summaries])) if summaries else 0.0
            yield GaugeMetricFamily(f"ggx_sync_{name}", "mean over rooms; see docs/multiplayer.md", value=mean)

    def _counts(self, rooms: Sequence[OpenRoom]) -> Iterator[Metric]:
        for name, said in (
            ("num_ticks", "ticks that were played"),
            ("num_skipped_ticks", "ticks that were left out"),
            ("num_rollbacks", "times that a world went back"),
            ("num_desyncs", "states that differed"),
        ):
            total = sum(getattr(r.room.metrics, name) for r in rooms)
            yield CounterMetricFamily(f"ggx_{name.removeprefix('num_')}", said, value=total)
        refused = CounterMetricFamily("ggx_refused", "messages that were refused, by code", labels=["code"])
        sent = CounterMetricFamily("ggx_sent_bytes", "bytes that were sent, by kind of message", labels=["kind"])
        for family, series in ((refused, "refused"), (sent, "message_bytes")):
            for label in sorted({label for r in rooms for label in getattr(r.room.metrics, series)}):
                family.add_metric([label], sum(getattr(r.room.metrics, series)[label] for r in rooms))
            yield family
        dropped = sum(r.recorder.num_dropped for r in rooms)
        yield CounterMetricFamily("ggx_recording_dropped", "records that did not reach the disk", value=dropped)

    def _times(self, rooms: Sequence[OpenRoom]) -> Metric:
        family = GaugeMetricFamily("ggx_block_milliseconds", "of the newest blocks", labels=["leg", "quantile"])
        for leg in ("draw", "block", "late"):
            values = [value for r in rooms for value in getattr(r.loop.times, leg)]
            for name, value in quantiles(values).items():
                family.add_metric([leg, name], value)
        return family
