"""Stage: clips in, clips out; the rejected pass by untouched."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from data_pipeline.clip import Clip, Source
from data_pipeline.ledger import Fate

MAX_NAME = 60  # letters: the name of a member in a tar has at most 100
NOT_IN_IDENTITY = {"is_identity": False}  # metadata of a field that cannot change what is written


class Stage(ABC):
    """One step of the work. Subclasses are frozen dataclasses of their settings; they travel to the workers by pickle.

    A stage must give the same clips when it is repeated: a killed run starts its unfinished sources again.
    """

    @abstractmethod
    def process(self, clip: Clip) -> Iterator[Clip]:
        """Yields what becomes of a clip: itself, changed, rejected, or the clips cut from it."""

    def settle(self, fates: Sequence[Fate]) -> Mapping[str, tuple[str, str]]:  # noqa: ARG002
        """Clips to reject in view of all sources, as {clip: (reason, detail)}.

        Called once, after all sources, with the clips kept so far in the dataset's order.
        """
        return {}


class Ingest(ABC):
    """The first step: where the sources are, and what is known about each."""

    @abstractmethod
    def find(self, folder: Path) -> Mapping[str, Path]:
        """Every source below a folder by its name. Raises ValueError that says what was expected when there is none."""

    def files(self, path: Path) -> Sequence[Path]:
        """Every file of a source: when one of them changes, comes or goes, the source is done again."""
        return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())

    @abstractmethod
    def open(self, name: str, path: Path) -> Source:
        """Reads headers, and a first frame at most, which alone knows how it is turned; the stage that cuts decodes.

        Raises DamagedSourceError, and OSError where the system is at fault and not the source.
        """


def identity(value: Any) -> Any:
    """Plain values that name a stage and everything in its settings that can change what it writes."""
    if is_dataclass(value) and not isinstance(value, type):
        settings = {
            field.name: identity(getattr(value, field.name))
            for field in fields(value)
            if field.metadata.get("is_identity", True)
        }
        return {"type": f"{type(value).__module__}.{type(value).__qualname__}", **settings}
    if isinstance(value, Mapping):
        return {str(name): identity(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder (or the file itself), in order; through links too, each folder once.

    What is hidden is left out, such as the `._play.mp4` of a Mac. Raises OSError for a folder that cannot be read.
    """
    if folder.is_file():
        yield folder
        return
    seen: set[str] = set()
    for place, subfolders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if (real := os.path.realpath(place)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _refuse(mistake: OSError) -> None:
    what = f"{mistake.strerror}, so its files would be missing; make it readable, or choose an input without it"
    raise OSError(mistake.errno, what, mistake.filename)


def source_names(paths: Iterable[Path], folder: Path) -> dict[str, Path]:
    """The paths by distinct names, in the order of the names."""
    names: dict[str, Path] = {}
    for path in paths:
        name = source_name(path, folder)
        name = f"{name}-{path.suffix[1:]}" if name in names and path.suffix else name
        while name in names:
            name += "_"
        names[name] = path
    return dict(sorted(names.items()))


def source_name(path: Path, folder: Path) -> str:
    """A source's path below its folder as letters, digits, "-" and "_"; made unique where that loses something."""
    relative = path.relative_to(folder).as_posix() if path != folder else path.name
    stem = relative.removesuffix(path.suffix) if path.is_file() else relative
    name = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
    if name == stem and len(name) <= MAX_NAME:
        return name
    return f"{name[:MAX_NAME]}-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:6]}"
