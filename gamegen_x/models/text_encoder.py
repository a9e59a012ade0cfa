"""Text -> tokens: T5 behind one method. A small byte-level T5 that trains along, or a pretrained one that is frozen."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.models.layers.t5 import T5Encoder

NUM_SPECIAL = 3  # tokens before the 256 bytes, as in ByT5 (Xue et al. 2022); 0 is none
VOCABULARY = 384  # ByT5's: the bytes, the special ones, and others that nothing here uses


class TextEncoder(nn.Module):
    """What both encoders promise. An empty text has no tokens: its mask is all false."""

    dim: int

    @abstractmethod
    def forward(self, texts: list[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Tokens and a mask that is true where a token is."""
        raise NotImplementedError

    def encode(self, texts: list[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        return self(texts)


class ByteT5TextEncoder(TextEncoder):
    """A small T5 encoder over UTF-8 bytes. Needs no download and no vocabulary.

    `pool` neighbouring bytes become one token after encoding, so that a sentence is a dozen tokens. Text beyond
    `max_bytes` is cut.
    """

    def __init__(self, dim: int, num_layers: int, num_heads: int, feed_forward: int, max_bytes: int, pool: int) -> None:
        super().__init__()
        if max_bytes % pool:
            raise ValueError(f"max_bytes must be a multiple of pool, got {max_bytes} and {pool}")
        self.dim = dim
        self.max_bytes = max_bytes
        self.pool = pool
        self.t5 = T5Encoder(VOCABULARY, dim, num_layers, num_heads, feed_forward)

    def forward(self, texts: list[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        # Always the same length: an encoding must not depend on who else is in the batch.
        ids = torch.zeros(len(texts), self.max_bytes, dtype=torch.long)
        for i, text in enumerate(texts):
            row = list(text.encode()[: self.max_bytes])
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.long) + NUM_SPECIAL
        ids = ids.to(self.t5.shared.weight.device)
        is_byte = ids > 0
        safe_mask = is_byte.clone()
        safe_mask[:, 0] = True  # attention over nothing is undefined
        hidden = self.t5(ids, safe_mask)
        weights = is_byte.to(hidden.dtype)
        summed = F.avg_pool1d((hidden * weights[..., None]).transpose(1, 2), self.pool).transpose(1, 2)
        share = F.avg_pool1d(weights[:, None], self.pool)[:, 0, :, None]
        return summed / share.clamp_min(1 / self.pool), is_byte.unflatten(1, (-1, self.pool)).any(dim=-1)


class PretrainedT5TextEncoder(TextEncoder):
    """A pretrained T5 encoder, frozen: T5 v1.1-XXL in the paper. `path` is a local folder or a name on the Hub."""

    def __init__(self, path: str, dim: int, max_tokens: int, dtype: str) -> None:
        super().__init__()
        from transformers import AutoTokenizer, T5EncoderModel

        self.dim = dim
        self.max_tokens = max_tokens
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
            self.t5 = T5EncoderModel.from_pretrained(path, dtype=getattr(torch, dtype))
        except OSError as missing:
            raise FileNotFoundError(
                f"no T5 encoder at {path!r}, neither in such a folder nor on the Hub; "
                "put the files of google/t5-v1_1-xxl (config.json, tokenizer and weights) into a folder and set "
                "text_encoder.path to it, or use text_encoder=tiny, which needs none"
            ) from missing
        if self.t5.config.d_model != dim:
            raise ValueError(f"text_encoder.dim is {dim}, but the T5 at {path!r} is {self.t5.config.d_model} wide")
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, texts: list[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        batch = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.t5.device)
        tokens = self.t5(**batch).last_hidden_state
        is_empty = torch.tensor([not text for text in texts], device=tokens.device)
        return tokens, batch["attention_mask"].bool() & ~is_empty[:, None]
