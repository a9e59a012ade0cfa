"""The drawn state walks beside the latents of its window."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from made_shards import make_data, write_dataset
from test_latent_cache import make_latents, save_weights

from gamegen_x.data.state import to_grid

SLOTS = 3
DRAWN = (
    "data.state={_target_: gamegen_x.data.state.StateSettings, channels: %d, near_angle: null, drawer: "
    "{_target_: gamegen_x.data.state.PoseDrawer, num_slots: 3, frames_per_latent: 4}}"
)


def test_every_window_has_the_state_of_its_own_frames(tmp_path: Path) -> None:
    shards = write_dataset(tmp_path / "shards", 4, has_state=True)
    data = make_latents(shards, save_weights(tmp_path / "weights"), DRAWN % 12)
    batch = next(iter(data.train_dataloader()))
    assert batch.state is not None
    assert batch.others is not None
    assert batch.near is None
    assert batch.state.shape == (2, 2, 2, 4 * SLOTS, 8, 8)
    source = data.sources["train"]
    keys = [header.key for header in source.headers]
    for row, key in enumerate(batch.keys):
        index = keys.index(key)
        held = source.actions(index).transpose(1, 0, 2)
        start = next(s for s in range(0, 25, 4) if np.array_equal(held[:, s : s + 8], batch.actions[row].numpy()))
        places = to_grid(source.state(index)["screen_xy"][start : start + 8], (8, 8), (64, 64))
        cells = batch.state[row].reshape(2, 2, 4, SLOTS, 8, 8)
        grid = torch.arange(8.0)
        for seer, seen in ((0, 1), (1, 0), (1, 1)):
            drawn = cells[seer, :, :, seen].flatten(0, 1)
            middle = torch.stack([(drawn.sum(1) * grid).sum(1), (drawn.sum(2) * grid).sum(1)], dim=1)
            np.testing.assert_allclose(middle, places[:, seer, seen], atol=1e-4)
        np.testing.assert_allclose(batch.others[row, 0, :, 0], cells[0, :, :, 1].sum(1), atol=1e-6)
    pixels = make_data(shards, "data.batch_size=2", "data.num_frames=8")
    assert next(iter(pixels.train_dataloader())).others is None


def test_pixels_are_told_where_others_are_seen(tmp_path: Path) -> None:
    shards = write_dataset(tmp_path / "shards", 4, has_state=True)
    data = make_data(shards, "data.batch_size=2", "data.num_frames=8", DRAWN % 12)
    batch = next(iter(data.train_dataloader()))
    assert batch.state is None
    assert batch.others is not None
    assert batch.others.shape == (2, 2, 8, 1, 64, 64)
    source = data.sources["train"]
    index = [header.key for header in source.headers].index(batch.keys[0])
    held = source.actions(index).transpose(1, 0, 2)
    start = next(s for s in range(0, 25, 4) if np.array_equal(held[:, s : s + 8], batch.actions[0].numpy()))
    for seer, seen in ((0, 1), (1, 0)):
        places = torch.from_numpy(source.state(index)["screen_xy"][start : start + 8, seer, seen])
        rows, columns = torch.arange(64.0), torch.arange(64.0)
        drawn = batch.others[0, seer, :, 0]
        middle = torch.stack([(drawn.sum(1) * columns).sum(1), (drawn.sum(2) * rows).sum(1)], dim=1)
        torch.testing.assert_close(middle, places.float(), atol=1e-3, rtol=0)


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    shards = write_dataset(tmp_path / "shards", 4)
    weights = save_weights(tmp_path / "weights")
    with pytest.raises(ValueError, match="no screen_xy and visible in its state"):
        next(iter(make_latents(shards, weights, DRAWN % 12).train_dataloader()))
    with pytest.raises(InstantiationException, match=r"set state.channels=12"):
        make_latents(shards, weights, DRAWN % 13)


def test_facts_alone_are_where_players_are_seen_and_no_picture_is_read(tmp_path: Path) -> None:
    shards = write_dataset(tmp_path / "shards", 4, has_state=True)
    data = make_data(shards, "data.content=facts", "data.batch_size=2", "data.num_frames=8", "data.start_multiple=1")
    batch = next(iter(data.train_dataloader()))
    assert batch.video is None
    assert batch.latents is None
    assert batch.places is not None
    assert batch.known is not None
    source = data.sources["train"]
    keys = [header.key for header in source.headers]
    for row, key in enumerate(batch.keys):
        index = keys.index(key)
        held = source.actions(index).transpose(1, 0, 2)
        start = next(s for s in range(25) if np.array_equal(held[:, s : s + 8], batch.actions[row].numpy()))
        state = source.state(index)
        pixels = (batch.places[row].numpy() + 1) / 2 * 64 - 0.5
        np.testing.assert_allclose(pixels, state["screen_xy"][start : start + 8], atol=1e-4)
        np.testing.assert_array_equal(batch.known[row], state["visible"][start : start + 8])
    assert not list(tmp_path.rglob("frames*"))
