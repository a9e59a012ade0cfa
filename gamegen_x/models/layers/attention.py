"""Self- and cross-attention over the token axis, with RMS-normalised queries and keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.models.layers.positions import RotaryPositions, rotate

# Up to this many keys, two matrix products beat the fused kernel on a CPU (measured: 1.3x of a whole training step).
MAX_KEYS_FOR_EXPLICIT_ATTENTION = 128


class HeadNorm(nn.Module):
    """RMS norm of each head's queries or keys, with a learned gain. Works in the dtype that comes in."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, heads: Float[Tensor, "s e n d"]) -> Float[Tensor, "s e n d"]:
        return F.rms_norm(heads, self.weight.shape, eps=1e-6) * self.weight.to(heads.dtype)


class SelfAttention(nn.Module):
    """Every token looks at every token of its sequence, or with `causal` at itself and those before it."""

    def __init__(self, dim: int, num_heads: int, causal: bool, rotary: RotaryPositions | None) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"the width must be a multiple of num_heads, got {dim} and {num_heads}")
        self.num_heads = num_heads
        self.causal = causal
        self.rotary = rotary
        self.qkv = nn.Linear(dim, 3 * dim)
        self.query_norm = HeadNorm(dim // num_heads)
        self.key_norm = HeadNorm(dim // num_heads)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "s n d"]) -> Float[Tensor, "s n d"]:
        query, key, value = rearrange(self.qkv(tokens), "s n (three e d) -> three s e n d", three=3, e=self.num_heads)
        query, key = self.query_norm(query), self.key_norm(key)
        if self.rotary is not None:
            angles = self.rotary(tokens.shape[1])
            query, key = rotate(query, angles), rotate(key, angles)
        mask = None
        if self.causal:
            mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
        return self.out(rearrange(attend(query, key, value, mask), "s e n d -> s n (e d)"))


class CrossAttention(nn.Module):
    """Tokens look at a second sequence, such as text.."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.query_norm = HeadNorm(dim // num_heads)
        self.key_norm = HeadNorm(dim // num_heads)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, tokens: Float[Tensor, "s n d"], others: Float[Tensor, "s l d"], mask: Bool[Tensor, "s l"]
    ) -> Float[Tensor, "s n d"]:
        query = rearrange(self.query(tokens), "s n (e d) -> s e n d", e=self.num_heads)
        key, value = rearrange(self.key_value(others), "s l (two e d) -> two s e l d", two=2, e=self.num_heads)
        query, key = self.query_norm(query), self.key_norm(key)
        seen = attend(query, key, value, mask[:, None, None, :])
        return self.out(rearrange(seen, "s e n d -> s n (e d)"))


def attend(
    query: Float[Tensor, "s e n d"],
    key: Float[Tensor, "s e m d"],
    value: Float[Tensor, "s e m d"],
    mask: Bool[Tensor, "..."] | None,  # true where a key may be seen
) -> Float[Tensor, "s e n d"]:
    """softmax(q k^T / sqrt(d)) v, by whichever way is faster on this device."""
    if query.device.type != "cpu" or key.shape[-2] > MAX_KEYS_FOR_EXPLICIT_ATTENTION:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).to(value.dtype) @ value
