"""The only door between YAML and objects: entry points, checks before anything is built, build(node)."""

from __future__ import annotations

import difflib
import errno
import functools
import math
import os
import re
import select
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
import yaml  # type: ignore[import-untyped]
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gamegen_x.config_targets import (
    Signature,
    UnknownTarget,
    find_mistake,
    find_signature,
    other_kind,
    unknown_argument,
)

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
USER_MISTAKE = 2  # exit status
INTERRUPTED = 130
NOBODY_READS = 141
SHOW_EVERYTHING = "HYDRA_FULL_ERROR"
SHORT_MESSAGES = "GAMEGEN_X_SHORT_MESSAGES"
FILE_MISTAKES = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EIO: "look after the disk",
    errno.EMFILE: "allow more open files (ulimit -n)",
}
MAX_SHOWN = 6  # mistakes, or known names, in one message
MOST_SEEDS = 2**31  # every generator that is seeded takes so many
Kinds = Mapping[str, type | str]  # of plain values: int, float, bool, str or list; of a mapping: who takes it
_REFERENCE = re.compile(r"\$\{([^${}:]+)\}")

# ${len:${action_space.keys}} in YAML: a network's number of keys is derived, never written.
OmegaConf.register_new_resolver("len", len, replace=True)
# ${frames_per_latent:${vae.stages}}: how many video frames an autoencoder folds into a latent frame.
OmegaConf.register_new_resolver(
    "frames_per_latent", lambda stages: math.prod(stage["factor"][0] for stage in stages), replace=True
)


def entry_point(
    config_name: str, kinds: Kinds = MappingProxyType({})
) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Makes a function of a composed and checked config a command.

    A value of the root file must be of the kind that stands there. `kinds` tells it of those that are null there, and
    of a mapping which function takes what is in it.
    A user's mistake ends it with one message and status 2, Ctrl-C with one line and status 130. With HYDRA_FULL_ERROR=1
    everything is raised as it is.
    """

    def decorate(main: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(main)
        def checked(cfg: DictConfig) -> None:
            with _mistakes_in_one_message(config_name):  # here too: Hydra would add lines of its own
                check(cfg, kinds)
                main(cfg)

        @functools.wraps(main)
        def run() -> None:
            if os.environ.get(SHOW_EVERYTHING) != "1" or os.environ.get(SHORT_MESSAGES) == "1":
                os.environ[SHOW_EVERYTHING] = "1"  # Hydra then raises, and the message is ours
                os.environ[SHORT_MESSAGES] = "1"  # so do the processes that this one starts
                with _mistakes_in_one_message(config_name):
                    quote_texts(sys.argv, config_name, kinds)
                    hydra.main(config_path=str(CONFIGS), config_name=config_name, version_base="1.3")(checked)()
            else:
                hydra.main(config_path=str(CONFIGS), config_name=config_name, version_base="1.3")(
                    _raising(main, kinds)
                )()

        return run

    return decorate


def _raising(main: Callable[[DictConfig], None], kinds: Kinds) -> Callable[[DictConfig], None]:
    @functools.wraps(main)
    def checked(cfg: DictConfig) -> None:
        check(cfg, kinds)
        main(cfg)

    return checked


@contextmanager
def _mistakes_in_one_message(config_name: str) -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        if not _is_output_unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left of it goes nowhere
        sys.exit(NOBODY_READS)
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt) and end.code != INTERRUPTED:  # Lightning ends its loop so
            _end_interrupted()
        raise
    except OverrideParseException as mistake:
        _end_with(f"cannot read {mistake.override!r} on the command line; write key=value, quoted if needed")
    except HydraException as mistake:
        _end_with(_explain(mistake, config_name))
    except (OmegaConfBaseException, yaml.YAMLError) as mistake:
        _end_with(_one_line(str(mistake)))
    except (ValueError, *FILE_MISTAKES) as mistake:
        _end_with(str(mistake))
    except OSError as mistake:
        if mistake.errno not in REMEDIES:
            raise
        remedy = REMEDIES[mistake.errno]
        _end_with(f"{mistake}; what was finished is kept: {remedy} and run the same command again")


def quote_texts(arguments: list[str], config_name: str, kinds: Kinds = MappingProxyType({})) -> None:
    """Puts quotes around values that are text and that Hydra's grammar takes for something else: "Snow, please"."""
    if {"-m", "--multirun"} & set(arguments):
        return  # there a comma means one run after another
    path = CONFIGS / f"{config_name}.yaml"
    written = (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}  # or it stands in a --config-dir
    root = {**written, **{name: "" for name, kind in kinds.items() if kind is str}}
    for number, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if isinstance(root.get(name), str) and not _is_one_value(argument):
            escaped = value.replace("'", "\\'")
            arguments[number] = f"{name}='{escaped}'"


def _is_one_value(argument: str) -> bool:
    try:
        return not OverridesParser.create().parse_override(argument).is_sweep_override()
    except HydraException:
        return False


def build(node: DictConfig | Mapping[str, Any], **kwargs: Any) -> Any:
    """The object that a node with a `_target_` describes; nested nodes first.

    Raises ValueError for a target outside the packages that YAML may name, or arguments that it does not take.
    """
    node = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    mistakes = list(_target_mistakes(OmegaConf.to_container(node, resolve=True), "", frozenset()))
    refused = [mistake for mistake in mistakes if "_target_" in mistake]
    if refused:
        raise ValueError(refused[0])
    return instantiate(node, _convert_="all", **kwargs)


def to_dict(node: DictConfig) -> dict[str, Any]:
    """Plain, resolved values: what is written beside results so that they can be made again."""
    return OmegaConf.to_container(node, resolve=True)  # type: ignore[return-value]


def check(cfg: DictConfig, kinds: Kinds = MappingProxyType({}), root: str | None = None) -> None:
    """Finds every mistake that can be seen before anything is built or imported. `kinds`: see `entry_point`.

    `root` is the name of the file that it was composed from; None: the one that this command began with.

    Missing values, names that nothing takes, values of a wrong type, targets outside our packages. Raises ValueError.
    """
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    mistakes = [f"{key} is missing; give it a value: {key}=..." for key in _missing(raw, "")]
    is_complete = not mistakes
    referenced = frozenset(_references(raw, ()))
    mistakes += _stray_mistakes(cfg, root, referenced)
    mistakes += _kind_mistakes(_root_file(root) or {}, raw, "", kinds)
    for place, target in kinds.items():
        if isinstance(target, str):
            given = {name: value for name, value in raw[place].items() if value is not None}
            mistakes += _argument_mistakes(given, find_signature(target), place, frozenset())
    if is_complete:
        resolved = OmegaConf.to_container(cfg, resolve=True)
        told = {mistake.split(":")[0] for mistake in mistakes}
        found = _target_mistakes(resolved, "", referenced)
        mistakes += [mistake for mistake in found if _written_at(raw, mistake.split(":")[0]) not in told]
    if len(mistakes) == 1:
        raise ValueError(mistakes[0])
    if mistakes:
        shown = "".join(f"\n  {mistake}" for mistake in mistakes[:MAX_SHOWN])
        more = f"\n  and {len(mistakes) - MAX_SHOWN} more" if len(mistakes) > MAX_SHOWN else ""
        raise ValueError(f"{len(mistakes)} mistakes in the configuration:{shown}{more}")


def _written_at(raw: Any, place: str) -> str:
    """The key whose value stands at a place, by interpolations that are nothing else: itself where there are none."""
    found, names, value = "", place.split("."), raw
    while names:
        name = names.pop(0)
        found = _join(found, name)
        value = value.get(name) if isinstance(value, dict) else None
        copied = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if copied:
            found, names, value = "", [*copied[1].split("."), *names], raw
    return found


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def chosen(only: Any, known: Sequence[str], kind: str) -> list[str]:
    """The names that `only` gives, one or several; None: all that are known. Raises ValueError on another name."""
    names = list(known) if only is None else [only] if isinstance(only, str) else list(only)
    for name in names:
        if name not in known:
            raise ValueError(f"only={name}: no such {kind}{nearest(name, known)}; there are {', '.join(known)}")
    return names


def _target_mistakes(value: Any, place: str, referenced: frozenset[str]) -> Iterator[str]:
    """What is wrong in nodes with a `_target_`, from here down."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _target_mistakes(item, f"{place}.{number}", referenced)
    if not isinstance(value, dict):
        return
    if "_target_" in value:
        try:
            signature = find_signature(str(value["_target_"]))
        except UnknownTarget as mistake:
            yield f"{_join(place, '_target_')}: {mistake}"
            return
        yield from _argument_mistakes(value, signature, place, referenced)
    for name, item in value.items():
        yield from _target_mistakes(item, _join(place, str(name)), referenced)


def _argument_mistakes(
    node: Mapping[str, Any], signature: Signature, place: str, referenced: frozenset[str]
) -> Iterator[str]:
    arguments = {name: item for name, item in node.items() if not (name.startswith("_") and name.endswith("_"))}
    for name, item in arguments.items():
        parameter = signature.parameters.get(name)
        where = _join(place, name)
        if parameter is None:
            is_constant_of_the_yaml = where in referenced
            if not (signature.takes_any or is_constant_of_the_yaml):
                yield f"{where}: {unknown_argument(signature, name)}"
            continue
        mistake = find_mistake(item, parameter, signature)
        is_filled_in_later = item is None and where not in _overridden()
        if mistake and not is_filled_in_later:
            yield f"{_join(where, mistake.place) if mistake.place else where}: {mistake.said}"


def _overridden() -> set[str]:
    """The keys that were given on the command line."""
    if not HydraConfig.initialized():
        return set()
    return {override.split("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task}


def _missing(value: Any, place: str) -> Iterator[str]:
    """Every key that YAML marks as mandatory and nobody gave."""
    if value == "???":
        yield place
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _missing(item, _join(place, str(name)))


def _stray_mistakes(cfg: DictConfig, root: str | None, referenced: frozenset[str]) -> list[str]:
    """Top-level names that neither the root file nor a config group knows and nothing refers to: typos in files."""
    known = _known_at_the_top(root)
    if known is None:
        return []
    strays = [str(name) for name in cfg if name not in known and name not in referenced]
    return [f"{name}: unknown, nothing reads it{nearest(name, sorted(known))}" for name in strays]


def _kind_mistakes(written: Mapping[str, Any], given: Mapping[str, Any], place: str, kinds: Kinds) -> Iterator[str]:
    """Values that are of another kind than what the root file holds; nodes with a `_target_` are judged elsewhere."""
    for name, example in written.items():
        where, value = _join(place, name), given.get(name)
        if where in ("defaults", "hydra"):
            continue
        if isinstance(example, dict) and isinstance(value, dict):
            if "_target_" not in example:
                yield from _kind_mistakes(example, value, where, kinds)
            continue
        kind = kinds.get(where) or _kind_of(example)
        is_null_still = value is None and example is None
        is_third_way = kind is bool and value == "auto"
        if not isinstance(kind, type) or is_null_still or is_third_way or _is_open(value):
            continue
        mistake = other_kind(value, kind)
        if mistake:
            yield f"{where}: {mistake}"


def _kind_of(example: Any) -> type | None:
    """What a value of the root file tells of those that may take its place."""
    return None if example is None or isinstance(example, dict) or _is_open(example) else type(example)


def _is_open(value: Any) -> bool:
    """Whether a value is filled in from elsewhere."""
    return isinstance(value, str) and (value == "???" or "${" in value)


def _root_file(root: str | None) -> dict[str, Any] | None:
    """The file that a config was composed from, as it is written; None where there is none."""
    if not HydraConfig.initialized():
        return None
    for source in HydraConfig.get().runtime.config_sources:
        path = Path(source.path) / f"{root or HydraConfig.get().job.config_name}.yaml"
        if source.schema == "file" and path.is_file():
            return yaml.safe_load(path.read_text()) or {}
    return None


def _known_at_the_top(root: str | None) -> set[str] | None:
    """The keys of a root file and the groups it chooses from; None where that cannot be told."""
    written = _root_file(root)
    if written is None:
        return None
    known = {str(name) for name in written if name not in ("defaults", "hydra")}
    for choice in written.get("defaults", []):
        if isinstance(choice, str):
            if choice != "_self_":
                return None  # it takes its keys from another file
            continue
        for group in choice:
            known.add(str(group).split()[-1].split("@")[-1].strip("/").split("/")[0])
    return known


def _references(value: Any, place: tuple[str, ...]) -> Iterator[str]:
    """Every key that an interpolation points to, in full."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _references(item, (*place, str(name)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _references(item, (*place, str(number)))
    elif isinstance(value, str):
        for reference in _REFERENCE.findall(value):
            name = reference.lstrip(".")
            num_dots = len(reference) - len(name)
            parts = [*place[: len(place) - num_dots], *name.split(".")] if num_dots else name.split(".")
            for length in range(1, len(parts) + 1):
                yield ".".join(parts[:length])


def _explain(mistake: HydraException, config_name: str) -> str:
    """A mistake that Hydra found, in one message with the nearest name."""
    if isinstance(mistake, InstantiationException):
        return _explain_build(mistake)
    said = str(mistake)
    override = re.search(r"Could not override '([^']+)'", said)
    if override:
        key = override[1].split("@")[0]
        known = _known_keys(config_name)
        last = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
        hint = nearest(key, known) or nearest(key, last)
        siblings = "" if hint or not last else f"; known there: {', '.join(sorted(last)[: 4 * MAX_SHOWN])}"
        return f"unknown key {key!r} on the command line{hint}{siblings}"
    option = re.search(r"Could not find '([^']+)'", said)
    if option:
        options = re.findall(r"^\t(\S+)", said.split("Config search path")[0], re.MULTILINE)
        group, _, name = option[1].rpartition("/")
        hint = nearest(name, options) or ";"
        return f"{group or 'the folder of configs'} has no {name!r}{hint} it has {', '.join(options) or 'nothing'}"
    return _one_line(said)


def _explain_build(mistake: InstantiationException) -> str:
    """What a constructor refused. A bug in it is no user's mistake: it is raised."""
    cause = mistake.__cause__
    key = re.search(r"full_key: (\S+)", str(mistake))
    where = f"{key[1]}: " if key else ""
    if isinstance(cause, InstantiationException):
        return _explain_build(cause)
    if isinstance(cause, (ValueError, *FILE_MISTAKES)):
        return _one_line(f"{where}{cause}")
    if isinstance(cause, TypeError) and "argument" in str(cause) and "__init__" in str(cause):
        return _one_line(f"{where}{cause}")
    raise mistake


def _known_keys(config_name: str) -> list[str]:
    """Every key and group that a command line may override, composed without the one at fault."""
    from hydra import compose, initialize_config_dir
    from hydra._internal.utils import get_args_parser
    from hydra.core.global_hydra import GlobalHydra

    arguments = get_args_parser().parse_args()
    folder = Path(arguments.config_path or CONFIGS).resolve()
    for overrides in (_groups_only(arguments.overrides, folder), []):
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(folder), version_base="1.3"):
                cfg = compose(arguments.config_name or config_name, overrides=overrides)
        except (HydraException, OmegaConfBaseException):
            continue
        groups = [path.name for path in folder.iterdir() if path.is_dir()]
        return [*groups, *_paths(OmegaConf.to_container(cfg, resolve=False), "")]
    return []


def _groups_only(overrides: Sequence[str], folder: Path) -> list[str]:
    return [override for override in overrides if (folder / override.lstrip("+").split("=")[0].split("@")[0]).is_dir()]


def _paths(value: Any, place: str) -> Iterator[str]:
    if place:
        yield place
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _paths(item, _join(place, str(name)))


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _one_line(said: str) -> str:
    """Without Hydra's and OmegaConf's appendices."""
    lines = [line.strip() for line in said.splitlines()]
    kept = [line for line in lines if line and not re.match(r"(object_type|reference_type)=", line)]
    return "; ".join(re.sub(r"^full_key: ", "at ", line) for line in kept)


def _end_with(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(USER_MISTAKE)


def _is_output_unread() -> bool:
    """Whether who read the output reads no more, as `| head` does."""
    watch = select.poll()
    watch.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def _end_interrupted() -> None:
    command = shlex.join(["python", *_program(), *sys.argv[1:]])
    print(f"\ninterrupted; what was written is whole. To go on: {_resumed(command)}", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _program() -> list[str]:
    """How this program is called: by its file, or as a module."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return sys.argv[:1] if spec is None else ["-m", spec.name.removesuffix(".__main__")]


def _resumed(command: str) -> str:
    """The same command, with resume=true where the config has such a key."""
    has_resume = "resume" in (_known_at_the_top(None) or ())
    return f"{command} resume=true" if has_resume and "resume=" not in command else command


def rules_know(cfg: DictConfig, keys: Sequence[str]) -> bool:
    """Whether the dynamics that were chosen bring a game with rules, for these keys."""
    return has_rules(cfg) and list(cfg.game["keys"]["keys"]) == list(keys)


def check_seed(seed: int) -> None:
    """Raises ValueError for a seed that some generator would not take."""
    if not 0 <= seed < MOST_SEEDS:
        raise ValueError(f"a seed is a whole number from 0 to {MOST_SEEDS - 1}, got seed={seed}")


def has_rules(cfg: DictConfig) -> bool:
    """Whether the dynamics that were chosen bring a game with rules; `dynamics=learned` brings none."""
    return "_target_" in (cfg.get("game") or {})
