"""Processes that the server starts."""

import multiprocessing
import os
import queue
import threading

import pytest

from gamegen_x.serve.children import begin_child, check_niceness, give_way


def tell_niceness(pipe):
    begin_child()
    asked, answers = queue.Queue(), queue.Queue()
    threading.Thread(target=lambda: (asked.get(), answers.put(os.nice(0))), daemon=True).start()
    give_way(3)
    asked.put(None)
    pipe.send((os.nice(0), answers.get()))


def test_a_child_gives_way_to_its_parent_with_all_of_its_threads():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=tell_niceness, args=(theirs,))
    child.start()
    theirs.close()
    assert ours.poll(60)
    assert ours.recv() == (min(19, os.nice(0) + 3),) * 2
    child.join()


@pytest.mark.parametrize("niceness", [-1, 20])
def test_a_niceness_that_no_system_has_is_refused(niceness):
    with pytest.raises(ValueError, match=f"niceness is between 0 .* and 19 .*, got {niceness}"):
        check_niceness(niceness)
