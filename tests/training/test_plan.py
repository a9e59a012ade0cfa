"""What plan=true says, of networks that are too large to be built here as well."""

import json

import pytest
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS
from gamegen_x.training.plan import make_plan, print_plan

MEMORY_GIB = 80  # of the accelerators that the paper's numbers of machines are meant for


def composed(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.mark.parametrize(("stage", "network"), [("pretrain", "msdit"), ("instruct", "instructnet")])
def test_paper_stages_fit_their_accelerators_by_gradient_checkpointing_alone(stage, network):
    cfg = composed(f"experiment=paper_{stage}")
    plan = make_plan(cfg)
    assert plan["trained"] == [network]
    assert plan["parameters"]["text_encoder"] is None  # of others: its files need not be here
    assert plan["memory_gib_per_device"] < MEMORY_GIB
    cfg.task.gradient_checkpointing = False
    assert make_plan(cfg)["memory_gib_per_device"] > 4 * MEMORY_GIB


@pytest.mark.parametrize(
    ("task", "trained"),
    [
        ("vae", "vae"),
        ("decoder", "small_decoder"),
        ("pretrain", "msdit"),
        ("instruct", "instructnet"),
        ("distill", "msdit"),
    ],
)
def test_every_stage_has_a_plan_that_says_where_its_clips_are_from(task, trained, capsys):
    print_plan(composed(f"task={task}"))
    said = capsys.readouterr().out
    assert "the clips are made up (data=synthetic)" in said.splitlines()[0]
    assert any(line.startswith(f"  {trained:<14}") and line.endswith("  trained") for line in said.splitlines())
    print_plan(composed(f"task={task}", "data=snowglobe"))
    assert "made up" not in capsys.readouterr().out


def test_a_plan_says_what_a_run_would_be_refused_for(tmp_path, capsys):
    print_plan(composed("experiment=vizdoom_vae", f"data.dataset.folder={tmp_path}", f"output={tmp_path}/out"))
    said = capsys.readouterr().out.splitlines()
    assert f"the run itself would be refused: {json.loads(said[-1])['refused']}" in said[-2]
    assert str(tmp_path) in said[-2]
    assert make_plan(composed("task=vae", f"output={tmp_path}/out"))["refused"] is None


def test_what_is_unfrozen_of_a_foundation_is_trained():
    frozen, partly, whole = (
        make_plan(composed("task=instruct", f"task.unfreeze={unfreeze}")) for unfreeze in ("none", "last_1", "all")
    )
    assert frozen["trained"] == ["instructnet"]
    assert partly["trained"] == whole["trained"] == ["instructnet", "msdit"]
    assert frozen["parameters_trained"] < partly["parameters_trained"] < whole["parameters_trained"]
    assert whole["parameters_trained"] == frozen["parameters_trained"] + whole["parameters"]["msdit"]
