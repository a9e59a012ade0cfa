from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_shards import BLOCK, FRAME, make_data, make_record, write_dataset, write_shard
from torch import Tensor

from gamegen_x.data.datamodule import VideoDataModule
from gamegen_x.data.played import WholeRecord

FACTOR = 4
WINDOWS = ["data.num_frames=8", "data.batch_size=2"]


class Copyist:
    """Its latents are a row of pixels of every fourth frame, so that everybody sees which frames they belong to."""

    temporal_factor = FACTOR
    batch_size = 3

    def __init__(self, name: str = "one") -> None:
        self.name = name
        self.played: list[list[str]] = []

    def made_with(self) -> Mapping[str, Any]:
        return {"name": self.name}

    def fault_beside(self, vae: Path) -> str | None:
        return None

    def fault(self, record: WholeRecord) -> str | None:
        return None

    def rest(self) -> None:
        self.is_resting = True

    def play(self, records: Sequence[WholeRecord]) -> list[Tensor]:
        assert len({record.video.shape for record in records}) == 1
        self.played.append([record.header.key for record in records])
        return [rows(torch.from_numpy(np.moveaxis(record.video, -1, 2)).float() / 127.5 - 1) for record in records]


def rows(video: Tensor) -> Tensor:
    """`[... t 3 h w]` -> `[... t/4 3 1 w]`."""
    return video[..., ::FACTOR, :, FRAME * BLOCK + 4 : FRAME * BLOCK + 5, :]


def played_by(player: Copyist, folder: Path, *overrides: str) -> VideoDataModule:
    data = make_data(folder, *WINDOWS, *overrides)
    data.settings = replace(data.settings, play_along=player)
    data.prepare_data()
    data.setup("fit")
    return data


def test_played_latents_belong_to_the_frames_beside_them(tmp_path: Path) -> None:
    data = played_by(Copyist(), write_dataset(tmp_path / "shards", 4), "data.views=one")
    for batch in data.train_dataloader():
        assert batch.video is not None
        assert batch.played is not None
        torch.testing.assert_close(batch.played, rows(batch.video), atol=1e-3, rtol=0)


def test_clips_are_played_once_with_those_of_their_length_and_damage_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    records = [make_record(clip, num_frames=24 if clip == 2 else 32).to_sample() for clip in range(6)]
    records[3] = {**records[3], "view0.mp4": b"no video"}
    write_shard(folder / "train" / "shard-0.tar", records)
    write_shard(folder / "val" / "shard-0.tar", [make_record(200).to_sample()])
    player, again, other = Copyist(), Copyist(), Copyist("another")
    data = played_by(player, folder, "data.dataset.max_damaged_share=0.5")
    assert sorted(map(len, player.played)) == [1, 1, 2, 2]
    assert [key.split(":")[-1] for key in data.damage("train")] == ["clip-0003"]
    played_by(again, folder, "data.dataset.max_damaged_share=0.5")
    assert again.played == []
    played_by(other, folder, "data.dataset.max_damaged_share=0.5")
    assert other.played == player.played


@pytest.mark.parametrize("wrong", ["data.num_frames=6", "data.start_multiple=3"])
def test_windows_that_cut_latent_frames_are_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="whole latent frames of 4 video frames"):
        played_by(Copyist(), write_dataset(tmp_path / "shards", 2), wrong)
