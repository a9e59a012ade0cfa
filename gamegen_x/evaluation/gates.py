"""Gates: figures that must be reached, else the model counts as not learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gate:
    """One figure and its bounds. A figure that was not measured has not passed."""

    name: str
    value: float | None
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def is_passed(self) -> bool:
        return self.value is not None and self.at_least <= self.value <= self.at_most

    @property
    def wanted(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_most == math.inf else f"≤ {self.at_most:g}"

    def __str__(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.3f}"
        return f"{self.name} {value}, wanted {self.wanted}"


def check_gates(figures: Mapping[str, Any], at_least: Mapping[str, float], at_most: Mapping[str, float]) -> list[Gate]:
    """A gate for every bound. Raises ValueError where a bounded figure is a list or a table."""
    gates: list[Gate] = []
    for bounds, side in ((at_least, "at_least"), (at_most, "at_most")):
        for name, bound in bounds.items():
            value = figures.get(name)
            if value is not None and not isinstance(value, int | float):
                raise ValueError(f"gates bound single figures, {name!r} is a {type(value).__name__}")
            gates.append(Gate(name, value, **{side: bound}))
    return gates
