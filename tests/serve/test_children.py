"""Processes that the server starts."""

import multiprocessing
import os

import pytest

from gamegen_x.serve.children import begin_child, check_niceness


def tell_niceness(pipe):
    begin_child(3)
    pipe.send(os.nice(0))


def test_a_child_gives_way_to_its_parent():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=tell_niceness, args=(theirs,))
    child.start()
    theirs.close()
    assert ours.poll(60)
    assert ours.recv() == min(19, os.nice(0) + 3)
    child.join()


@pytest.mark.parametrize("niceness", [-1, 20])
def test_a_niceness_that_no_system_has_is_refused(niceness):
    with pytest.raises(ValueError, match=f"niceness is between 0 .* and 19 .*, got {niceness}"):
        check_niceness(niceness)
