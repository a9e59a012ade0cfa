"""Attention over few tokens, as training on a CPU wants it: matrix products and a backward pass written by hand.

For sequences of a few dozen tokens the products are small and memory traffic is what costs: norms, copies and the
gradients of both. Here the norms' divisors scale the few scores instead of the many features, which a rotation allows
because it keeps lengths, and gradients are laid out as the products want them.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gamegen_x.models.layers.positions import rotate


class ShortAttention(torch.autograd.Function):
    """softmax(z) v with z_ij = rotated(q_i gain_q) . rotated(k_j gain_k) / (rms(q_i) rms(k_j) sqrt(d))."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "s n e d"],
        key: Float[Tensor, "s m e d"],
        value: Float[Tensor, "s m e d"],
        query_gain: Float[Tensor, " d"] | None,
        key_gain: Float[Tensor, " d"],
        angles: Float[Tensor, "m half"] | None,  # queries stand at the last n
        mask: Bool[Tensor, "..."] | None,  # true where a key may be seen
        eps: float,
    ) -> Float[Tensor, "s n e d"]:
        query, key, value = (heads.transpose(1, 2).contiguous() for heads in (query, key, value))
        by_query, by_key = _inverse_rms(query, eps), _inverse_rms(key, eps)
        turned_query, turned_key = _turn(query, query_gain, of_queries(angles, query)), _turn(key, key_gain, angles)
        scale = (by_query * query.shape[-1] ** -0.5)[..., None] * by_key[..., None, :]
        scores = (turned_query @ turned_key.mT).float() * scale
        seen = scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        # By hand: the fused softmax takes rows shorter than a vector register number by number.
        shares = (seen - seen.amax(dim=-1, keepdim=True)).exp_()
        shares = shares.div_(shares.sum(dim=-1, keepdim=True)).to(value.dtype)
        ctx.save_for_backward(
            query,
            key,
            value,
            turned_query,
            turned_key,
            query_gain,
            key_gain,
            angles,
            by_query,
            by_key,
            scale,
            scores,
            shares,
        )
        return (shares @ value).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "s n e d"]) -> tuple[Tensor | None, ...]:
        (
            query, key, value, turned_query, turned_key, query_gain, key_gain, angles,
            by_query, by_key, scale, scores, shares,
        ) = ctx.saved_tensors  # fmt: skip
        gradient = gradient.transpose(1, 2).contiguous()
        for_value = shares.mT @ gradient
        for_shares = (gradient @ value.mT).float()
        shares = shares.float()
        for_scores = shares * (for_shares - (for_shares * shares).sum(dim=-1, keepdim=True))
        through_norms = for_scores * scores
        for_products = (for_scores * scale).to(query.dtype)
        for_query, for_query_gain = _turn_back(for_products @ turned_key, query, query_gain, of_queries(angles, query))
        for_key, for_key_gain = _turn_back(for_products.mT @ turned_query, key, key_gain, angles)
        dim = query.shape[-1]
        by_query = (through_norms.sum(dim=-1) * by_query.square() / -dim).to(query.dtype)
        by_key = (through_norms.sum(dim=-2) * by_key.square() / -dim).to(key.dtype)
        for_query = torch.addcmul(for_query, query, by_query[..., None])
        for_key = torch.addcmul(for_key, key, by_key[..., None])
        for_query, for_key, for_value = (each.transpose(1, 2) for each in (for_query, for_key, for_value))
        return for_query, for_key, for_value, for_query_gain, for_key_gain, None, None, None


def of_queries(angles: Tensor | None, query: Float[Tensor, "s e n d"]) -> Tensor | None:
    """The angles of the last positions: with past keys there are more keys than queries."""
    return None if angles is None else angles[-query.shape[-2] :]


def _inverse_rms(features: Float[Tensor, "*any d"], eps: float) -> Float[Tensor, "*any"]:
    length = torch.linalg.vector_norm(features, dim=-1, dtype=torch.float32)
    return (length.square() / features.shape[-1] + eps).rsqrt()


def _turn(features: Tensor, gain: Tensor | None, angles: Tensor | None) -> Tensor:
    gained = features if gain is None else features * gain.to(features.dtype)
    return gained if angles is None else rotate(gained, angles)


def _turn_back(
    gradient: Tensor, features: Tensor, gain: Tensor | None, angles: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The gradients of `_turn`: for its features and for its gain."""
    back = gradient if angles is None else rotate(gradient, -angles)
    if gain is None:
        return back, None
    return back * gain.to(back.dtype), (back * features).sum(dim=(0, 1, 2)).to(gain.dtype)
