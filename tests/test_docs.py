"""What is written is checked: links, anchors, paths, and every command, which is composed but not run."""

import glob
import itertools
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from gamegen_x.config import CONFIGS, check

ROOT = CONFIGS.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "weights/*/README.md", "benchmarks/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FOREIGN = ("git", "cd", "tar", "wandb", "tensorboard", "open", "cat", "ls")  # programs that are not ours
SHELL = ("bash", "sh", "console")
INVENTED = ("dots", "mine")  # what pages call the reader's own game, dataset or recipe
ROOTS = (
    "train",
    "curate",
    "record",
    "sample",
    "evaluate",
    "soak",
    "serve",
    "bots",
    "replay",
    "two_windows",
    "real_lines",
)


def name_of(path):
    return str(path.relative_to(ROOT))


@cache
def prose(page):
    return FENCE.sub("", page.read_text())


@cache
def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


def commands_in(text):
    """The command lines of shell blocks; lines that end in a backslash are joined."""
    for language, block in FENCE.findall(text):
        if language in SHELL:
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(re.sub(r"<[^<>]+>", "something", line.removeprefix("$ ")), comments=True)
                if words:
                    yield words


def inline_commands_in(text):
    """Whole commands within a sentence or a table. One that is cut short by ... or <...> is none."""
    for code in INLINE.findall(text):
        if re.match(r"(\S+/)?(python|make) \S", code) and not re.search(r"<|\.\.\.( |$)", code):
            yield shlex.split(code)


def written_commands():
    for page in PAGES:
        for words in itertools.chain(commands_in(page.read_text()), inline_commands_in(prose(page))):
            yield name_of(page), words
    for path in sorted(CONFIGS.rglob("*.yaml")):
        for line in re.findall(r"^# ?(python .+)$", path.read_text(), re.MULTILINE):
            if "..." not in line and "key=value" not in line:
                yield name_of(path), shlex.split(re.sub(r"\s{2,}\(.*\)$", "", line))
    for path in sorted((CONFIGS / "budget").glob("*.yaml")):
        for stage in yaml.safe_load(path.read_text())["stages"]:
            for line in stage["commands"]:
                yield name_of(path), ["python", *shlex.split(line.replace("${", "").replace("}", ""))]


COMMANDS = {}  # each once, with the first place where it is written
for place, words in written_commands():
    COMMANDS.setdefault(shlex.join(words), (place, words))


@pytest.fixture(scope="module")
def configs():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def test_there_is_something_to_check():
    assert len(PAGES) > 8
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    dead = []
    for target in LINK.findall(prose(page)):
        if re.match(r"\w+:", target):
            continue  # another site
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        if not there.exists() or (anchor and (there.suffix != ".md" or anchor not in anchors(there))):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_is_named_exists(page):
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = [code for code in INLINE.findall(prose(page)) if re.fullmatch(r"test_\w+", code)]
    assert [name for name in named if f"def {name}(" not in written] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_is_named_exists(page):
    """Of our own folders, in backticks; with {a,b} and * as a shell reads them."""
    missing = []
    for code in INLINE.findall(prose(page)):
        named = re.fullmatch(r"(configs|gamegen_x|data_pipeline|tests|docs|notebooks|benchmarks)/[\w{},./*-]*", code)
        if not named or Path(code).stem in INVENTED:
            continue
        if not any(glob.glob(str(ROOT / each)) for each in braces_expanded(code)):
            missing.append(code)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_choice_of_a_group_that_is_named_exists(page):
    """`trainer=deepspeed_zero2` in a sentence is configs/trainer/deepspeed_zero2.yaml."""
    wrong = []
    right_ones = prose(page).split("## Common mistakes")[0]
    for group, choice in re.findall(r"`\+?([a-z_/]+)=(\w+)`", right_ones):
        is_named = (CONFIGS / group).is_dir() and choice not in ("null", *INVENTED)
        if is_named and not (CONFIGS / group / f"{choice}.yaml").is_file():
            wrong.append(f"{group}={choice}")
    assert not wrong


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[:90])
def test_every_command_that_is_written_composes(command, configs):
    place, words = COMMANDS[command]
    words = [re.sub(r"^\[(.*)\]$", r"\1", word) for word in words]  # [key=value] may be left out
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]  # a variable of the environment
    program, arguments = Path(words[0]).name, words[1:]
    if program == "torchrun":
        program, arguments = "python", arguments[next(i for i, word in enumerate(arguments) if word.endswith(".py")) :]
    if program == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in arguments if "=" not in word} <= targets, place
    elif program == "pip" or arguments[:2] == ["-m", "pip"]:
        extras = {extra for group in re.findall(r"\[([\w,]+)\]", " ".join(arguments)) for extra in group.split(",")}
        known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        assert extras <= set(known), place
    elif program in ("python", "python3"):
        check_python(arguments, place)
    elif all(re.match(r"[~+]?[a-z_/.]+(=|$)", word) for word in words) and re.search("[=~]", command):
        assert any(fits(root, words) for root in ROOTS), place  # overrides by themselves
    else:
        assert program in FOREIGN, f"{place}: nobody checks {program!r}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_override_with_a_plus_or_a_tilde_fits_some_command(page, configs):
    """Hydra refuses a plus where a key is there already, and a tilde where it is not."""
    named = [
        words.split() for words in INLINE.findall(prose(page)) if re.match(r"[+~][a-z]", words) and "<" not in words
    ]
    assert not [words for words in named if not any(fits(root, words) for root in ROOTS)]


def fits(root, overrides):
    try:
        compose(root, overrides=overrides)
    except HydraException:
        return False
    return True


def check_python(arguments, place):
    if arguments[0] != "-m":
        source, rest = ROOT / arguments[0], arguments[1:]
    elif arguments[1] in ("pytest", "venv"):
        return
    else:
        module = ROOT / arguments[1].replace(".", "/")
        source, rest = module / "__main__.py" if module.is_dir() else module.with_suffix(".py"), arguments[2:]
    assert source.is_file(), f"{place}: no {name_of(source)}"
    text = source.read_text()
    if arguments[1:3] == ["data_pipeline", "validate"]:
        assert len(rest) == 2, f"{place}: validate takes one path"
        return
    entry = re.search(r'@entry_point\("(\w+)"\)', text)
    if entry is None:  # no config: its options stand in its source
        unknown = [word for word in rest if word.startswith("--") and f'"{word.split("=")[0]}"' not in text]
        assert not unknown, f"{place}: {name_of(source)} has no {unknown}"
        return
    if not rest or any(word.endswith(tuple(f"={name}" for name in INVENTED)) for word in rest):
        return  # only its name, or about something that the reader writes
    plain = [word for before, word in zip(["", *rest], rest, strict=False) if before != "--cfg"]
    overrides = [word for word in plain if not word.startswith("-")]
    check(compose(entry[1], overrides=[first_of_sweep(word) if "-m" in rest else word for word in overrides]))


def first_of_sweep(override):
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return override
    return f"{parsed.key_or_group}={next(iter(parsed.sweep_string_iterator()))}"


def braces_expanded(path):
    parts = [part[1:-1].split(",") if part.startswith("{") else [part] for part in re.split(r"(\{[^}]*\})", path)]
    return ["".join(choice) for choice in itertools.product(*parts)]


def test_the_tree_of_the_architecture_names_every_module_and_no_other():
    page = (ROOT / "docs/architecture.md").read_text()
    tree = next(block for _, block in FENCE.findall(page) if block.startswith("train.py"))
    named, folders = [], []
    for line in tree.splitlines():
        depth = len(re.match(r"[│ ]*(├── |└── )?", line)[0]) // 4
        text = re.sub(r"^[│├└─ ]*", "", line)
        folder = re.match(r"([\w./]+)/ ", text + " ")
        if folder:
            folders[depth:] = [folder[1]]
        for file in re.findall(r"^((?:[\w/]+\.py ?)+)", text):
            named += ["/".join([*folders[:depth], each]) for each in file.split()]
    ours = {
        name_of(path)
        for package in ("gamegen_x", "data_pipeline")
        for path in (ROOT / package).rglob("*.py")
        if path.stat().st_size
    }
    assert sorted(name for name in named if "/" in name) == sorted(ours)  # each once


def test_the_tree_of_the_architecture_names_every_root_and_group_of_configs():
    page = (ROOT / "docs/architecture.md").read_text()
    tree = page[page.index("configs/     ") : page.index("gamegen_x/\n")]
    groups = {f"{path.name}/" for path in CONFIGS.iterdir() if path.is_dir()}
    assert set(re.findall(r"\b\w+/", tree)) == groups | {"configs/", "critic/", "perceptual/"}
    assert set(re.findall(r"\w+\.yaml", tree)) == {path.name for path in CONFIGS.glob("*.yaml")}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=name_of)
def test_notebooks_are_kept_without_outputs_and_define_nothing(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not [cell["id"] for cell in cells if cell["outputs"] or cell["execution_count"] is not None]
    assert not re.search(r"^\s*(def|class) ", "\n".join("".join(cell["source"]) for cell in cells), re.MULTILINE)
