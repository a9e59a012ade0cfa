"""What can be said of the recordings that an evaluation is to read, before torch is imported."""

from __future__ import annotations

from pathlib import Path

SPLITS = ("train", "val")


def check_recordings(folder: str | Path) -> None:
    """Raises FileNotFoundError where a split has neither shards nor traces."""
    for split in SPLITS:
        if not _has_some(Path(folder) / split):
            raise FileNotFoundError(
                f"no shards (*.tar) and no traces in {Path(folder) / split}; make them with `python -m data_pipeline` "
                "or `python -m gamegen_x.games.record`, or set recordings=null: the suite then records its own"
            )


def holds_recordings(folder: str | Path) -> bool:
    """Whether there are shards or traces of both splits."""
    return all(_has_some(Path(folder) / split) for split in SPLITS)


def _has_some(split: Path) -> bool:
    return any(split.glob("*.tar")) or any(split.glob("*/trace.json"))
