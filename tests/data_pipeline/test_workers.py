import errno
import os
from contextlib import nullcontext

import pytest

from data_pipeline.workers import run_in_workers


def test_what_the_system_refuses_a_worker_comes_back_as_it_is():
    """So that a full disk ends a run with one message, whatever the number of workers."""
    with pytest.raises(FileNotFoundError) as caught:
        list(run_in_workers(os.scandir, [("nowhere",), ("nowhere",)], 2, nullcontext()))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "nowhere")
