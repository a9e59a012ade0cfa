"""TextCache: what a frozen text encoder says of each text, computed once and kept on disk."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from gamegen_x.models.text_encoder import TextEncoder
from gamegen_x.schema.files import atomic_file

Encoded = tuple[Float[Tensor, "l d"], Bool[Tensor, " l"]]


class TextCache:
    """One file a text, without its padding; the `num_in_memory` texts used last are kept at hand.

    `encoder_name` tells encoders apart: embeddings of another one are never found.
    """

    def __init__(self, *, folder: str, encoder_name: str, num_in_memory: int) -> None:
        name = hashlib.sha256(encoder_name.encode()).hexdigest()[:16]
        self.folder = Path(folder) / name
        self.num_in_memory = num_in_memory
        self._at_hand: OrderedDict[str, Encoded] = OrderedDict()

    def encode(self, texts: list[str], encoder: TextEncoder) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """What `encoder.encode(texts)` gives, on the CPU. The encoder is asked for unknown texts only."""
        unknown = [text for text in texts if text not in self._at_hand and not self._path(text).is_file()]
        if unknown:
            with torch.no_grad():
                tokens, masks = encoder.encode(unknown)
            for text, token, mask in zip(unknown, tokens.cpu(), masks.cpu(), strict=True):
                self._write(text, token, mask)
        rows = [self._read(text) for text in texts]
        return torch.stack([tokens for tokens, _ in rows]), torch.stack([mask for _, mask in rows])

    def _write(self, text: str, tokens: Float[Tensor, "l d"], mask: Bool[Tensor, " l"]) -> None:
        with atomic_file(self._path(text)) as path:
            save_file({"tokens": tokens[mask].contiguous(), "mask": mask}, path)

    def _read(self, text: str) -> Encoded:
        if text not in self._at_hand:
            stored = load_file(self._path(text))
            tokens = stored["tokens"].new_zeros(len(stored["mask"]), stored["tokens"].shape[1])
            tokens[stored["mask"]] = stored["tokens"]
            self._at_hand[text] = (tokens, stored["mask"])
        self._at_hand.move_to_end(text)
        encoded = self._at_hand[text]
        while len(self._at_hand) > self.num_in_memory:
            self._at_hand.popitem(last=False)
        return encoded

    def _path(self, text: str) -> Path:
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.safetensors"
