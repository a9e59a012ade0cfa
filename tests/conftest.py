"""Shape annotations become checks while tests run; nothing asks the network for anything."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

from jaxtyping import install_import_hook

install_import_hook(
    ["gamegen_x.models", "gamegen_x.diffusion", "gamegen_x.sampling", "gamegen_x.data", "gamegen_x.training"],
    "shape_checker.checked",
)

import pytest  # noqa: E402
import torch  # noqa: E402
from coverage import Coverage  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("untimed", deadline=None)  # a busy machine is no counterexample
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)
    torch.set_num_threads(1)


# What takes longest, and stays together since it shares what takes long to make: each worker begins with some of it.
# Workers that have nothing left take tests from the end of others'.
LONG = (
    "notebooks/", "test_zero2", "evaluation/test_meetings", "training/test_resume", "evaluation/test_suite",
    "test_restore", "test_two_windows", "test_model_process", "test_stream_sampler", "takes_one_step",
    "test_evaluate_command", "test_solver_steps", "training/test_play_along", "test_generate", "test_curate_command",
)  # fmt: skip
# Coverage is not taken where it makes long tests half as long again, of code that others run as well.
UNCOVERED = (
    "evaluation/test_meetings", "evaluation/test_suite", "evaluation/test_solver_steps", "test_evaluate_command",
    "test_stream_sampler", "training/test_resume", "test_zero2", "training/test_play_along", "takes_one_step",
    "test_paper_buckets", "test_random_holds", "test_every_sky", "serve/test_rehearsal", "test_soak", "gets_a_gradient",
    "test_whatever_comes", "training/test_joint", "test_benchmarks", "test_two_windows",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Workers begin with equal shares of all tests, one after another."""
    num_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    share, places = -(-len(items) // num_workers), {}
    for item in items:
        places.setdefault(next((place for place, part in enumerate(LONG) if part in item.nodeid), None), []).append(
            item
        )
    short = places.pop(None, [])
    items.clear()
    for worker in range(num_workers):
        items += [item for place in sorted(places) if place % num_workers == worker for item in places[place]]
        missing = max(0, (worker + 1) * share - len(items))
        items += short[:missing]
        del short[:missing]
    items += short


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    running = Coverage.current() if any(part in item.nodeid for part in UNCOVERED) else None
    if running is None:
        return (yield)
    running.stop()
    try:
        return (yield)
    finally:
        running.start()
