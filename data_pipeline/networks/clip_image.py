"""CLIP's picture encoder (open_clip), from local weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.clip import Frames
from data_pipeline.networks.weights import check_there, fill, load_weights


@dataclass(frozen=True)
class ClipImageEncoder:
    """`model` is a name that open_clip knows, e.g. "ViT-L-14"; `weights` a local file for it."""

    model: str
    weights: str

    def __post_init__(self) -> None:
        check_there(
            self.weights,
            f"open_clip weights of {self.model}",
            "https://github.com/mlfoundations/open_clip (model cards)",
        )

    @cached_property
    def network(self) -> Any:
        """Loaded at first use, in the process that uses it."""
        import open_clip

        known = open_clip.list_models()
        if self.model not in known:
            raise ValueError(f"open_clip does not know the model {self.model!r}; it knows {known[:5]} and others")
        network = open_clip.create_model(self.model, pretrained=None)
        return fill(network, load_weights(self.weights), self.weights)

    def embed(self, frames: Frames) -> npt.NDArray[np.float32]:
        """Frames "t h w 3" -> vectors "t d" of length 1."""
        import torch

        size = self.network.visual.image_size
        height, width = (size, size) if isinstance(size, int) else size
        small = np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])
        mean, spread = (
            np.array(values, np.float32) for values in (self.network.visual.image_mean, self.network.visual.image_std)
        )
        pixels = torch.from_numpy((small.astype(np.float32) / 255 - mean) / spread).permute(0, 3, 1, 2)
        with torch.inference_mode():
            vectors = self.network.encode_image(pixels.contiguous(), normalize=True)
        return np.asarray(vectors.float().numpy(), np.float32)
