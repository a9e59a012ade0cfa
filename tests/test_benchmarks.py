"""Every part of `python -m benchmarks` runs, at its smallest; what it measures is not looked at."""

import json

import pytest
from hydra import compose, initialize_config_dir

from benchmarks.__main__ import PARTS, measure
from gamegen_x.config import CONFIGS

SMALLEST = [
    "rule.rounds=1",
    "train_step.batch_size=1",
    "train_step.num_latent_frames=2",
    "train_step.latent_size=4",
    "vae_decode.batch_size=1",
    "vae_decode.num_latent_frames=2",
    "vae_decode.size=16",
    "stream.num_players=1",
    "sync.num_ticks=6",
    "pictures.num_worlds=1",
    "pictures.num_blocks=2",
    "sockets.num_players=1",
    "sockets.seconds=2",
    "data_loader.num_clips=4",
    "data_loader.num_frames=12",
    "data_loader.window=4",
    "data_loader.batch_size=2",
    "data_loader.num_batches=1",
    "curation.num_frames=96",
    "renderer.num_players=[1]",
    "renderer.num_frames=4",
    "renderer.warm_up_frames=1",
]
NAMES = {
    "train_step": {"bf16_latte", "bf16_plain", "fp32_latte", "fp32_plain"},
    "vae_decode": {"whole_clip", "streamed", "small"},
    "data_loader": {"cached_frames", "decoded_frames"},
    "renderer": {"snowglobe_1_players"},
}


def measured(part):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return measure(compose("benchmark", [f"only={part}", *SMALLEST]))


@pytest.mark.filterwarnings("ignore")  # of peers
@pytest.mark.parametrize("part", PARTS)
def test_every_part_gives_its_rows_as_json(part, capsys):
    figures = json.loads(json.dumps(measured(part)))
    rows = {row["name"]: row for row in figures["rows"]}
    assert {row["part"] for row in rows.values()} == {part}
    assert all(row["ours"] > 0 for row in rows.values())
    assert rows.keys() == NAMES.get(part, rows.keys())
    if part == "curation":
        assert {"split_scenes", "write_shards", "all_stages"} <= rows.keys()
    table = capsys.readouterr().out
    assert all(name in table for name in rows)


def test_an_unknown_part_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"only=data_loadr: no such part; did you mean 'data_loader'\?"):
        measured("data_loadr")
