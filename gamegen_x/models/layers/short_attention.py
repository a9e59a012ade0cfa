"""Attention over few tokens, for CPUs: matrix products, and a backward pass written by hand.

Over a few dozen tokens the products are small, and what costs is memory: norms, copies, and the gradients of both. So
the norms' divisors scale the few scores and not the many features, which rotations allow because they keep lengths,
and gradients are made in the layout that the products want.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gamegen_x.models.layers.positions import rotate


class ShortAttention(torch.autograd.Function):
    """softmax(z) v, with z_ij = turned(q_i gain_q) . turned(k_j gain_k) / (rms(q_i) rms(k_j) sqrt(d)).

    Without angles nothing is turned, and without a gain of the queries theirs is 1. Scores are softmaxed in float32.
    Has no second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "s n e d"],
        key: Float[Tensor, "s m e d"],
        value: Float[Tensor, "s m e d"],
        query_gain: Float[Tensor, " d"] | None,
        key_gain: Float[Tensor, " d"],
        angles: Float[Tensor, "*s m half"] | None,  # queries stand at the last n
        mask: Bool[Tensor, "..."] | None,  # true where a key may be seen
        eps: float,
    ) -> Float[Tensor, "s n e d"]:
        query, key, value = (heads.transpose(1, 2).contiguous() for heads in (query, key, value))
        per_query, per_key = _inverse_rms(query, eps), _inverse_rms(key, eps)
        scale = (per_query * query.shape[-1] ** -0.5)[..., None] * per_key[..., None, :]
        turned_query = _turn(query, query_gain, _of_last(angles, query))
        turned_key = _turn(key, key_gain, angles)
        scores = (turned_query @ turned_key.mT).to(scale.dtype) * scale
        seen = scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        # Not torch.softmax: it takes rows shorter than a vector register one number at a time.
        shares = (seen - seen.amax(dim=-1, keepdim=True)).exp_()
        shares = shares.div_(shares.sum(dim=-1, keepdim=True)).to(value.dtype)
        between = (turned_query, turned_key, per_query, per_key, scale, scores, shares)
        ctx.save_for_backward(query, key, value, query_gain, key_gain, angles, *between)
        return (shares @ value).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "s n e d"]) -> tuple[Tensor | None, ...]:
        query, key, value, query_gain, key_gain, angles, *between = ctx.saved_tensors
        turned_query, turned_key, per_query, per_key, scale, scores, shares = between
        gradient = gradient.to(shares.dtype)  # autocast may have narrowed what was returned
        gradient = gradient.transpose(1, 2).contiguous()
        of_value = shares.mT @ gradient
        of_shares, shares = (gradient @ value.mT).to(scores.dtype), shares.to(scores.dtype)
        of_scores = shares * (of_shares - (of_shares * shares).sum(dim=-1, keepdim=True))
        of_products = (of_scores * scale).to(query.dtype)
        of_query, of_query_gain = _turn_back(of_products @ turned_key, query, query_gain, _of_last(angles, query))
        of_key, of_key_gain = _turn_back(of_products.mT @ turned_query, key, key_gain, angles)
        # d(1 / rms(x)) / dx = -x / (d rms(x)^3), and a score is proportional to 1 / rms.
        through_norms = of_scores * scores / -query.shape[-1]
        query_share = through_norms.sum(dim=-1) * per_query.square()
        key_share = through_norms.sum(dim=-2) * per_key.square()
        of_query = torch.addcmul(of_query, query, query_share[..., None].to(query.dtype))
        of_key = torch.addcmul(of_key, key, key_share[..., None].to(key.dtype))
        heads = (of_query.transpose(1, 2), of_key.transpose(1, 2), of_value.transpose(1, 2))
        return *heads, of_query_gain, of_key_gain, None, None, None


def _inverse_rms(features: Float[Tensor, "*any d"], eps: float) -> Float[Tensor, "*any"]:
    """1 / sqrt(mean square + eps) over the last axis, in float32 or better."""
    precise = torch.promote_types(features.dtype, torch.float32)
    length = torch.linalg.vector_norm(features, dim=-1, dtype=precise)
    return (length.square() / features.shape[-1] + eps).rsqrt()


def _of_last(angles: Tensor | None, query: Float[Tensor, "s e n d"]) -> Tensor | None:
    """The angles of the queries: with keys of the past there are more keys than queries."""
    return None if angles is None else angles[..., -query.shape[-2] :, :]


def _turn(features: Tensor, gain: Tensor | None, angles: Tensor | None) -> Tensor:
    gained = features if gain is None else features * gain.to(features.dtype)
    return gained if angles is None else rotate(gained, angles)


def _turn_back(
    gradient: Tensor, features: Tensor, gain: Tensor | None, angles: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The gradients of `_turn`'s features and gain."""
    back = gradient if angles is None else rotate(gradient, -angles)
    if gain is None:
        return back, None
    return back * gain.to(back.dtype), (back * features).sum(dim=(0, 1, 2)).to(gain.dtype)
