"""What a user sees who mistypes something: one message, at once, before torch is imported."""

import ast
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from gamegen_x.config import CONFIGS, INTERRUPTED, NOBODY_READS, USER_MISTAKE, build, check, quote_texts
from gamegen_x.config_targets import find_signature
from tests.forked_commands import ForkedCommands

SCRIPT = """
import sys
from gamegen_x.config import build, entry_point

@entry_point("root", {"weights": str})
def main(cfg):
    assert "torch" not in sys.modules
    if cfg.wait:
        print("waiting", flush=True)
        import time
        time.sleep(60)
    if cfg.made is not None:
        build(cfg.made)
    print("ran with", cfg.seed)

if __name__ == "__main__":
    main()
"""
ROOT = f"""
defaults:
  - _self_
  - data: synthetic
  - vae: tiny
  - action_space: snowglobe
  - places: in_views
  - experiment: null
seed: 0
weights: null
resume: false
wait: false
made: null
optimizer: {{_target_: torch.optim.AdamW, _partial_: true, lr: 1.0e-3}}
hydra: {{searchpath: ['file://{CONFIGS}'], output_subdir: null, run: {{dir: .}}, sweep: {{dir: ., subdir: .}}}}
"""
EXPERIMENT = """
# @package _global_
data: {batch_sise: 4}
sead: 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "configs" / "experiment").mkdir(parents=True)
    (folder / "configs" / "root.yaml").write_text(ROOT)
    (folder / "configs" / "experiment" / "typo.yaml").write_text(EXPERIMENT)
    (folder / "configs" / "broken.yaml").write_text("a: [1, 2\nb: 3\n")
    (folder / "program.py").write_text(SCRIPT)
    return folder


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HYDRA", "GAMEGEN"))}
    command = [sys.executable, "program.py", "-cp", str(folder / "configs"), *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, **environment},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A background job of a shell ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


@pytest.fixture(scope="module")
def commands(folder: Path) -> Iterator[ForkedCommands]:
    with ForkedCommands(folder) as commands:
        yield commands


def run(commands: ForkedCommands, *arguments: str, **environment: str) -> tuple[int, str, str]:
    ended = commands.run("program.py", "-cp", str(commands.folder / "configs"), *arguments, **environment)
    assert ended.seconds < 3
    return ended.status, ended.out, ended.err


GOLDEN = {
    "a key": (
        ["data.batch_sise=4"],
        "unknown key 'data.batch_sise' on the command line; did you mean 'data.batch_size'?",
    ),
    "a key at the top": (["sead=3"], "unknown key 'sead' on the command line; did you mean 'seed'?"),
    "a group": (["dta=synthetic"], "unknown key 'dta' on the command line; did you mean 'data'?"),
    "an option": (
        ["data=synthetik"],
        "data has no 'synthetik'; did you mean 'synthetic'? it has base, multiplayer_traces, ogamedata, shards, "
        "snowglobe, synthetic",
    ),
    "an added key": (["+sead=3"], "sead: unknown, nothing reads it; did you mean 'seed'?"),
    "an argument": (
        ["+optimizer.learning_rate=1"],
        "optimizer.learning_rate: AdamW takes no 'learning_rate'; it takes params, lr, betas, eps, weight_decay, "
        "amsgrad, maximize, foreach, capturable, differentiable, fused",
    ),
    "a type": (["data.batch_size=many"], "data.batch_size: expected integer or null, got string 'many'"),
    "a whole number": (["data.num_workers=2.0"], "data.num_workers: expected integer, got number 2.0; write 2"),
    "a truth value": (["data.cache_frames=1"], "data.cache_frames: expected true or false, got integer 1"),
    "a number of a library": (["optimizer.lr=fast"], "optimizer.lr: expected number or Tensor, got string 'fast'"),
    "a type at the top": (["seed=soon"], "seed: expected integer, got string 'soon'"),
    "a whole number at the top": (["seed=1.0"], "seed: expected integer, got number 1.0; write 1"),
    "a truth value at the top": (["wait=2"], "wait: expected true or false, got integer 2"),
    "a type of what is null in the file": (["weights=3"], "weights: expected string, got integer 3"),
    "null": (["data.views=null"], "data.views: expected string, got null"),
    "an item of a list": (
        ["vae.stages=[{factor: [1, 2, 2], chanels: 8}]"],
        "vae.stages.0.chanels: Stage takes no 'chanels', did you mean 'channels'? it takes factor, channels, "
        "encoder_blocks, decoder_blocks, temporal_kernel, resample",
    ),
    "something missing": (["data=shards"], "data.dataset.folder is missing; give it a value: data.dataset.folder=..."),
    "a module": (
        ["vae._target_=gamegen_x.models.vea.VideoVAE"],
        "vae._target_: there is no module gamegen_x.models.vea; did you mean 'gamegen_x.models.vae.VideoVAE'?",
    ),
    "a class": (
        ["vae._target_=gamegen_x.models.vae.VideoVEA"],
        "vae._target_: gamegen_x.models.vae has no class or function 'VideoVEA'; did you mean 'VideoVAE'?",
    ),
    "a foreign target": (
        ["optimizer._target_=os.system"],
        "optimizer._target_: YAML may build things of gamegen_x, data_pipeline, torch.optim, torch.nn, "
        "torch.distributed, lightning, transformers, deepspeed, torchmetrics only, got 'os.system'",
    ),
    "no value": (["seed"], "cannot read 'seed' on the command line; write key=value, quoted if needed"),
    "an experiment": (
        ["experiment=typo"],
        "2 mistakes in the configuration:\n"
        "  sead: unknown, nothing reads it; did you mean 'seed'?\n"
        "  data.batch_sise: VideoDataModule takes no 'batch_sise', did you mean 'batch_size'? it takes dataset",
    ),
    "an interpolation": (["data.seed='${sead}'"], "Interpolation key 'sead' not found; at data.seed"),
    "what a constructor refuses": (
        ["made={_target_: gamegen_x.schema.action_space.ActionSpace, name: x, keys: [a, a]}"],
        "made: an action space needs distinct keys, got ['a', 'a']",
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_a_mistake_gives_one_message_at_once(commands: ForkedCommands, case: str) -> None:
    arguments, expected = GOLDEN[case]
    status, out, err = run(commands, *arguments)
    assert status == USER_MISTAKE, err
    assert err.startswith(f"error: {expected}"), err
    assert err.count("error") == 1
    assert out == ""


def test_from_start_to_message_a_mistake_takes_less_than_three_seconds_of_a_core(folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    process = start(folder, "sead=3")
    assert "did you mean 'seed'?" in process.communicate(timeout=120)[1]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3


@pytest.mark.parametrize("good", [["seed=7"], ["seed=7", "resume=auto"], ["seed=7", "weights=null"]])
def test_a_good_configuration_runs(commands: ForkedCommands, good: list[str]) -> None:
    assert run(commands, *good) == (0, "ran with 7\n", "")


def test_output_that_nobody_reads_ends_a_command_without_a_traceback(folder: Path) -> None:
    process = start(folder, "seed=7")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == NOBODY_READS
    process.stderr.close()


def nulls(node: Any, place: str) -> Iterator[str]:
    for name, value in node.items():
        where = f"{place}.{name}" if place else name
        if isinstance(value, dict) and where != "hydra":
            yield from nulls(value, where)
        elif value is None:
            yield where


@pytest.mark.parametrize("root", ["train", "sample", "curate", "record", "evaluate", "export", "walk", "publish"])
def test_a_command_tells_of_what_kind_each_null_of_its_root_file_is(root: str) -> None:
    decorators = [
        node
        for source in [*CONFIGS.parent.glob("*.py"), *CONFIGS.parent.glob("*/**/*.py")]
        if f'"{root}"' in (text := source.read_text()) and "tests" not in source.parts and ".venv" not in source.parts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "entry_point" and node.args[0].value == root
    ]
    (decorator,) = decorators
    told = {key.value for each in decorator.args[1:] for key in each.keys}
    untold = [name for name in nulls(yaml.safe_load((CONFIGS / f"{root}.yaml").read_text()), "") if name not in told]
    assert not [name for name in untold if name.split(".")[0] not in told]


def test_a_broken_file_is_named(commands: ForkedCommands) -> None:
    status, _, err = run(commands, "-cn", "broken")
    assert status == USER_MISTAKE
    assert err.startswith("error: ")
    assert "broken.yaml" in err
    assert "line 2" in err


def test_hydras_own_ways_still_work(commands: ForkedCommands) -> None:
    status, out, _ = run(commands, "--cfg", "job", "--resolve", "-p", "data")
    assert status == 0
    assert "num_frames: 24" in out
    assert "seed: 0" in out
    status, out, _ = run(commands, "-m", "seed=1,2")
    assert status == 0
    assert [line for line in out.splitlines() if line.startswith("ran")] == ["ran with 1", "ran with 2"]
    line = {"COMP_LINE": "program.py data=", "COMP_POINT": "16"}
    status, out, _ = run(commands, "-sc", "query=bash", **line)
    assert status == 0
    assert "data=snowglobe" in out


def test_an_interrupted_run_says_how_to_go_on(folder: Path) -> None:
    process = start(folder, "wait=true")
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "interrupted" in err
    assert err.count("interrupted") == 1
    assert err.rstrip().endswith("wait=true resume=true")
    assert "Traceback" not in err


def test_everything_is_shown_to_those_who_ask(commands: ForkedCommands) -> None:
    status, _, err = run(commands, "optimizer.lr=fast", HYDRA_FULL_ERROR="1")
    assert status == 1
    assert "Traceback" in err
    assert "expected number" in err


def test_a_bug_is_no_users_mistake(commands: ForkedCommands) -> None:
    made = "made={_target_: gamegen_x.schema.trace.TextEvent.__init__, frame: 1}"
    status, _, err = run(commands, made)
    assert status != 0
    assert "TextEvent" in err


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "subprocess.run",
        "gamegen_x.config.os.system",  # by way of what a module imports
        "gamegen_x.config.functools",
        "lightning.pytorch.os",
        "torch.nn.modules.module.torch.load",
    ],
)
def test_yaml_cannot_call_what_it_likes(target: str, tmp_path: Path) -> None:
    node = OmegaConf.create({"_target_": target, "_args_": [f"touch {tmp_path / 'canary'}"]})
    for act in (check, build):
        with pytest.raises(ValueError, match="_target_"):
            act(OmegaConf.create({"node": node}))
    assert not (tmp_path / "canary").exists()


def test_arguments_of_base_classes_and_passed_on_names_are_known() -> None:
    assert "params" in find_signature("torch.optim.AdamW").parameters
    assert "max_steps" in find_signature("lightning.Trainer").parameters
    assert set(find_signature("gamegen_x.schema.action_space.ActionSpace").parameters) == {"name", "keys"}
    assert set(find_signature("gamegen_x.schema.trace.Trace.load").parameters) == {"folder"}


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml") if path.stem != "base"))
def test_every_dataset_of_the_repository_passes(name: str) -> None:
    overrides = [f"data={name}", "+seed=0", "+weights=null", "+action_space=snowglobe", "+places=in_views"]
    if name in ("shards", "multiplayer_traces"):
        overrides.append("data.dataset.folder=somewhere")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        check(compose(overrides=["+" + overrides[0], *overrides[1:]]))


def test_a_constant_that_other_values_point_to_is_no_typo() -> None:
    target = "gamegen_x.schema.action_space.ActionSpace"
    good = {"node": {"_target_": target, "letters": "wasd", "name": "${.letters}", "keys": ["w"]}}
    check(OmegaConf.create(good))
    good["node"]["name"] = "wasd"
    with pytest.raises(ValueError, match=r"node\.letters: ActionSpace takes no 'letters'"):
        check(OmegaConf.create(good))


@pytest.mark.parametrize(
    "text",
    [
        "Let it snow, please.",
        "Don't snow",
        "it's snow, isn't it?",
        'a "big" ball, now',
        "(fog)",
        "W*24, D*24",
        "Make it day.",
    ],
)
def test_text_may_hold_commas_and_apostrophes(text):
    arguments = ["sample.py", f"instruction={text}", f"prompt={text}", "num_frames=24", "sampler.num_steps=1"]
    quote_texts(arguments, "sample", {"instruction": str})
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("sample", arguments[1:])
    assert (cfg.instruction, cfg.prompt) == (text, text)
    assert arguments[3:] == ["num_frames=24", "sampler.num_steps=1"]


def test_text_that_is_quoted_already_stays_and_a_sweep_stays_a_sweep():
    for arguments in (["x", "prompt='a, b'"], ["x", "-m", "prompt=a,b"], ["x", "num_frames=1,2"]):
        before = list(arguments)
        quote_texts(arguments, "sample")
        assert arguments == before
