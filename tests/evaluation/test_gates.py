import pytest

from gamegen_x.evaluation.gates import check_gates


def test_a_gate_is_passed_at_its_bound():
    gates = check_gates({"sr_c": 0.9, "chance": 0.3}, {"sr_c": 0.9}, {"chance": 0.3})
    assert all(gate.is_passed for gate in gates)


def test_a_figure_that_was_not_measured_has_not_passed():
    (gate,) = check_gates({}, {"sr_c": 0.9}, {})
    assert not gate.is_passed


def test_a_figure_that_is_no_number_has_not_passed():
    (gate,) = check_gates({"sr_c": float("nan")}, {"sr_c": 0.0}, {})
    assert not gate.is_passed


def test_only_single_figures_can_be_bounded():
    with pytest.raises(ValueError, match="'sr_c_by_block' is a list"):
        check_gates({"sr_c_by_block": [1.0]}, {"sr_c_by_block": 0.5}, {})
