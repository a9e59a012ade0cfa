import json

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import save_file

from gamegen_x.config import CONFIGS, to_dict
from gamegen_x.models.weights import build_network, fill
from gamegen_x.training.checks import check_run, check_weights, differences, is_first_process, with_fewer_blocks
from gamegen_x.training.run import say_what_is_told_differently
from tests.training.small_run import configure


def weights_folder(tmp_path, cfg, names=("vae",), **changed):
    folder = tmp_path / "weights"
    folder.mkdir()
    networks = {name: to_dict(cfg[name]) | changed for name in names}
    for name in names:
        save_file({"x": torch.zeros(10)}, folder / f"{name}.safetensors")
    (folder / "config.json").write_text(json.dumps({"format": 1, "kind": "base", "networks": networks}))
    return folder


def test_a_stage_that_stands_on_another_asks_for_its_weights(tmp_path):
    with pytest.raises(ValueError, match=r"weights=outputs/snowglobe_vae/weights"):
        check_run(configure(tmp_path, "task=pretrain"))
    with pytest.raises(ValueError, match=r"weights=outputs/snowglobe_pretrain/weights"):
        check_run(configure(tmp_path, "task=instruct"))


def test_weights_of_another_preset_are_told_apart_by_what_differs(tmp_path):
    cfg = configure(tmp_path, "task=pretrain")
    folder = weights_folder(tmp_path, cfg, latent_channels=99)
    cfg.weights = str(folder)
    with pytest.raises(ValueError, match=r"vae of another preset: latent_channels is 99, 4.*vae=<preset>"):
        check_run(cfg)


def test_weights_that_lack_a_stage_are_refused(tmp_path):
    cfg = configure(tmp_path, "task=instruct")
    cfg.weights = str(weights_folder(tmp_path, cfg))
    with pytest.raises(ValueError, match=r"stands on \['text_encoder', 'msdit'\]"):
        check_run(cfg)


def test_zero_keeps_parameters_whole(tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.strategy\.stage is 1 or 2, got 3"):
        check_run(
            configure(
                tmp_path, "task=vae", "optimizer=adamw", "trainer=deepspeed_zero2_cpu", "trainer.strategy.stage=3"
            )
        )


def test_fitting_weights_pass(tmp_path):
    cfg = configure(tmp_path, "task=pretrain")
    cfg.weights = str(weights_folder(tmp_path, cfg))
    check_run(cfg)


@pytest.mark.parametrize("damage", ["pickle", "short", "gone"])
def test_a_damaged_weights_file_is_refused_before_anything_is_built(tmp_path, damage):
    cfg = configure(tmp_path, "task=pretrain")
    folder = weights_folder(tmp_path, cfg)
    file = folder / "vae.safetensors"
    if damage == "pickle":
        torch.save({"x": torch.zeros(3)}, file)
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:-8])
    else:
        file.unlink()
    cfg.weights = str(folder)
    message = {"pickle": "pickles are never read", "short": "cut short", "gone": "no file"}[damage]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_run(cfg)


@pytest.mark.parametrize(
    ("made", "message"), [("file", "is a file"), ("empty", "holds no config.json"), (None, "no weights")]
)
def test_what_is_no_weights_folder_is_refused(tmp_path, made, message):
    path = tmp_path / "w"
    if made == "file":
        path.write_bytes(b"x")
    elif made == "empty":
        path.mkdir()
    cfg = configure(tmp_path, "task=pretrain")
    cfg.weights = str(path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_run(cfg)


def test_a_run_never_writes_over_another(tmp_path):
    cfg = configure(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    check_run(cfg)
    (tmp_path / "run" / "checkpoints" / "step-00000001").touch()
    with pytest.raises(ValueError, match="resume=true"):
        check_run(cfg)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in"):
        check_run(configure(tmp_path, "resume=true"))


def test_muon_is_refused_where_zero_would_cut_matrices_to_pieces(tmp_path):
    with pytest.raises(ValueError, match="optimizer=adamw"):
        check_run(configure(tmp_path, "trainer=deepspeed_zero2"))
    check_run(configure(tmp_path, "trainer=deepspeed_zero2", "optimizer=adamw"))


def test_differences_name_the_place():
    theirs = {"a": 1, "stages": [{"x": 1}, {"x": 2}], "gone": 1}
    mine = {"a": 1, "stages": [{"x": 1}, {"x": 3}]}
    assert differences(theirs, mine) == ["gone is 1, None", "stages[1].x is 2, 3"]


def test_only_who_is_told_more_of_the_same_can_stand_on_weights_that_were_told_less(tmp_path):
    told = ["experiment=snowglobe_duo_instruct"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        less = compose("train", [*told, "~data.state.drawer.tells_sky", "state.channels=66"])
        more = compose("train", told)
        other = compose("train", [*told, "data.state.drawer.fineness=4"])
    folder = weights_folder(tmp_path, less, names=("vae", "text_encoder", "msdit", "instructnet"))
    description = json.loads((folder / "config.json").read_text())
    drawn = to_dict(less.data)["state"]
    (folder / "config.json").write_text(json.dumps({**description, "drawn_state": drawn}))
    check_weights(folder, more)
    with pytest.raises(ValueError, match=r"another preset: state_channels is 66, 76"):
        check_weights(folder, other)


@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK", "SLURM_PROCID"])
def test_of_many_processes_one_is_the_first(monkeypatch, name):
    for each in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(each, raising=False)
    assert is_first_process()
    monkeypatch.setenv(name, "3")
    assert not is_first_process()


def decoder(*blocks):
    stages = [
        {"factor": [1, 2, 2], "channels": 8, "encoder_blocks": 0, "decoder_blocks": count, "temporal_kernel": 1,
         "resample": "shuffle"}
        for count in blocks
    ]  # fmt: skip
    target = "gamegen_x.models.vae.Decoder"
    return {"_target_": target, "latent_channels": 4, "latent_kernel": 1, "num_groups": 4, "stages": stages}


def test_a_small_decoder_begins_as_the_first_blocks_of_a_larger_one(tmp_path):
    larger, smaller = (build_network(decoder(*blocks)) for blocks in ((2, 2), (0, 1)))
    save_file(larger.state_dict(), tmp_path / "small_decoder.safetensors")
    with pytest.raises(ValueError, match=r"blocks\S* is unknown"):
        fill(smaller, tmp_path / "small_decoder.safetensors")
    left = fill(smaller, tmp_path / "small_decoder.safetensors", may_leave=("blocks",))
    assert {name.rsplit(".", 2)[0].removesuffix(".conv") for name in left} >= {"blocks.0.1.first", "blocks.1.0.first"}
    kept, known = smaller.state_dict(), larger.state_dict()
    assert kept.keys() | set(left) == known.keys()
    assert all(torch.equal(value, known[name]) for name, value in kept.items())


@pytest.mark.parametrize(
    ("theirs", "mine", "fits"),
    [((2, 2), (0, 2), True), ((2, 2), (2, 2), True), ((0, 2), (1, 2), False), ((2, 2, 2), (2, 2), False)],
)
def test_a_small_decoder_has_no_more_blocks_than_the_one_it_begins_as(theirs, mine, fits):
    theirs, mine = decoder(*theirs), decoder(*mine)
    assert (differences(with_fewer_blocks(theirs, mine), mine) == []) == fits


def test_who_goes_on_with_another_drawing_of_the_world_is_told(tmp_path, capsys):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["data=snowglobe", "state=map", "output=unused"])
    folder = weights_folder(tmp_path, cfg)
    described = json.loads((folder / "config.json").read_text())
    told = to_dict(cfg.data)["state"]
    (folder / "config.json").write_text(json.dumps({**described, "drawn_state": told | {"near_angle": 0.55}}))
    cfg.weights = str(folder)
    say_what_is_told_differently(cfg)
    assert "data.state.near_angle is 0.55, None" in capsys.readouterr().err
    cfg.data.state.near_angle = 0.55
    say_what_is_told_differently(cfg)
    assert capsys.readouterr().err == ""
