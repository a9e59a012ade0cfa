"""Keys by tick: the same keys give the same guesses, in whatever order they came."""

from hypothesis import given
from hypothesis import strategies as st

from gamegen_x.serve.inputs import SEQ_WINDOW, InputBuffer, SeqWindow, Verdict, bits_of, bytes_of

ONE_SHOT = 0b1000


def buffer():
    return InputBuffer(ONE_SHOT, hold_ticks=5)


@given(st.dictionaries(st.integers(0, 30), st.integers(0, 15)), st.randoms())
def test_guesses_do_not_depend_on_the_order_in_which_keys_come(keys, random):
    in_order, shuffled = buffer(), buffer()
    for tick in sorted(keys):
        in_order.give(tick, keys[tick])
    ticks = list(keys)
    random.shuffle(ticks)
    for tick in ticks:
        shuffled.give(tick, keys[tick])
    assert [in_order.at(tick) for tick in range(40)] == [shuffled.at(tick) for tick in range(40)]
    assert in_order.complete == shuffled.complete


def test_a_guess_repeats_what_is_held_but_never_a_throw_and_lets_go_after_a_while():
    keys = buffer()
    keys.give(3, 0b1001)
    assert [keys.at(tick) for tick in range(3, 10)] == [0b1001, 1, 1, 1, 1, 1, 0]


def test_the_first_keys_of_a_tick_stay():
    keys = buffer()
    assert keys.give(3, 1) is Verdict.NEW
    assert keys.give(3, 1) is Verdict.KNOWN
    assert keys.give(3, 2) is Verdict.CHANGED
    assert keys.at(3) == 1


def test_keys_that_are_final_are_forgotten_and_guesses_stay_the_same():
    keys = buffer()
    for tick in range(100):
        keys.give(tick, tick % 16)
        keys.settle(tick - 1)
    assert len(keys.given) < 12
    assert keys.at(101) == 99 % 16 & ~ONE_SHOT
    assert keys.complete == 99


def test_who_has_gone_holds_nothing_from_the_next_tick_on():
    keys = buffer()
    keys.give(3, 1)
    keys.give(9, 1)
    rest = keys.ended(5)
    assert [rest.at(tick) for tick in range(3, 10)] == [1, 1, 1, 0, 0, 0, 0]


@given(st.lists(st.integers(0, 200)))
def test_a_numbered_message_is_taken_once(numbers):
    window = SeqWindow()
    taken = [number for number in numbers if window.take(number)]
    assert len(set(taken)) == len(taken)
    assert all(number in taken for number in numbers if number > max(numbers) - SEQ_WINDOW)


def test_loss_is_the_share_of_numbers_that_did_not_come():
    window = SeqWindow()
    for number in range(64):
        if number % 4:
            window.take(number)
    assert window.loss == 0.25


def test_keys_are_two_bytes_a_tick():
    assert bits_of(bytes_of([1, 0x8001, 3])) == [1, 0x8001, 3]
