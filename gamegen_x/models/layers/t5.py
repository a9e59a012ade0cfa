"""The encoder of T5 (Raffel et al. 2020, section 2.1, with the gated GELU of T5 v1.1), without the library of others.

Importing transformers takes longer than a player waits for a page. Parts have its names, so that weights that were
trained with it load here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

NUM_BUCKETS, MAX_DISTANCE = 32, 128  # of relative positions, and from where on all are far
EPSILON = 1e-6


class T5Encoder(nn.Module):
    """Tokens `[b l]` -> features `[b l d]`. Every row has at least one token that is there."""

    def __init__(self, vocabulary: int, dim: int, num_layers: int, num_heads: int, feed_forward: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"text_encoder.dim={dim} is no multiple of its num_heads={num_heads}")
        self.shared = nn.Embedding(vocabulary, dim)
        self.encoder = _Stack(self.shared, num_layers, num_heads, feed_forward)

    def forward(self, tokens: Int[Tensor, "b l"], is_there: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        hidden: Tensor = self.shared(tokens)
        first: Any = self.encoder.block[0]
        bias = first.layer[0].SelfAttention.position_bias(tokens.shape[1])  # of all layers
        bias = bias.masked_fill(~rearrange(is_there, "b l -> b 1 1 l"), -math.inf)
        for block in self.encoder.block:
            hidden = block(hidden, bias)
        return self.encoder.final_layer_norm(hidden)


class _Stack(nn.Module):
    def __init__(self, shared: nn.Embedding, num_layers: int, num_heads: int, feed_forward: int) -> None:
        super().__init__()
        dim = shared.embedding_dim
        self.embed_tokens = shared  # the same one: files have both names
        self.block = nn.ModuleList(_Block(dim, num_heads, feed_forward, is_first=i == 0) for i in range(num_layers))
        self.final_layer_norm = nn.RMSNorm(dim, EPSILON)


class _Block(nn.Module):
    def __init__(self, dim: int, num_heads: int, feed_forward: int, is_first: bool) -> None:
        super().__init__()
        attention = _Residual("SelfAttention", _SelfAttention(dim, num_heads, has_bias=is_first), dim)
        feed = _Residual("DenseReluDense", _GatedFeedForward(dim, feed_forward), dim)
        self.layer = nn.ModuleList([attention, feed])

    def forward(self, hidden: Float[Tensor, "b l d"], bias: Float[Tensor, "b heads l l"]) -> Float[Tensor, "b l d"]:
        return self.layer[1](self.layer[0](hidden, bias))


class _Residual(nn.Module):
    """What a part makes of its normalised input, added to it."""

    def __init__(self, name: str, part: nn.Module, dim: int) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, part)
        self.layer_norm = nn.RMSNorm(dim, EPSILON)

    def forward(self, hidden: Float[Tensor, "b l d"], *told: Tensor) -> Float[Tensor, "b l d"]:
        return hidden + self.get_submodule(self.name)(self.layer_norm(hidden), *told)


class _SelfAttention(nn.Module):
    """Attention that is not scaled: the weights of queries begin as much smaller. Positions are a bias of each head."""

    def __init__(self, dim: int, num_heads: int, has_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        nn.init.normal_(self.q.weight, std=(dim * dim / num_heads) ** -0.5)
        for part in (self.k, self.v, self.o):
            nn.init.normal_(part.weight, std=dim**-0.5)
        if has_bias:
            self.relative_attention_bias = nn.Embedding(NUM_BUCKETS, num_heads)
            nn.init.normal_(self.relative_attention_bias.weight, std=dim**-0.5)

    def position_bias(self, length: int) -> Float[Tensor, "1 heads l l"]:
        """By how far a key is from its query: each small distance has a weight of its own, larger ones share them."""
        places = torch.arange(length, device=self.relative_attention_bias.weight.device)
        bias: Tensor = self.relative_attention_bias(_bucket(places[None, :] - places[:, None]))
        return rearrange(bias, "query key heads -> 1 heads query key")

    def forward(self, normed: Float[Tensor, "b l d"], bias: Float[Tensor, "b heads l l"]) -> Float[Tensor, "b l d"]:
        query, key, value = (
            rearrange(part(normed), "b l (heads d) -> b heads l d", heads=self.num_heads)
            for part in (self.q, self.k, self.v)
        )
        found = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), scale=1.0)
        return self.o(rearrange(found, "b heads l d -> b l (heads d)"))


class _GatedFeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.wi_0, self.wi_1 = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.wo = nn.Linear(hidden, dim, bias=False)
        for part in (self.wi_0, self.wi_1, self.wo):
            nn.init.normal_(part.weight, std=part.in_features**-0.5)

    def forward(self, normed: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return self.wo(F.gelu(self.wi_0(normed), approximate="tanh") * self.wi_1(normed))


def _bucket(distance: Int[Tensor, "query key"]) -> Int[Tensor, "query key"]:
    """The bucket of each distance: half of them for what comes later; in each half the nearest have one each, and from
    there to MAX_DISTANCE they grow wider by a constant factor."""
    half = NUM_BUCKETS // 2
    exact = half // 2
    far = distance.abs()
    growth = torch.log(far.clamp(min=1) / exact) / math.log(MAX_DISTANCE / exact) * (half - exact)
    wide = (exact + growth.long()).clamp(max=half - 1)
    return torch.where(distance > 0, half, 0) + torch.where(far < exact, far, wide)
