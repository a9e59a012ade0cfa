import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from made_shards import write_shard

from gamegen_x.config import CONFIGS, to_dict
from gamegen_x.data.checks import check_data


def read_data(folder: Path, *overrides: str) -> dict[str, Any]:
    given = [
        "+data=shards",
        "+action_space=snowglobe",
        "+places=in_views",
        "+seed=0",
        "+weights=null",
        f"data.dataset.folder={folder}",
    ]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_dict(compose(overrides=[*given, *overrides]))["data"]


def test_a_folder_that_is_not_there_is_known_before_torch_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python -m data_pipeline"):
        check_data(read_data(tmp_path / "absent"))
    imported = "import gamegen_x.data.checks, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", imported], check=True)


def test_who_keeps_no_clips_apart_is_told_what_to_do(tmp_path: Path) -> None:
    write_shard(tmp_path / "train" / "a.tar", [])
    with pytest.raises(FileNotFoundError, match=r"val does not exist.*data\.dataset\.splits\.val=train"):
        check_data(read_data(tmp_path))
    check_data(read_data(tmp_path, "data.dataset.splits.val=train"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.content=latents", "needs weights="),
        ("data.views=some", "data.views is one of"),
        ("data.batch_size=null", "either data.num_frames and data.batch_size, or data.buckets"),
        ("data.batch_size=0", "positive numbers"),
        ("data.video_prompts.edges=1.5", "sum to at most 1"),
    ],
)
def test_settings_that_cannot_work_are_explained(tmp_path: Path, override: str, said: str) -> None:
    for split in ("train", "val"):
        write_shard(tmp_path / split / "a.tar", [])
    check_data(read_data(tmp_path))
    with pytest.raises(ValueError, match=said):
        check_data(read_data(tmp_path, override))
