"""What a window saw of its play, as figures. Times in milliseconds of the page's own clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gamegen_x.serve.metrics import quantile

SECOND_MS = 1000.0


@dataclass(frozen=True)
class Picture:
    """A picture at the moment when it was shown."""

    at: float
    tick: int
    reflects: int  # the newest tick of this player's keys that the server knew when it was made
    age: float | None  # since the server had made it; None before the clocks were compared


@dataclass(frozen=True)
class Press:
    """A key that went down, and the tick for which it was sent; None where it never was."""

    at: float
    tick: int | None


@dataclass(frozen=True)
class Seen:
    """Everything that a page told from one sample to another."""

    start: float
    stop: float
    pictures: Sequence[Picture]
    presses: Sequence[Press]
    round_trips: Sequence[float]
    key_delays: Sequence[int]  # ticks that keys are sent early, because the line is shaky
    num_bytes: int
    desyncs: int

    @classmethod
    def of_samples(cls, samples: Sequence[Mapping[str, Any]]) -> Seen:
        """From what `ggx.sample()` of the page gave, time after time; the first says where it begins."""
        first, last, later = samples[0], samples[-1], samples[1:]
        pictures = [picture for sample in later for picture in sample["pictures"]]
        presses = [press for sample in later for press in sample["presses"]]
        return cls(
            start=first["now"],
            stop=last["now"],
            pictures=[Picture(each["at"], each["tick"], each["reflects"], each["ageMs"]) for each in pictures],
            presses=[Press(each["at"], each["tick"]) for each in presses if each["at"] >= first["now"]],
            round_trips=[sample["roundTripMs"] for sample in samples if sample["roundTripMs"] is not None],
            key_delays=[sample["delayTicks"] for sample in samples],
            num_bytes=last["bytesIn"] - first["bytesIn"],
            desyncs=last["desyncs"] - first["desyncs"],
        )


def of_window(seen: Seen, measured_s: float, stall_s: float) -> dict[str, Any]:
    """The figures of one window in the first `measured_s`; pictures after that count as answers to presses only."""
    stop = min(seen.start + measured_s * SECOND_MS, seen.stop)
    moments = [picture.at for picture in seen.pictures if seen.start <= picture.at < stop]
    by_second = pictures_by_second(moments, seen.start, stop)
    presses = [press for press in seen.presses if press.at < stop]
    delays = [delay for delay in key_to_frame(presses, seen.pictures) if delay is not None]
    ages = [picture.age for picture in seen.pictures if picture.age is not None and picture.at < stop]
    gaps = gaps_between(moments, seen.start, stop)
    return {
        "frames_per_second_mean": round(len(moments) * SECOND_MS / (stop - seen.start), 2),
        "frames_per_second_p5": quantile(by_second, 0.05, digits=2),
        "stall_share": round(stall_share(gaps, stall_s * SECOND_MS), 5),
        "longest_gap_ms": round(max(gaps), 1),
        "key_to_frame_ms_p50": quantile(delays, 0.5, digits=2),
        "key_to_frame_ms_p99": quantile(delays, 0.99, digits=2),
        "presses": len(presses),
        "presses_not_shown": len(presses) - len(delays),
        "frame_age_ms_p50": quantile(ages, 0.5, digits=2),
        "frame_age_ms_p99": quantile(ages, 0.99, digits=2),
        "round_trip_ms_p50": quantile(seen.round_trips, 0.5, digits=2),
        "key_delay_ticks_p50": quantile(seen.key_delays, 0.5, digits=2),
        "kilobytes_per_second": round(seen.num_bytes / (seen.stop - seen.start), 2),
        "desyncs": seen.desyncs,
    }


def pictures_by_second(moments: Iterable[float], start: float, stop: float) -> list[int]:
    """How many pictures were shown in each whole second."""
    num_seconds = int((stop - start) // SECOND_MS)
    counts = [0] * num_seconds
    for moment in moments:
        second = int((moment - start) // SECOND_MS)
        if 0 <= second < num_seconds:
            counts[second] += 1
    return counts


def gaps_between(moments: Sequence[float], start: float, stop: float) -> list[float]:
    """The times between pictures, with those before the first and after the last: they add up to the whole."""
    return np.diff([start, *sorted(moments), stop]).tolist()


def stall_share(gaps: Sequence[float], longest: float) -> float:
    """The share of time that lies in gaps of more than `longest`."""
    return sum(gap for gap in gaps if gap > longest) / sum(gaps)


def key_to_frame(presses: Iterable[Press], pictures: Sequence[Picture]) -> list[float | None]:
    """From each press to the first picture that shows it; None where none did.

    A picture shows the keys of a tick if it is of that tick or later, and the server knew those keys when it made it:
    where keys came too late for their block, the next one shows them.
    """
    in_order = sorted(pictures, key=lambda picture: picture.at)
    return [_delay(press, in_order) for press in presses]


def _delay(press: Press, pictures: Iterable[Picture]) -> float | None:
    if press.tick is None:
        return None
    for picture in pictures:
        if picture.at >= press.at and press.tick <= min(picture.tick, picture.reflects):
            return picture.at - press.at
    return None
