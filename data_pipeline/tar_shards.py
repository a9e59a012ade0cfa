"""WebDataset tars: records as bytes, and bytes as records."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from data_pipeline.ledger import Fate
from gamegen_x.schema.files import atomic_file
from gamegen_x.schema.shard_record import ShardRecord

END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)


def tar_members(record: ShardRecord) -> bytes:
    """The record's members as they stand in a tar: no time, no owner, so equal records are equal bytes."""
    sample = record.to_sample()
    key = sample.pop("__key__")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(sample.items()):
            member = tarfile.TarInfo(f"{key}.{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        length = tar.offset
    return file.getvalue()[:length]


def assemble(kept: Iterable[tuple[Fate, Callable[[], bytes]]], folder: Path, clips_per_shard: int) -> Iterator[Fate]:
    """Writes `shard-000000.tar`, ... from finished records, in their order; yields each fate with its place.

    Each shard is whole or absent.
    """
    batch: list[tuple[Fate, Callable[[], bytes]]] = []
    number = 0
    for item in kept:
        batch.append(item)
        if len(batch) == clips_per_shard:
            yield from _write_shard(folder / f"shard-{number:06d}.tar", batch)
            batch, number = [], number + 1
    if batch:
        yield from _write_shard(folder / f"shard-{number:06d}.tar", batch)


def _write_shard(path: Path, batch: list[tuple[Fate, Callable[[], bytes]]]) -> list[Fate]:
    placed: list[Fate] = []
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for fate, read in batch:
            placed.append(replace(fate, shard=path.name, offset=file.tell()))
            file.write(read())
        file.write(END_OF_ARCHIVE)
    return placed


def read_samples(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The samples of a shard, in order: `__key__` and the bytes of every member.

    Raises tarfile.TarError or EOFError where the tar breaks, after the samples before.
    """
    sample: dict[str, Any] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            key, _, name = member.name.partition(".")
            if sample and sample["__key__"] != key:
                yield sample
                sample = {}
            data = tar.extractfile(member)
            if data is not None:
                sample |= {"__key__": key, name: data.read()}
    if sample:
        yield sample
