"""Live speed: how many video frames a second each player gets, everything included."""

from __future__ import annotations

import time

from gamegen_x.evaluation.answer import Answer, Row
from gamegen_x.evaluation.subject import Subject


class LiveSpeed:
    """One world, stepped as live play does it: truth, denoising, memory, pixels. The game's own rate is wanted."""

    def __init__(self, *, meeting: str, timed_steps: int) -> None:
        self.meeting = meeting
        self.timed_steps = timed_steps  # timed; as many come before them unless the script is shorter

    def ask(self, subject: Subject) -> Answer | None:
        if subject.live is None:
            return None
        assert subject.meetings is not None
        meetings, streams = subject.meetings, subject.live.streams
        staged = subject.meeting(self.meeting)[0].staged
        stream = meetings.begin(staged, subject.live)
        keys = [meetings.keys(staged, now, stream.num_slots) for now in meetings.steps(staged, subject.live)]
        warm, timed = keys[: self.timed_steps], (keys[self.timed_steps :] or keys)[: self.timed_steps]
        for held in warm:
            streams.step([stream], [held])
        started = time.perf_counter()
        for held in timed:
            streams.step([stream], [held])
        rate = sum(held.shape[1] for held in timed) / (time.perf_counter() - started)
        figures = {"frames_per_second_per_player": rate, "frames_per_second_wanted": subject.recordings.fps}
        rows = [Row("video frames a second a player", rate, subject.recordings.fps, unit="")]
        explanation = (
            f"{len(timed)} steps of one world with {len(staged.actions)} players after {len(warm)} that are not "
            "timed, on this machine as it was then."
        )
        return Answer("Speed: is it live?", explanation, figures, rows)
