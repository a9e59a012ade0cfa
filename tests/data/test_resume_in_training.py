"""The loader under Lightning: stopped in the middle of an epoch, training goes on with the very next sample."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from made_shards import make_data, write_dataset
from torch import Tensor

from gamegen_x.data.batch import Batch

STEPS = 14  # two and a half epochs


class Stop(Exception):  # noqa: N818
    """What a kill looks like to everything that was not saved."""


class Recorder(L.LightningModule):
    """Remembers what it was shown, by step."""

    def __init__(self, stop_at: int | None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(7, 1)
        self.stop_at = stop_at
        self.shown: dict[int, tuple[list[str], float]] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == self.stop_at:
            raise Stop
        assert batch.video is not None
        self.shown[self.global_step] = (batch.keys, batch.video.double().sum().item())
        return self.layer(batch.actions).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "shards", 11, num_players=1)


def train(
    shards: Path, folder: Path, workers: int, limit: int | None, every: int, stop_at: int | None = None
) -> dict[int, tuple[list[str], float]]:
    """Trains, from the last checkpoint in `folder` if there is one, and gives what was shown at each step."""
    saved = sorted(folder.glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
    checkpoints = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=every, save_top_k=-1)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        logger=False,
        callbacks=[checkpoints],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        limit_train_batches=limit or 1.0,
    )
    data = make_data(shards, "data.batch_size=2", "data.num_frames=8", f"data.num_workers={workers}")
    recorder = Recorder(stop_at)
    try:
        trainer.fit(recorder, data, ckpt_path=saved[-1] if saved else None, weights_only=False)
    except Stop:
        assert stop_at is not None
    return recorder.shown


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*:DeprecationWarning", "ignore:This DataLoader will create", "ignore:Checkpoint directory"
)
@pytest.mark.parametrize(
    ("before", "after", "limit", "every", "stop_at"),
    [
        (0, 0, None, 1, 7),  # the first batches of the second epoch
        (0, 0, None, 1, 5),  # exactly between two epochs
        (0, 0, None, 3, 8),  # two steps after the last checkpoint: they are done again
        (0, 0, 3, 1, 8),  # epochs cut short by limit_train_batches
        (2, 1, None, 1, 7),
    ],
)
def test_training_goes_on_exact_to_the_sample(
    shards: Path, tmp_path: Path, before: int, after: int, limit: int | None, every: int, stop_at: int
) -> None:
    whole = train(shards, tmp_path / "whole", 0, limit, every)
    cut = train(shards, tmp_path / "cut", before, limit, every, stop_at)
    assert max(cut) == stop_at - 1
    cut |= train(shards, tmp_path / "cut", after, limit, every)
    assert cut == whole
    assert sorted(whole) == list(range(STEPS))
    first_epoch = [key for step in range(6) for key in whole[step][0]][:11]
    assert len(set(first_epoch)) == 11
