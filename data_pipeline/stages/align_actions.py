"""Gives each clip the keys held, the truth and the instructions of its own frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.clip import Clip
from data_pipeline.stage import Stage
from gamegen_x.schema.caption import Instruction


@dataclass(frozen=True)
class AlignActions(Stage):
    """Row t of the keys acted before frame t was shown; an instruction's frame counts from the clip's first.

    Instructions from before the clip have already had their effect and are left out. A video without keys gets rows
    of zeros.
    """

    def process(self, clip: Clip) -> Iterator[Clip]:
        source = clip.source
        if source.actions is None:
            shape = (clip.num_frames, source.num_views, source.action_space.num_keys)
            actions = np.zeros(shape, np.uint8)
        else:
            actions = source.actions[clip.start : clip.stop]
        instructions = tuple(
            Instruction(text=event.text, frame=event.frame - clip.start)
            for event in source.text_events
            if clip.start <= event.frame < clip.stop
        )
        yield replace(clip, actions=actions, state=clip.truth, instructions=instructions)
