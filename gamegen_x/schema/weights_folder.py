"""Weights folders before anything is loaded: what config.json says of them, and whether their files are whole."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

FORMAT = 1
CONFIG = "config.json"
MOST_SENTENCES = 256  # that a config.json lists; of weights that learned from more, none
SENTENCES_NAMED = 8  # in a warning, at most
DISTILLED = "distilled"  # looks once, and knows nothing of other times
KINDS = ("base", "causal", DISTILLED)
SHIPPED = (
    "weights/snowglobe-tiny, weights/snowglobe-duo, weights/snowglobe-quad and weights/vizdoom-duel come with the code"
)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The config.json of a weights folder. Raises FileNotFoundError or ValueError that says what to do."""
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file, expected a weights folder with {CONFIG} and safetensors; pickles are never read. "
            "A checkpoint of a run becomes such a folder by "
            "`python -m gamegen_x.training.export checkpoint=<file> output=<folder>`"
        )
    if not folder.is_dir():
        beside = [path.parent.name for path in folder.parent.glob(f"*/{CONFIG}")]
        near = get_close_matches(folder.name, beside, n=1)
        meant = f"; did you mean {folder.parent / near[0]}?" if near else ""
        raise FileNotFoundError(
            f"no weights folder {folder}{meant}; a training ends by writing one to outputs/<name>/weights, "
            f"and {SHIPPED}"
        )
    if not (folder / CONFIG).is_file():
        found = sorted(path.name for path in folder.iterdir())[:8]
        raise FileNotFoundError(f"{folder} holds no {CONFIG}, so it is not a weights folder; it holds {found}")
    try:
        config = json.loads((folder / CONFIG).read_text())
    except ValueError as mistake:
        raise ValueError(f"{folder / CONFIG} is not readable JSON: {mistake}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found_format = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{folder / CONFIG} has format {found_format!r}, this code reads format {FORMAT}")
    if config.get("kind") not in KINDS:
        raise ValueError(f"{folder / CONFIG} has kind {config.get('kind')!r}, expected one of {list(KINDS)}")
    if not isinstance(config.get("networks"), dict):
        raise ValueError(f"{folder / CONFIG} does not say under 'networks' what the networks are; export them again")
    return config


def check_transition(folder: str | Path, config: Mapping[str, Any]) -> None:
    """Raises ValueError where weights hold no network that steps the truth (`dynamics=learned`)."""
    if "transition" not in config["networks"]:
        raise ValueError(
            f"dynamics=learned needs weights with a transition network, and {folder} has none. For Snowglobe leave "
            "dynamics=rules, for its rules are at hand; for another game train one on the same recordings: python "
            f"train.py task=dynamics weights={folder} (docs/training.md says what else it takes)"
        )


def players_stepped(transition: Mapping[str, Any]) -> range:
    """How many players a transition network steps, by its description: those who are foreseen alone may be fewer than
    it learned from."""
    learned = int(transition["num_players"])
    return range(1 if transition.get("egocentric") else learned, learned + 1)


def check_players_stepped(folder: str | Path, config: Mapping[str, Any], num_players: int) -> None:
    """Raises ValueError where the transition network of weights steps other numbers of players."""
    transition = config["networks"]["transition"]
    if num_players not in players_stepped(transition):
        learned = transition["num_players"]
        raise ValueError(
            f"the transition network of {folder} steps {learned} players, and num_players={num_players}; set "
            f"num_players={learned}, or dynamics=none"
        )


def warn_of_players(learned: int | None, num_players: int) -> str | None:
    """A warning where more players are asked for than weights have `learned` together; None where all is well."""
    if learned is None or num_players <= learned:
        return None
    if learned == 1:
        return f"these weights draw each view by itself: {num_players} players are obeyed, but do not see each other"
    return (
        f"these weights learned from {learned} players at a time, {num_players} are asked for: they are obeyed, but "
        "others may be drawn wrongly or not at all"
    )


def players_together(config: Mapping[str, Any]) -> int | None:
    """How many players of a world weights have learned to show each other; None: nobody wrote it down.

    A view that is drawn by itself shows others, too, where its drawn state says where those stand whom the weights'
    transition network steps.
    """
    learned: int | None = config.get("num_players")
    drawer = (config.get("drawn_state") or {}).get("drawer") or {}
    stepped = config["networks"].get("transition") or {}
    if learned != 1:
        return learned
    return max(1, min(int(drawer.get("num_slots", 1)), int(stepped.get("num_players", 1))))


def as_learned(config: Mapping[str, Any], sentence: str) -> str:
    """A sentence as weights learned it, to the letter, where only case and punctuation differ; others as they are."""
    return next((one for one in config.get("sentences") or [] if _bare(one) == _bare(sentence)), sentence)


def warn_of_sentence(config: Mapping[str, Any], sentence: str) -> str | None:
    """A warning where weights never heard a sentence; None where they did, nobody wrote it down, or nothing is said."""
    learned: list[str] | None = config.get("sentences")
    if not sentence or learned is None or sentence in learned:
        return None
    if not learned:
        return f"these weights learned from no sentences, and will hardly follow {sentence!r}"
    examples = " ".join(learned[:: -(-len(learned) // SENTENCES_NAMED)])
    return f"these weights never heard {sentence!r} and may not follow it; of the {len(learned)} they know: {examples}"


def _bare(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.lower()))


def is_of_others(description: Mapping[str, Any]) -> bool:
    """Whether a network is read from the files of others, by `path`. It never changes, and is in no weights folder."""
    return "path" in description


def check_files(folder: str | Path, networks: Mapping[str, Mapping[str, Any]]) -> None:
    """Each network's safetensors file is as long as its header promises. Raises FileNotFoundError or ValueError."""
    for name, description in networks.items():
        if not is_of_others(description):
            _check_file(Path(folder) / f"{name}.safetensors")


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; a weights folder holds one .safetensors file for each network")
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
        if length > size - 8:
            raise ValueError(f"{path} is not a safetensors file (pickles are never read); export the weights again")
        try:
            header = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path} is not a safetensors file (pickles are never read)") from None
    if 8 + length + end != size:
        raise ValueError(
            f"{path} has {size} bytes, its header promises {8 + length + end}; it was cut short: copy it again"
        )
