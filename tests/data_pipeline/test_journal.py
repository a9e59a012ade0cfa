import json
import random

import pytest

from data_pipeline.journal import Journal, stamp_of
from data_pipeline.ledger import Fate, read_ledger, summary, write_ledger


def fate(number: int, kind: str = "kept") -> Fate:
    why = {} if kind == "kept" else {"by": "filter_motion", "reason": "too little motion", "detail": str(number)}
    return Fate(f"s-{number:06d}", "s", kind, number, 16, 2, scores={"motion": 0.5}, **why)


def record(number: int) -> bytes:
    return random.Random(number).randbytes(300 + number)


def filled(folder, count: int = 6, is_finished: bool = False) -> Journal:
    with Journal(folder, "s", "version 1") as journal:
        for number in range(count):
            journal.append(
                fate(number, "rejected" if number % 3 == 2 else "kept"), b"" if number % 3 == 2 else record(number)
            )
        if is_finished:
            journal.finish()
    return journal


def test_what_was_written_is_there_when_the_journal_is_opened_again(tmp_path):
    written = filled(tmp_path, is_finished=True)
    found = Journal(tmp_path, "s", "version 1")
    assert found.is_done
    assert found.fates == written.fates
    assert [found.read(f) for f in found.fates.values() if f.is_kept] == [record(n) for n in (0, 1, 3, 4)]


@pytest.mark.parametrize("seed", range(25))
def test_a_kill_at_any_byte_leaves_a_journal_that_goes_on_from_whole_clips(tmp_path, seed):
    rng = random.Random(seed)
    whole = filled(tmp_path)
    for path in (whole.lines_path, whole.bytes_path):
        data = path.read_bytes()
        path.write_bytes(data[: rng.randrange(len(data))])
    if rng.random() < 0.3:
        whole.bytes_path.write_bytes(bytes(len(whole.bytes_path.read_bytes())))  # the disk never got the pages
    with Journal(tmp_path, "s", "version 1") as journal:
        survived = list(journal.fates)
        assert survived == list(whole.fates)[: len(survived)]
        for number in range(len(survived), 6):
            journal.append(
                fate(number, "rejected" if number % 3 == 2 else "kept"), b"" if number % 3 == 2 else record(number)
            )
        journal.finish()
    again = Journal(tmp_path, "s", "version 1")
    assert list(again.fates) == list(whole.fates)
    assert [again.read(f) for f in again.fates.values() if f.is_kept] == [record(n) for n in (0, 1, 3, 4)]


def test_another_version_of_the_source_starts_over(tmp_path):
    filled(tmp_path, is_finished=True)
    journal = Journal(tmp_path, "s", "version 2")
    assert not journal.fates
    assert not journal.is_done


def test_changed_bytes_are_never_passed_on(tmp_path):
    journal = filled(tmp_path, is_finished=True)
    data = bytearray(journal.bytes_path.read_bytes())
    data[10] ^= 1
    journal.bytes_path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"has changed since it was written \(clip s-000000\)"):
        journal.read(journal.fates["s-000000"])


def test_a_stamp_tells_versions_of_a_source_apart(tmp_path):
    file = tmp_path / "a"
    file.write_text("one")
    before = stamp_of([file])
    assert before == stamp_of([file])
    file.write_text("three")
    assert stamp_of([file]) != before


def test_a_ledger_comes_back_as_it_was_and_counts_by_stage_and_reason(tmp_path):
    fates = [
        fate(0),
        fate(1, "rejected"),
        fate(2, "rejected"),
        Fate("t", "t", "damaged", 0, 0, 0, by="ingest", reason="zero bytes"),
    ]
    write_ledger(tmp_path / "ledger.jsonl", fates)
    assert read_ledger(tmp_path / "ledger.jsonl") == fates
    assert [line.count('"offset": 0') for line in (tmp_path / "ledger.jsonl").read_text().splitlines()] == [1, 0, 0, 0]
    assert summary(fates) == {
        "num_clips_kept": 1,
        "num_clips_rejected": 2,
        "num_sources_damaged": 1,
        "rejected": {"filter_motion: too little motion": 2},
        "damaged": {"ingest: zero bytes": 1},
    }


def test_a_broken_ledger_names_the_line(tmp_path):
    (tmp_path / "ledger.jsonl").write_text(json.dumps(fate(0).to_dict()) + "\nnot json\n")
    with pytest.raises(ValueError, match="line 2"):
        read_ledger(tmp_path / "ledger.jsonl")
