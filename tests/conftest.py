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


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)
    torch.set_num_threads(1)


# What takes longest comes first, and stays together: workers that have nothing left take tests from the end of others'.
FIRST = (
    "notebooks/", "test_zero2", "evaluation/test_meetings", "evaluation/test_suite", "training/test_resume",
    "test_two_windows", "test_restore", "test_stream_sampler", "test_model_process", "evaluation/",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    def place(item):
        return next((place for place, part in enumerate(FIRST) if part in item.nodeid), len(FIRST))

    items.sort(key=place)
