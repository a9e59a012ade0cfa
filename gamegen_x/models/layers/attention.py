"""Self- and cross-attention over the token axis, with RMS-normalised queries and keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.models.layers.kv_cache import PastFrames
from gamegen_x.models.layers.positions import RotaryPositions, rotate
from gamegen_x.models.layers.short_attention import ShortAttention

# Up to so many keys it beats the fused kernel in training on a CPU: by 2 to 6 in bfloat16, by 1.2 to 1.8 in float32.
MAX_KEYS_FOR_SHORT_ATTENTION = 64
NORM_EPS = 1e-6


class HeadNorm(nn.Module):
    """RMS norm of each head's queries or keys, with a learned gain. Works in the dtype that comes in."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, heads: Float[Tensor, "s n e d"]) -> Float[Tensor, "s n e d"]:
        return F.rms_norm(heads, self.weight.shape, eps=NORM_EPS) * self.weight.to(heads.dtype)


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

    def forward(self, tokens: Float[Tensor, "s n d"], past: PastFrames | None = None) -> Float[Tensor, "s n d"]:
        query, key, value = rearrange(self.qkv(tokens), "s n (three e d) -> three s n e d", three=3, e=self.num_heads)
        past = PastFrames() if past is None else past
        key, value = past.with_past(key, value)
        num_keys, num_new = key.shape[1], tokens.shape[1]
        angles = None if self.rotary is None else self.rotary(past.places(num_keys, num_new).to(tokens.device))
        mask = past.mask(num_keys, num_new).to(tokens.device) if self.causal else None
        return self.out(attend(query, key, value, self.query_norm, self.key_norm, angles, mask).flatten(2))


class CrossAttention(nn.Module):
    """Tokens look at a second sequence, such as text."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.query_norm = HeadNorm(dim // num_heads)
        self.key_norm = HeadNorm(dim // num_heads)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        tokens: Float[Tensor, "s n d"],
        others: Float[Tensor, "s l d"],
        mask: Bool[Tensor, "s l"],
        past: PastFrames | None = None,
    ) -> Float[Tensor, "s n d"]:
        query = rearrange(self.query(tokens), "s n (e d) -> s n e d", e=self.num_heads)
        key, value = (past or PastFrames()).read_once(lambda: self.read(others))
        seen = attend(query, key, value, self.query_norm, self.key_norm, None, mask[:, None, None, :])
        return self.out(seen.flatten(2))

    def read(
        self, others: Float[Tensor, "s l d"]
    ) -> tuple[Float[Tensor, "s l e d_head"], Float[Tensor, "s l e d_head"]]:
        """Keys and values of the second sequence."""
        key, value = rearrange(self.key_value(others), "s l (two e d) -> two s l e d", two=2, e=self.num_heads)
        return key, value


def attend(
    query: Float[Tensor, "s n e d"],
    key: Float[Tensor, "s m e d"],
    value: Float[Tensor, "s m e d"],
    query_norm: HeadNorm,
    key_norm: HeadNorm,
    angles: Float[Tensor, "*s m half"] | None,  # of rotary positions; queries stand at the last n
    mask: Bool[Tensor, "..."] | None,  # true where a key may be seen
) -> Float[Tensor, "s n e d"]:
    """softmax(q k^T / sqrt(d)) v of normed, then rotated queries and keys, by the way that is faster on this device."""
    is_short = query.device.type == "cpu" and key.shape[1] <= MAX_KEYS_FOR_SHORT_ATTENTION
    if is_short and torch.is_grad_enabled():  # without gradients the fused kernel is the faster one
        gains: tuple[Tensor | None, Tensor] = (query_norm.weight, key_norm.weight)
        if angles is None:  # a product is all that they are then
            gains = (None, query_norm.weight * key_norm.weight)
        return ShortAttention.apply(query, key, value, *gains, angles, mask, NORM_EPS)
    query, key, value = (heads.transpose(1, 2) for heads in (query_norm(query), key_norm(key), value))
    if angles is not None:
        query, key = rotate(query, angles[..., -query.shape[-2] :, :]), rotate(key, angles)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
