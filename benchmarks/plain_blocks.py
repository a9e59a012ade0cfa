"""The blocks of MSDiT written as a textbook would (DiT: nn.LayerNorm, PyTorch's attention).

The same function under the same parameter names, so weights move between the two and outputs can be compared. What
`gamegen_x.models` does beyond this has to be worth it; this is what it is measured against.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gamegen_x.models.layers.attention import HeadNorm
from gamegen_x.models.msdit import NORM_EPS, MSDiT


class PlainSelfAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int, is_temporal: bool, rotary_base: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.is_temporal = is_temporal
        self.rotary_base = rotary_base
        self.qkv = nn.Linear(dim, 3 * dim)
        self.query_norm = HeadNorm(dim // num_heads)
        self.key_norm = HeadNorm(dim // num_heads)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "s n d"], is_causal: bool) -> Float[Tensor, "s n d"]:
        query, key, value = rearrange(self.qkv(tokens), "s n (three e d) -> three s e n d", three=3, e=self.num_heads)
        query, key = self.query_norm(query), self.key_norm(key)
        if self.is_temporal:
            query, key = self.rotate(query), self.rotate(key)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        made: Tensor = self.out(rearrange(seen, "s e n d -> s n (e d)"))
        return made

    def rotate(self, heads: Float[Tensor, "s e n d"]) -> Float[Tensor, "s e n d"]:
        num_positions, dim = heads.shape[-2:]
        frequencies = self.rotary_base ** (-torch.arange(0, dim, 2, device=heads.device) / dim)
        angles = torch.outer(torch.arange(num_positions, device=heads.device), frequencies)
        cos, sin = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
        first, second = heads.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class PlainCrossAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.query_norm = HeadNorm(dim // num_heads)
        self.key_norm = HeadNorm(dim // num_heads)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, tokens: Float[Tensor, "s n d"], text: Float[Tensor, "s l d"], mask: Bool[Tensor, "s l"]
    ) -> Float[Tensor, "s n d"]:
        query = self.query_norm(rearrange(self.query(tokens), "s n (e d) -> s e n d", e=self.num_heads))
        key, value = rearrange(self.key_value(text), "s l (two e d) -> two s e l d", two=2, e=self.num_heads)
        seen = F.scaled_dot_product_attention(query, self.key_norm(key), value, attn_mask=mask[:, None, None])
        made: Tensor = self.out(rearrange(seen, "s e n d -> s n (e d)"))
        return made


class PlainBlock(nn.Module):
    def __init__(
        self, dim: int, num_heads: int, mlp_dim: int, is_temporal: bool, is_causal: bool, has_text: bool,
        rotary_base: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.is_temporal = is_temporal
        self.is_causal = is_causal
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS, elementwise_affine=False)
        self.attention = PlainSelfAttention(dim, num_heads, is_temporal, rotary_base)
        self.cross_attention = PlainCrossAttention(dim, num_heads) if has_text else None
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(approximate="tanh"), nn.Linear(mlp_dim, dim))
        self.modulation_table = nn.Parameter(torch.zeros(6, dim))

    def forward(
        self,
        tokens: Float[Tensor, "b t n d"],
        time_modulation: Float[Tensor, "b t 6 d"],
        text: Float[Tensor, "b l d"],
        text_mask: Bool[Tensor, "b l"],
        past: None = None,
        company: None = None,
    ) -> Float[Tensor, "b t n d"]:
        assert past is None
        assert company is None
        num_frames, num_tokens = tokens.shape[1:3]
        modulation = (time_modulation + self.modulation_table)[:, :, :, None]
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.unbind(dim=2)
        normed = self.norm(tokens) * (1 + scale) + shift
        if self.is_temporal:
            mixed = self.attention(rearrange(normed, "b t n d -> (b n) t d"), self.is_causal)
            mixed = rearrange(mixed, "(b n) t d -> b t n d", n=num_tokens)
        else:
            mixed = self.attention(rearrange(normed, "b t n d -> (b t) n d"), is_causal=False)
            mixed = rearrange(mixed, "(b t) n d -> b t n d", t=num_frames)
        tokens = tokens + gate * mixed
        if self.cross_attention is not None:
            seen = self.cross_attention(rearrange(tokens, "b t n d -> b (t n) d"), text, text_mask)
            tokens = tokens + rearrange(seen, "b (t n) d -> b t n d", t=num_frames)
        made: Tensor = tokens + mlp_gate * self.mlp(self.norm(tokens) * (1 + mlp_scale) + mlp_shift)
        return made


def with_plain_blocks(
    msdit: MSDiT, dim: int, num_heads: int, mlp_ratio: float, causal: bool, temporal_cross_attention: bool,
    rotary_base: float,
) -> MSDiT:  # fmt: skip
    """Puts plain blocks in place of the model's own, with fresh weights. The numbers are those that it was made of."""
    msdit.blocks = nn.ModuleList(
        PlainBlock(
            dim,
            num_heads,
            int(dim * mlp_ratio),
            is_temporal=is_temporal,
            is_causal=is_temporal and causal,
            has_text=not is_temporal or temporal_cross_attention,
            rotary_base=rotary_base,
        )
        for _ in range(len(msdit.blocks) // 2)
        for is_temporal in (False, True)
    )
    return msdit
