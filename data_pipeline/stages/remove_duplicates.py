"""Rejects clips that look like one kept before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.clip import Clip, Frames, spread
from data_pipeline.ledger import Fate
from data_pipeline.networks.clip_image import ClipImageEncoder
from data_pipeline.stage import Stage

BLOCK = 512  # clips compared at once


class Fingerprinter(ABC):
    """What a clip looks like, in a few bytes, and how alike two of them are."""

    @abstractmethod
    def fingerprint(self, frames: Frames) -> bytes:
        """Frames "t h w 3", spread over one view -> bytes whose number depends on t alone."""

    @abstractmethod
    def vectors(self, fingerprints: Sequence[bytes]) -> npt.NDArray[np.float32]:
        """Equally long fingerprints -> "n d" of length 1, whose product is their similarity (1 = the same)."""


@dataclass(frozen=True)
class PerceptualHash(Fingerprinter):
    """64 bits a frame: which of the lowest 8x8 cosine coefficients of brightness lie above their median.

    Similarity is 1 - 2 x the share of bits that differ: 0 for pictures that have nothing to do with each other.
    """

    def fingerprint(self, frames: Frames) -> bytes:
        return b"".join(self._hash(frame) for frame in frames)

    def _hash(self, frame: Frames) -> bytes:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        lowest = cv2.dct(small)[:8, :8].ravel()
        return np.packbits(lowest > np.median(lowest[1:])).tobytes()

    def vectors(self, fingerprints: Sequence[bytes]) -> npt.NDArray[np.float32]:
        bits = np.unpackbits(np.frombuffer(b"".join(fingerprints), np.uint8).reshape(len(fingerprints), -1), axis=1)
        return np.asarray((bits * 2.0 - 1.0) / np.sqrt(bits.shape[1]), np.float32)


@dataclass(frozen=True)
class ClipEmbedding(Fingerprinter):
    """CLIP's picture vector of every frame; similarity is the mean of the frames' cosines."""

    encoder: ClipImageEncoder

    def fingerprint(self, frames: Frames) -> bytes:
        return self.encoder.embed(frames).astype("<f2").tobytes()

    def vectors(self, fingerprints: Sequence[bytes]) -> npt.NDArray[np.float32]:
        flat = np.stack([np.frombuffer(print_, "<f2") for print_ in fingerprints]).astype(np.float32)
        return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class RemoveDuplicates(Stage):
    """Keeps the first, in the dataset's order, of clips whose similarity reaches `threshold`.

    The workers only take fingerprints; the choice is made once, when all sources are done, so that it depends neither
    on the number of workers nor on a kill. Clips with different numbers of views are never alike. Each clip is compared
    with all kept ones, so the time grows with the square of their number: 10,000 clips take seconds, 100,000 minutes.
    """

    fingerprinter: Fingerprinter
    threshold: float
    num_frames: int

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"a similarity threshold lies in (0, 1], got {self.threshold}")

    def process(self, clip: Clip) -> Iterator[Clip]:
        views = (self.fingerprinter.fingerprint(spread(view, self.num_frames)) for view in clip.views)
        yield replace(clip, fingerprint=b"".join(views))

    def settle(self, fates: Sequence[Fate]) -> Mapping[str, tuple[str, str]]:
        groups: dict[tuple[int, int], list[Fate]] = defaultdict(list)
        for fate in fates:
            groups[fate.num_views, len(fate.fingerprint)].append(fate)
        rejected = {}
        for group in groups.values():
            for fate, first, similarity in self._duplicates(group):
                rejected[fate.clip] = ("duplicate", f"similarity {similarity:.3f} with {first.clip}")
        return rejected

    def _duplicates(self, fates: Sequence[Fate]) -> Iterator[tuple[Fate, Fate, float]]:
        """Each duplicate, the kept clip it is most like, and how much. Block by block: one product for many clips."""
        vectors = self.fingerprinter.vectors([bytes.fromhex(fate.fingerprint) for fate in fates])
        kept_vectors, kept = np.empty_like(vectors), list[int]()
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            similarities = np.full((len(block), len(kept) + len(block)), -1.0, np.float32)
            similarities[:, : len(kept)] = block @ kept_vectors[: len(kept)].T
            for row, vector in enumerate(block):
                best = int(similarities[row, : len(kept)].argmax()) if kept else 0
                if kept and similarities[row, best] >= self.threshold:
                    yield fates[start + row], fates[kept[best]], float(similarities[row, best])
                    continue
                similarities[row:, len(kept)] = block[row:] @ vector
                kept_vectors[len(kept)] = vector
                kept.append(start + row)
