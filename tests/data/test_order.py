from hypothesis import given, settings
from hypothesis import strategies as st

from gamegen_x.data.order import Draws, mix, shuffled


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(0, 2**40), st.integers(0, 1000))
def test_an_epoch_holds_every_sample_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(shuffled(place, size, seed, epoch) for place in range(size)) == list(range(size))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(shuffled(place, 50, seed, epoch) for place in range(50)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    assert tuple(range(50)) not in orders


def test_every_sample_comes_early_and_late_about_equally_often() -> None:
    size, epochs = 10, 800
    firsts = [shuffled(0, size, 7, epoch) for epoch in range(epochs)]
    lasts = [shuffled(size - 1, size, 7, epoch) for epoch in range(epochs)]
    for places in (firsts, lasts):
        counts = [places.count(sample) for sample in range(size)]
        assert min(counts) > 50  # 80 expected, deviation 8.5
        assert max(counts) < 110


def test_orders_never_change_between_versions() -> None:
    """A run that resumes after an update must meet the same samples: these numbers are for ever."""
    assert [shuffled(place, 10, 0, 0) for place in range(10)] == ORDER_OF_TEN
    assert mix(1, 2, 3) == MIXED
    draws = Draws(5, 6)
    assert [draws.integer(1000) for _ in range(5)] == DRAWN


ORDER_OF_TEN = [4, 9, 5, 1, 0, 8, 7, 6, 2, 3]
MIXED = 15378950933529109311
DRAWN = [222, 761, 737, 44, 108]


def test_draws_depend_on_their_words_and_on_nothing_else() -> None:
    assert [Draws(1, 2, 3).uniform() for _ in range(3)] == [Draws(1, 2, 3).uniform()] * 3
    assert len({Draws(1, 2, sample).uniform() for sample in range(100)}) == 100


def test_draws_are_uniform() -> None:
    draws = Draws(0)
    values = [draws.uniform() for _ in range(4000)]
    assert all(0 <= value < 1 for value in values)
    assert abs(sum(values) / 4000 - 0.5) < 0.02
    picks = [draws.pick({"a": 0.2, "b": 0.5}) for _ in range(4000)]
    assert [round(picks.count(name) / 4000, 1) for name in ("a", "b", None)] == [0.2, 0.5, 0.3]
