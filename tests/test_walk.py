import json

import pytest
from hydra import compose, initialize_config_dir

from gamegen_x.config import CONFIGS, check, to_dict
from gamegen_x.publish import model_card
from gamegen_x.walk import Stage, collect, in_words, missed_gates, walk


def a_stage(name, *programs):
    return Stage(name, tuple(("-c", program) for program in programs), expected_seconds=1.0)


def append(path, text):
    return f"open({str(path)!r}, 'a').write({text!r})"


def test_a_walk_runs_its_stages_in_order_and_not_twice(tmp_path, capsys):
    seen = tmp_path / "seen"
    stages = [a_stage("first", append(seen, "1")), a_stage("second", append(seen, "2"))]
    assert list(walk(stages, tmp_path, 1.0)) == ["first", "second"]
    walk(stages, tmp_path, 1.0)
    assert seen.read_text() == "12"
    assert "done before" in capsys.readouterr().out


def test_only_a_last_stage_may_be_repeated_with_another_command(tmp_path):
    seen = tmp_path / "seen"
    first, last = a_stage("first", append(seen, "1")), a_stage("last", append(seen, "2"))
    walk([first, last], tmp_path, 1.0)
    walk([first, a_stage("last", append(seen, "3"))], tmp_path, 1.0)
    assert seen.read_text() == "123"
    with pytest.raises(ValueError, match="was walked with other commands of its stage first"):
        walk([a_stage("first", append(seen, "4")), last], tmp_path, 1.0)
    assert seen.read_text() == "123"


def test_commands_of_one_stage_run_side_by_side(tmp_path):
    path = tmp_path / "meeting"
    waits = f"import time, pathlib\nwhile not pathlib.Path({str(path)!r}).exists(): time.sleep(0.01)"
    walk([a_stage("meet", waits, append(path, "x"))], tmp_path, 1.0)
    assert path.exists()


def test_a_failing_command_ends_the_walk_with_its_last_words_and_later_goes_on_from_there(tmp_path):
    seen = tmp_path / "seen"
    good, bad = a_stage("good", append(seen, "1")), a_stage("bad", "raise SystemExit('no disk left')")
    with pytest.raises(ValueError, match=r"(?s)stage bad failed with status 1.*no disk left.*goes on from this stage"):
        walk([good, bad], tmp_path, 1.0)
    walk([good, a_stage("bad", append(seen, "2"))], tmp_path, 1.0)
    assert seen.read_text() == "12"


def test_figures_of_other_recipes_get_a_prefix_and_shares_of_their_ceilings(tmp_path):
    (tmp_path / "a").write_text(json.dumps({"sr_c": 0.9, "ceiling_accuracy": 1.0}))
    (tmp_path / "b").write_text(json.dumps({"sr_c": 0.4, "ceiling_accuracy": 0.8}))
    merged = collect({"": str(tmp_path / "a"), "unfrozen": str(tmp_path / "b")}, {"record": 2.0, "train": 3.0})
    assert merged["sr_c_share_of_ceiling"] == 0.9
    assert merged["unfrozen_sr_c_share_of_ceiling"] == 0.5
    assert merged["seconds_total"] == 5
    with pytest.raises(ValueError, match="no figures in"):
        collect({"": str(tmp_path / "absent")}, {})


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"sr_c": 0.95, "off": 0.25, "chance": 0.2}, []),
        ({"sr_c": 0.85, "off": 0.25, "chance": 0.2}, ["sr_c is 0.85, expected at least 0.9"]),
        ({"sr_c": 0.95, "off": 0.45, "chance": 0.2}, ["off is 0.45, expected at most 0.3"]),
        ({"off": 0.25, "chance": 0.2}, ["sr_c was not measured"]),
    ],
)
def test_what_falls_short_of_a_gate_is_said_in_words(figures, words):
    gates = {"sr_c": {"at_least": 0.9}, "off": {"at_most": 0.1, "above": "chance"}}
    assert missed_gates(gates, figures) == words


def test_a_model_card_holds_the_runs_figures_and_commands():
    words = {
        "summary": "A world.", "licence": "Apache-2.0", "try_it": ["python sample.py"], "measured": "On planets.",
        "figures": [{"name": "SR-C", "value": "sr_c", "beside": "ceiling_accuracy"}], "data": "Bots.",
        "limits": ["One."],
    }  # fmt: skip
    config = {"action_space": {"keys": ["w"]}, "height": 64, "width": 64, "fps": 24.0, "kind": "base", "sampler": {}}
    result = {"sr_c": 0.912345, "ceiling_accuracy": 0.98, "seconds_total": 120.0}
    stages = {"train": {"commands": [["train.py", "experiment=x"]], "seconds": 60.0}}
    card = model_card("mine", words, config, {"vae": 4_000_000}, 1_000_000, "float16", result, stages)
    assert "| SR-C | 0.912 | 0.98 |\n" in card
    assert "python train.py experiment=x" in card
    assert "| vae | 4.00 M |" in card
    words["figures"][0]["unfrozen"] = "unfrozen_sr_c"
    two = model_card("mine", words, config, {}, 1, "float16", {**result, "unfrozen_sr_c": 0.9}, stages)
    assert "| foundation unfrozen |" in two
    assert "| SR-C | 0.912 | 0.98 | 0.9 |" in two


COMPOSED_BY = {
    ("train.py",): "train",
    ("sample.py",): "sample",
    ("-m", "gamegen_x.games.record"): "record",
    ("-m", "gamegen_x.evaluation"): "evaluate",
    ("-m", "data_pipeline"): "curate",
}


@pytest.mark.parametrize("budget", ["demo", "full"])
def test_every_command_of_a_walk_is_one_that_its_program_understands(budget):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        stages = to_dict(compose("walk", [f"budget={budget}"]))["stages"]
        commands = [command for node in stages for command in Stage.from_config(node).commands]
        for command in commands:
            assert not any(word.endswith("=None") for word in command)  # YAML's null, pasted into a word
            program = command[: 2 if command[0] == "-m" else 1]
            check(compose(COMPOSED_BY[program], list(command[len(program) :])))
    assert len(commands) >= 9


def test_the_result_is_told_in_words():
    said = in_words({"sr_c": 0.691, "sr_c_chance": 0.2, "ceiling_accuracy": 0.984, "vae_psnr_db": 28.46})
    assert "69% of the keys (20% by chance, 98%" in said
    assert "28.5 dB" in said


def test_nothing_is_said_of_a_figure_that_was_not_measured():
    assert in_words({"vae_psnr_db": 28.46}) == "its pictures keep 28.5 dB"
    assert in_words({"sr_c": 0.691, "sr_c_chance": 0.2}) == "it obeys 69% of the keys (20% by chance)"
    assert in_words({"sr_c": 0.691}) == "it obeys 69% of the keys"
    assert in_words({}) == ""
