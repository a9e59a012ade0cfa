"""Shape annotations of the evaluation become checks, too."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

PACKAGE = Path(__file__).parents[2] / "gamegen_x" / "evaluation"
install_import_hook(
    [f"gamegen_x.evaluation.{path.stem}" for path in PACKAGE.glob("[a-z]*.py")],  # not __main__: OmegaConf's types
    "beartype.beartype",
)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Of a moving picture: 40 of training and 24 of validation."""
    from moving_picture import write_shards

    from gamegen_x.evaluation.recordings import read_recordings

    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, 40, 24, {"train": 0, "val": 1000})
    return read_recordings(
        folder, num_players=1, min_frames=48, max_train_clips=99, max_val_clips=99, max_damaged_share=0.0
    )


@pytest.fixture(scope="session")
def judges(tmp_path_factory):
    """Their folder: whoever asks first trains them."""
    return tmp_path_factory.mktemp("judges")
