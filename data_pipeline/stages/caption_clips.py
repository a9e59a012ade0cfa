"""Gives each clip its caption: the structured fields of OGameData."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

from data_pipeline.clip import Clip
from data_pipeline.stage import Stage
from gamegen_x.schema.caption import Caption


class CaptionError(Exception):
    """This clip could not be captioned; others may be. `reason` is the same for all of its kind."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Captioner(ABC):
    """Describes a clip."""

    @abstractmethod
    def caption(self, clip: Clip) -> Caption:
        """Raises CaptionError when this clip alone is at fault."""


@dataclass(frozen=True)
class CaptionClips(Stage):
    captioner: Captioner

    def process(self, clip: Clip) -> Iterator[Clip]:
        try:
            yield replace(clip, caption=self.captioner.caption(clip))
        except CaptionError as failure:
            yield clip.rejected(failure.reason, failure.detail)
