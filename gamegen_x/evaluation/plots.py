"""Plots as SVG text, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

COLOURS = ("#2563eb", "#94a3b8", "#d97706", "#059669")


def curves(lines: Mapping[str, Sequence[float]], levels: Mapping[str, float], x: str, y: str) -> str:
    """Lines over 1, 2, 3, ... with dotted levels to compare them with. Values lie in [0, 1]."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
        axes.plot(range(1, len(values) + 1), values, color=colour, marker="o", markersize=3, linewidth=1.6, label=name)
    for (name, level), place in zip(levels.items(), ("bottom", "top"), strict=False):
        axes.axhline(level, color="#475569", linestyle=":", linewidth=1)
        axes.annotate(
            name,
            (1, level),
            color="#475569",
            fontsize=8,
            va=place,
            xytext=(0, 2 if place == "bottom" else -2),
            textcoords="offset points",
        )
    axes.set(xlabel=x, ylabel=y, ylim=(0, 1.08), xlim=(0.5, max(len(values) for values in lines.values()) + 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right", ncols=len(lines), bbox_to_anchor=(1, 1.0))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :]
