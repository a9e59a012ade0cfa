import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from made_up import make_pipeline, make_trace, make_video_pipeline, panning, write_video

from data_pipeline.clip import Clip
from data_pipeline.ledger import read_ledger
from data_pipeline.pipeline import Pipeline
from data_pipeline.stage import Stage
from data_pipeline.stages.filter_motion import DisFlow, FilterMotion
from data_pipeline.tar_shards import read_samples
from data_pipeline.validate import validate
from gamegen_x.schema.shard_record import ShardRecord
from gamegen_x.schema.trace import Trace

RUN = {"workers": 1, "max_damaged_share": 0.5, "overwrite": False}


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> Path:
    """Four sessions of 44 frames; the third is the second once more, the fourth has a seat without a video."""
    folder = tmp_path_factory.mktemp("traces")
    for number, seed in enumerate((0, 1, 1, 2)):
        make_trace(folder / f"t{number}", num_frames=44, seed=seed)
    (folder / "t3" / "seat-1.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def finished(traces, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    return output, make_pipeline().run(traces, output, **RUN)


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("[!.]*")}


def test_every_frame_of_every_source_is_in_the_ledger(finished, traces):
    output, figures = finished
    fates = read_ledger(output / "ledger.jsonl")
    for name in ("t0", "t1", "t2"):
        spans = [(fate.start, fate.num_frames) for fate in fates if fate.source == name]
        assert [start for start, _ in spans] == [0, *(start + length for start, length in spans[:-1])]
        assert sum(length for _, length in spans) == Trace.load(traces / name).num_frames
    assert [(fate.clip, fate.fate, fate.by, fate.reason) for fate in fates if fate.source == "t3"] == [
        ("t3", "damaged", "ingest_traces", "zero bytes")
    ]
    assert all(fate.is_kept or (fate.by and fate.reason) for fate in fates)
    assert figures["num_clips_kept"] == sum(fate.is_kept for fate in fates) == 6
    assert figures["rejected"] == {"remove_duplicates: duplicate": 3}
    assert figures["damaged"] == {"ingest_traces: zero bytes": 1}


def test_the_same_session_twice_is_kept_once(finished):
    duplicates = [fate for fate in read_ledger(finished[0] / "ledger.jsonl") if fate.reason == "duplicate"]
    assert [fate.source for fate in duplicates] == ["t2"] * 3
    assert [fate.detail.split()[-1] for fate in duplicates] == ["t1-000000", "t1-000016", "t1-000032"]


def test_a_finished_dataset_is_valid_and_says_what_it_is(finished):
    output, figures = finished
    problems, counts = validate(output)
    assert not problems
    assert counts["num_samples"] == 6
    dataset = json.loads((output / "dataset.json").read_text())
    assert dataset["dataset_id"] == figures["dataset_id"]
    assert dataset["action_space"]["keys"] == ["w", "a", "s", "d"]
    assert (dataset["fps"], dataset["height"], dataset["width"]) == (24.0, 64, 64)
    assert dataset["clips_by_length"] == {"12": 2, "16": 4}
    assert dataset["clips_by_players"] == {"2": 6}
    assert dataset["num_view_frames"] == figures["num_view_frames"] == 2 * (2 * 12 + 4 * 16)
    assert [shard["num_clips"] for shard in dataset["shards"]] == [4, 2]
    assert sorted(contents(output)) == ["dataset.json", "ledger.jsonl", "shard-000000.tar", "shard-000001.tar"]


def test_every_stage_tells_its_seconds(finished):
    figures = finished[1]
    assert set(figures["stage_cpu_s"]) == set(figures["stage_wall_s"]) == set(make_pipeline().stages)
    assert figures["num_view_frames_done_now"] == 3 * 44 * 2
    assert figures["view_frames_per_cpu_s"] > 0


def test_the_number_of_workers_changes_no_byte(finished, traces, tmp_path):
    figures = make_pipeline().run(traces, tmp_path, **{**RUN, "workers": 2})
    assert figures["dataset_id"] == finished[1]["dataset_id"]
    assert contents(tmp_path) == contents(finished[0])


def test_a_finished_run_is_not_done_again(finished, traces):
    before = contents(finished[0])
    figures = make_pipeline().run(traces, finished[0], **RUN)
    assert figures["dataset_id"] == finished[1]["dataset_id"]
    assert figures["num_clips_done_now"] == 0
    assert contents(finished[0]) == before


def test_another_configuration_is_another_dataset(finished, traces, tmp_path):
    motion = FilterMotion(DisFlow(), minimum=0.02, maximum=4.0, num_pairs=2, max_width=64)
    other = make_pipeline(filter_motion=motion)
    with pytest.raises(
        ValueError, match=r"made with other settings of \['filter_motion'\]; choose another output, or overwrite"
    ):
        other.run(traces, finished[0], **RUN)
    figures = other.run(traces, tmp_path, **RUN)
    assert figures["dataset_id"] != finished[1]["dataset_id"]
    again = make_pipeline().run(traces, tmp_path, **{**RUN, "overwrite": True})
    assert again["dataset_id"] == finished[1]["dataset_id"]
    assert contents(tmp_path) == contents(finished[0])


@dataclass(frozen=True)
class Breaks(Stage):
    """Breaks at a clip, as a bug or a full disk would."""

    at: str

    def process(self, clip: Clip):
        if clip.key == self.at:
            raise OSError("the disk is full")
        yield clip


def breaking(at: str) -> Pipeline:
    """The same pipeline, whose identity does not tell that it will break."""

    class AlignActions(type(make_pipeline().stages["align_actions"])):
        def process(self, clip):
            for result in super().process(clip):
                yield from Breaks(at).process(result)

    stage = AlignActions()
    AlignActions.__module__, AlignActions.__qualname__ = "data_pipeline.stages.align_actions", "AlignActions"
    return make_pipeline(align_actions=stage)


def test_a_run_that_breaks_goes_on_from_the_clip_after_the_last_finished_one(finished, traces, tmp_path):
    with pytest.raises(OSError, match="disk is full"):
        breaking("t1-000016").run(traces, tmp_path, **RUN)
    assert not (tmp_path / "dataset.json").exists()
    figures = make_pipeline().run(traces, tmp_path, **RUN)
    assert figures["num_clips_done_now"] == 9 - 4  # t0 whole, and the first clip of t1
    assert contents(tmp_path) == contents(finished[0])


def test_unfinished_work_of_another_configuration_is_not_mixed_in(traces, tmp_path):
    with pytest.raises(OSError, match="disk is full"):
        breaking("t1-000016").run(traces, tmp_path, **RUN)
    with pytest.raises(ValueError, match=r"unfinished work, made with other settings of \['split_scenes'\]"):
        make_pipeline(clip_frames=12).run(traces, tmp_path, **RUN)


def test_new_sources_are_added_without_doing_the_old_ones_again(tmp_path):
    for number in (0, 1):
        make_trace(tmp_path / "in" / f"t{number}", num_frames=20, seed=number)
    make_pipeline().run(tmp_path / "in", tmp_path / "out", **RUN)
    make_trace(tmp_path / "in" / "a-new-one", num_frames=20, seed=7)
    figures = make_pipeline().run(tmp_path / "in", tmp_path / "out", **RUN)
    assert figures["num_clips_done_now"] == 2
    fresh = make_pipeline().run(tmp_path / "in", tmp_path / "fresh", **RUN)
    assert figures["dataset_id"] == fresh["dataset_id"]
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_source_that_changed_is_done_again_and_one_that_left_is_gone(tmp_path):
    for number in (0, 1, 2):
        make_trace(tmp_path / "in" / f"t{number}", num_frames=16, seed=number)
    make_pipeline().run(tmp_path / "in", tmp_path / "out", **RUN)
    make_trace(tmp_path / "in" / "t1", num_frames=16, seed=9)
    for file in (tmp_path / "in" / "t2").iterdir():
        file.unlink()
    figures = make_pipeline().run(tmp_path / "in", tmp_path / "out", **RUN)
    assert figures["num_clips_done_now"] == 1
    assert [fate.source for fate in read_ledger(tmp_path / "out" / "ledger.jsonl")] == ["t0", "t1"]


def test_too_much_damage_fails_the_run_and_loses_nothing(traces, tmp_path):
    with pytest.raises(
        ValueError, match=r"1 of 4 sources are damaged \(25%\), at most 10% may be: .*zero bytes.*Nothing is lost"
    ):
        make_pipeline().run(traces, tmp_path, **{**RUN, "max_damaged_share": 0.1})
    assert not (tmp_path / "dataset.json").exists()
    assert any(fate.fate == "damaged" for fate in read_ledger(tmp_path / "ledger.jsonl"))
    figures = make_pipeline().run(traces, tmp_path, **RUN)
    assert figures["num_clips_done_now"] == 0
    assert figures["num_clips_kept"] == 6


def test_a_run_that_keeps_nothing_says_who_rejected_what(traces, tmp_path):
    motion = FilterMotion(DisFlow(), minimum=3.0, maximum=4.0, num_pairs=2, max_width=64)
    with pytest.raises(
        ValueError, match=r"not one clip was kept: .*filter_motion: too little motion.*lower the thresholds"
    ):
        make_pipeline(filter_motion=motion).run(traces, tmp_path, **RUN)


def test_a_rejected_clip_passes_later_stages_by_untouched(tmp_path):
    make_trace(tmp_path / "in" / "t", num_frames=32)
    still = np.repeat(panning(1, seed=5), 16, axis=0)
    for seat in (0, 1):
        write_video(tmp_path / "in" / "t" / f"seat-{seat}.mp4", np.concatenate([still, panning(16, seed=6 + seat)]))
    make_pipeline().run(tmp_path / "in", tmp_path / "out", **RUN)
    first, second = read_ledger(tmp_path / "out" / "ledger.jsonl")
    assert (first.by, first.reason) == ("filter_motion", "too little motion")
    assert (first.fingerprint, first.shard) == ("", "")
    assert second.is_kept


def test_a_worker_that_dies_ends_the_run_and_the_next_one_goes_on(finished, traces, tmp_path):
    with pytest.raises(RuntimeError, match=r"a worker died while it worked on 't\d'"):
        make_pipeline(align_actions=DeadlyAlignActions(file=str(tmp_path / "died"))).run(
            traces, tmp_path / "out", **{**RUN, "workers": 2}
        )
    stages = {**make_pipeline().stages, "align_actions": DeadlyAlignActions(file=str(tmp_path / "died"))}
    figures = Pipeline(stages).run(traces, tmp_path / "out", **RUN)
    assert figures["num_clips_kept"] == finished[1]["num_clips_kept"]


@dataclass(frozen=True)
class DeadlyAlignActions(Stage):
    """Ends its process at the first clip that it ever sees; aligns from then on."""

    file: str

    def process(self, clip: Clip):
        if not Path(self.file).exists():
            Path(self.file).touch()
            import os

            os._exit(9)
        yield from make_pipeline().stages["align_actions"].process(clip)


def test_two_runs_do_not_write_to_one_folder(finished, traces, monkeypatch):
    from data_pipeline import pipeline
    from data_pipeline.locks import only_run

    monkeypatch.setattr(pipeline, "PATIENCE_S", 0.0)
    with only_run(finished[0], 0.0), pytest.raises(ValueError, match="another run is writing to"):
        make_pipeline().run(traces, finished[0], **RUN)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({}, "begins with an ingest stage and ends with write_shards, got no stages"),
        ({"split_scenes": None, "ingest_traces": None}, "begins with an ingest stage"),
        ({"ingest_traces": None, "another": "ingest_traces", "write_shards": None}, "only the first one ingests"),
    ],
)
def test_stages_in_an_impossible_order_are_refused(stages, message):
    whole = make_pipeline().stages
    with pytest.raises(ValueError, match=message):
        Pipeline({name: whole[same or name] for name, same in stages.items()})


@pytest.mark.parametrize("changes", [{"workers": 0}, {"max_damaged_share": 1.5}])
def test_impossible_settings_of_a_run_are_refused(traces, tmp_path, changes):
    with pytest.raises(ValueError, match="workers >= 1 and max_damaged_share in"):
        make_pipeline().run(traces, tmp_path, **{**RUN, **changes})


def test_what_cannot_change_the_result_is_not_part_of_the_identity(finished, traces, tmp_path):
    reader = replace(make_pipeline().stages["split_scenes"].reader, num_threads=2)
    stages = make_pipeline().stages
    changed = make_pipeline(
        ingest_traces=replace(stages["ingest_traces"], reader=reader),
        split_scenes=replace(stages["split_scenes"], reader=reader),
    )
    assert changed.run(traces, tmp_path, **RUN)["dataset_id"] == finished[1]["dataset_id"]


def test_names_and_tags_in_any_encoding_are_curated_like_others(tmp_path):
    (tmp_path / "in").mkdir()
    video = write_video(tmp_path / "video.mkv", panning(16), title="caf\u00e9").read_bytes()
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.mkv")).write_bytes(video.replace("caf\u00e9".encode(), b"caf\xe9!"))
    figures = make_video_pipeline().run(tmp_path / "in", tmp_path / "out", **RUN)
    assert figures["num_clips_kept"] == 1
    with (tmp_path / "out" / "shard-000000.tar").open("rb") as shard:
        (sample,) = read_samples(shard)
    assert ShardRecord.from_sample(sample).caption.summary == "A player plays caf\ufffd."


def test_keys_that_are_mended_beside_a_video_are_read_by_the_next_run(tmp_path):
    write_video(tmp_path / "in" / "a.mp4", panning(16))
    write_video(tmp_path / "in" / "b.mp4", panning(16, seed=1))
    (tmp_path / "in" / "a.keys.txt").write_text("fly*16")
    assert make_video_pipeline().run(tmp_path / "in", tmp_path / "out", **RUN)["num_sources_damaged"] == 1
    (tmp_path / "in" / "a.keys.txt").write_text("w*16")
    figures = make_video_pipeline().run(tmp_path / "in", tmp_path / "out", **RUN)
    assert (figures["num_sources_damaged"], figures["num_clips_kept"], figures["num_clips_done_now"]) == (0, 2, 1)


def test_shards_that_are_lost_or_cut_are_made_good_by_the_next_run(finished, traces, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    first, second = tmp_path / "shard-000000.tar", tmp_path / "shard-000001.tar"
    second.unlink()
    figures = make_pipeline().run(traces, tmp_path, **RUN)
    assert 0 < figures["num_clips_done_now"] < 9  # what the other shard holds whole is not done again
    assert contents(tmp_path) == contents(finished[0])
    first.write_bytes(first.read_bytes()[:-600])
    make_pipeline().run(traces, tmp_path, **RUN)
    assert contents(tmp_path) == contents(finished[0])


def test_shards_left_by_a_killed_run_go(finished, traces, tmp_path):
    shutil.copy(finished[0] / "shard-000001.tar", tmp_path / "shard-000007.tar")
    make_pipeline().run(traces, tmp_path, **RUN)
    assert contents(tmp_path) == contents(finished[0])


def test_a_matroska_that_was_cut_is_damaged_and_what_it_holds_is_kept(tmp_path):
    whole = write_video(tmp_path / "whole.mkv", panning(96, right=2, size=128), crf=0).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    figures = make_video_pipeline().run(tmp_path / "in", tmp_path / "out", **{**RUN, "max_damaged_share": 1.0})
    assert figures["damaged"] == {"split_scenes: truncated video": 1}
    assert figures["num_clips_kept"] > 0
