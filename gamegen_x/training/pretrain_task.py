"""Stage one: MSDiT learns how worlds look and go on; nobody steers."""

from __future__ import annotations

from typing import Any

from gamegen_x.data.batch import Batch
from gamegen_x.models.gamegen import Conditions, GameGenX
from gamegen_x.models.msdit import MSDiT
from gamegen_x.training.flow_task import FlowTask
from gamegen_x.training.randomness import Moment


class PretrainTask(FlowTask):
    """Trains MSDiT, and the text encoder along with it unless that is a pretrained one."""

    def __init__(self, *, msdit: MSDiT, **shared: Any) -> None:
        super().__init__(model=GameGenX(msdit, instructnet=None), **shared)

    def conditions(self, batch: Batch, num_latent_frames: int, moment: Moment) -> Conditions:
        return self.uncontrolled(batch, num_latent_frames, moment)
