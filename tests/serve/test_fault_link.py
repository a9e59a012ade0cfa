"""Lines with faults: seeded, and as bad as they say."""

import numpy as np

from gamegen_x.serve.fault_link import FaultLink, LinkFaults


def sent_over(faults, count=2000, seed=0):
    """What arrives of messages 0, 1, 2 ... sent one a tick: (moment, number)."""
    link = FaultLink(faults, seed)
    for number in range(count):
        link.send(number.to_bytes(4, "little"), float(number))
    return [(moment, int.from_bytes(data, "little")) for moment, data in link.receive(1e9)]


def test_a_clean_line_delays_and_nothing_else():
    assert sent_over(LinkFaults(delay=2), 50) == [(number + 2.0, number) for number in range(50)]


def test_the_same_seed_is_the_same_line():
    faults = LinkFaults(jitter=1, loss=0.1, duplicate=0.1, reorder=0.1)
    assert sent_over(faults, seed=3) == sent_over(faults, seed=3)
    assert sent_over(faults, seed=3) != sent_over(faults, seed=4)


def test_loss_and_duplicates_are_as_many_as_asked():
    arrived = [number for _, number in sent_over(LinkFaults(loss=0.15, duplicate=0.1))]
    assert abs(len(set(arrived)) / 2000 - 0.85) < 0.03
    assert abs(len(arrived) / len(set(arrived)) - 1.1) < 0.03


def test_reordered_messages_arrive_after_later_ones():
    numbers = [number for _, number in sent_over(LinkFaults(reorder=0.1))]
    assert 0.02 < np.mean(np.diff(numbers) < 0) < 0.2


def test_a_stream_loses_and_reorders_nothing_but_is_late():
    arrived = sent_over(LinkFaults(delay=1, jitter=0.5, loss=0.15, is_stream=True))
    assert [number for _, number in arrived] == list(range(2000))
    assert np.quantile([moment - number for moment, number in arrived], 0.9) > 3


def test_nothing_gets_through_an_outage_and_a_stream_waits_for_its_end():
    cut = ((100.0, 300.0),)
    assert not {number for _, number in sent_over(LinkFaults(outages=cut))} & set(range(100, 299))
    moments = {number: moment for moment, number in sent_over(LinkFaults(outages=cut, is_stream=True))}
    assert all(moments[number] >= 300 for number in range(100, 300))


def test_a_thin_line_queues_what_fits_and_loses_the_rest():
    arrived = sent_over(LinkFaults(delay=0, bytes_per_tick=2, max_queue=10))
    assert 0.45 < len(arrived) / 2000 < 0.6
    assert max(moment - number for moment, number in arrived) <= 10


def test_a_polling_transport_delivers_at_its_polls():
    assert {moment % 6 for moment, _ in sent_over(LinkFaults(jitter=1, poll_ticks=6))} == {0}
