import numpy as np
import pytest

from gamegen_x.data.order import Draws
from gamegen_x.data.windows import SpokenInstruction, WindowRules, instruction_in_force, place_window
from gamegen_x.schema.caption import Instruction

NIGHT, SNOW = Instruction("Make it night.", 10), Instruction("Let it snow.", 70)


def rules(num_rows: int = 24, step: int = 4, share: float = 0.0, max_age: int | None = None) -> WindowRules:
    return WindowRules(num_rows, step, share, max_age)


def starts(rows: np.ndarray, given: tuple[Instruction, ...], how: WindowRules) -> set[int]:
    return {place_window(rows, given, how, Draws(number)) for number in range(400)}


def test_windows_start_everywhere_they_may() -> None:
    assert starts(np.arange(96), (), rules()) == set(range(0, 73, 4))
    assert starts(np.arange(30), (), rules(step=1)) == set(range(7))
    assert starts(np.arange(24), (), rules()) == {0}


def test_windows_over_an_instruction_hold_its_frame() -> None:
    found = starts(np.arange(96), (SNOW,), rules(share=1.0))
    assert found == {start for start in range(0, 73, 4) if start <= 70 < start + 24}


def test_half_of_the_windows_are_placed_over_an_instruction() -> None:
    places = [place_window(np.arange(960), (SNOW,), rules(share=0.5), Draws(number)) for number in range(600)]
    assert 0.45 < np.mean([start <= 70 < start + 24 for start in places]) < 0.6


@pytest.mark.parametrize(
    ("start", "max_age", "expected"),
    [
        (0, None, SpokenInstruction("Make it night.", 10)),
        (12, None, SpokenInstruction("Make it night.", -2)),
        (44, None, SpokenInstruction("Make it night.", -34)),
        (48, None, SpokenInstruction("Let it snow.", 22)),
        (72, None, SpokenInstruction("Let it snow.", -2)),
        (12, 2, SpokenInstruction("Make it night.", -2)),
        (44, 8, SpokenInstruction("", 24)),
    ],
)
def test_the_latest_instruction_is_in_force(start: int, max_age: int | None, expected: SpokenInstruction) -> None:
    assert instruction_in_force(np.arange(96), start, (NIGHT, SNOW), rules(max_age=max_age)) == expected


def test_before_the_first_instruction_there_is_none() -> None:
    assert instruction_in_force(np.arange(96), 40, (SNOW,), rules()) == SpokenInstruction("", 24)
