"""Windows: which rows of a record become a sample, and what is said in them.

A row is a video frame; of a record of latents, `temporal_factor` rows belong to each latent frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from gamegen_x.data.order import Draws
from gamegen_x.schema.caption import Instruction


@dataclass(frozen=True)
class WindowRules:
    """How windows are placed. `step`: windows start at multiples of so many rows.

    `instruction_share`: of the windows of records with instructions, this share is placed over one of them.
    `max_instruction_age`: an instruction given more than so many rows before the window is left out; None keeps it.
    """

    num_rows: int
    step: int
    instruction_share: float
    max_instruction_age: int | None


@dataclass(frozen=True)
class SpokenInstruction:
    text: str
    start: int  # rows after the window's first; negative if it was given before


def place_window(
    rows: Int[np.ndarray, " row"], instructions: Sequence[Instruction], rules: WindowRules, draws: Draws
) -> int:
    """The first row of a window, uniform over the allowed places."""
    last = (len(rows) - rules.num_rows) // rules.step
    first = 0
    if instructions and draws.uniform() < rules.instruction_share:
        said = int(np.searchsorted(rows, instructions[draws.integer(len(instructions))].frame))
        latest = min(last, said // rules.step)
        earliest = max(0, math.ceil((said + 1 - rules.num_rows) / rules.step))
        if earliest <= latest:
            first, last = earliest, latest
    return (first + draws.integer(last - first + 1)) * rules.step


def instruction_in_force(
    rows: Int[np.ndarray, " row"], start: int, instructions: Sequence[Instruction], rules: WindowRules
) -> SpokenInstruction:
    """The latest instruction given before the window ends; an empty one, due when it ends, if there is none."""
    silence = SpokenInstruction("", rules.num_rows)
    given = [(int(np.searchsorted(rows, said.frame)), said.text) for said in instructions]
    before_end = [(row, text) for row, text in given if row < start + rules.num_rows]
    if not before_end:
        return silence
    row, text = max(before_end, key=lambda pair: pair[0])
    if rules.max_instruction_age is not None and start - row > rules.max_instruction_age:
        return silence
    return SpokenInstruction(text, row - start)
