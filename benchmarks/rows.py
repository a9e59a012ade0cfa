"""Row: one figure, beside a peer's and against a target where there are such; the table and the JSON made of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measuring import Ratio, Rounds, Rule, times_faster

COLUMNS = ("part", "what", "unit", "ours", "peer", "of peer", "ratio", "95 %", "target", "passed")


@dataclass(frozen=True)
class Row:
    """`ours` and `peer` in `unit`; `ratio` above 1 where ours is better. A target is one of the ratio, or of `ours`."""

    part: str
    name: str  # stable: what the JSON calls it
    unit: str
    ours: float
    peer_name: str = ""
    peer: float | None = None
    ratio: Ratio | None = None
    target: float | None = None
    note: str = ""

    @property
    def is_passed(self) -> bool | None:
        """None without a target. A ratio fails only where its whole interval lies below the target."""
        if self.target is None:
            return None
        return (self.ours if self.ratio is None else self.ratio.high) >= self.target

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "is_passed": self.is_passed}


def compared(
    part: str, name: str, rounds: Rounds, peer: str, rule: Rule, target: float | None, ours: str = "ours"
) -> Row:
    """A row of milliseconds."""
    return Row(
        part,
        name,
        "ms",
        ours=1e3 * rounds.median(ours),
        peer_name=peer,
        peer=1e3 * rounds.median(peer),
        ratio=times_faster(rounds, ours, peer, rule),
        target=target,
        note=rounds.note(),
    )


def compared_rates(
    part: str, name: str, unit: str, rounds: Rounds, amounts: dict[str, float], peer: str, rule: Rule,
    target: float | None, ours: str = "ours",
) -> Row:  # fmt: skip
    """A row of amounts a processor second: each run did its own amount of work in one go."""
    each = Rounds(
        {n: tuple(s / amounts[n] for s in seconds) for n, seconds in rounds.seconds.items()},
        rounds.num_dropped,
        rounds.is_noisy,
    )
    return Row(
        part,
        name,
        unit,
        ours=1 / each.median(ours),
        peer_name=peer,
        peer=1 / each.median(peer),
        ratio=times_faster(each, ours, peer, rule),
        target=target,
        note=rounds.note(),
    )


def table(rows: Sequence[Row]) -> str:
    """Rows as text, one a line, with their notes below."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            notes.setdefault(row.note, []).append(f"{row.part}.{row.name}")
    return "\n".join([*lines, *(f"* {', '.join(names)}: {note}" for note, names in notes.items())])


def _cells(row: Row) -> tuple[str, ...]:
    ratio = row.ratio
    return (
        row.part,
        row.name,
        row.unit,
        _number(row.ours),
        "" if row.peer is None else _number(row.peer),
        row.peer_name,
        "" if ratio is None else f"{ratio.median:.2f}",
        "" if ratio is None else f"{ratio.low:.2f} to {ratio.high:.2f}",
        "" if row.target is None else f">= {row.target:g}",
        {None: "", True: "yes", False: "NO"}[row.is_passed],
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
