"""What waits for a player: the urgent first, the newest picture only, and never more than a bound."""

from gamegen_x.serve.errors import ErrorCode
from gamegen_x.serve.outbox import MAX_CONTROL, MAX_EVENTS, Outbox
from gamegen_x.serve.protocol import Delta, EventMessage, Frame, error


def frame(seq):
    return Frame(seq, tick=seq, count=1, codec="jpeg", is_key=True, input_tick=0, t_generated=0.0, payload=b"")


def state(tick):
    return Delta(tick, 0, b"", 0, 0, 0, 0, 0, 0)


def event(number):
    return EventMessage(number, 0, "hit", "global")


def taken(outbox):
    found = []
    while (message := outbox.take()) is not None:
        found.append(message)
    return found


def test_the_urgent_goes_first():
    outbox, urgent = Outbox(), error(ErrorCode.MALFORMED)
    for message in (frame(1), state(1), event(1), urgent):
        outbox.put(message)
    assert taken(outbox) == [urgent, event(1), state(1), frame(1)]


def test_without_priorities_whatever_came_first_goes_first():
    outbox, urgent = Outbox(has_priorities=False), error(ErrorCode.MALFORMED)
    for message in (frame(1), state(1), event(1), urgent):
        outbox.put(message)
    assert taken(outbox) == [frame(1), state(1), event(1), urgent]


def test_of_frames_and_states_only_the_newest_waits():
    outbox = Outbox()
    for number in range(1, 4):
        outbox.put(state(number))
        outbox.put(frame(number))
    assert taken(outbox) == [state(3), frame(3)]
    assert outbox.num_skipped_frames == 2


def test_a_client_that_acknowledges_nothing_gets_as_many_frames_as_its_credits():
    outbox = Outbox()
    for ticks in (9.0, 2.2, 9.0):  # the others waited behind pictures
        outbox.note_round_trip(ticks)
    sent = []
    for number in range(1, 20):
        outbox.put(frame(number))
        sent += taken(outbox)
    assert len(sent) == 4
    outbox.acknowledge_frame(sent[1].seq)
    assert outbox.credits == 1  # fewer than before, since most did not get through


def test_what_is_acknowledged_though_it_was_never_sent_gives_no_credit():
    outbox = Outbox()
    outbox.acknowledge_frame(1000)
    for number in range(1, 20):
        outbox.put(frame(number))
        taken(outbox)
    assert outbox.credits == 0


def test_a_client_that_reads_nothing_costs_a_bounded_number_of_messages():
    outbox = Outbox()
    for number in range(10_000):
        for message in (error(ErrorCode.MALFORMED), event(number), state(number), frame(number)):
            outbox.put(message)
    assert len(outbox) == MAX_CONTROL + MAX_EVENTS + 2
