"""The hand-written attention is the textbook's, in its values and in its gradients."""

import pytest
import torch
import torch.nn.functional as F

from gamegen_x.models.layers.attention import HeadNorm, attend
from gamegen_x.models.layers.positions import RotaryPositions, rotate
from gamegen_x.models.layers.short_attention import ShortAttention

EPS = 1e-6


def textbook(query, key, value, query_gain, key_gain, angles, mask, eps):
    query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
    query = F.rms_norm(query, query.shape[-1:], eps=eps)
    query = query if query_gain is None else query * query_gain
    key = F.rms_norm(key, key.shape[-1:], eps=eps) * key_gain
    if angles is not None:
        query, key = rotate(query, angles[-query.shape[-2] :]), rotate(key, angles)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def some_inputs(num_queries, num_keys, is_turned, is_causal, dtype):
    query, key, value = (torch.randn(2, n, 3, 8, dtype=dtype) for n in (num_queries, num_keys, num_keys))
    gains = torch.randn(8, dtype=dtype) if is_turned else None, torch.randn(8, dtype=dtype)
    angles = RotaryPositions(8, 10_000.0)(torch.arange(num_keys)) if is_turned else None
    mask = torch.ones(num_keys, num_keys, dtype=torch.bool).tril()[-num_queries:] if is_causal else None
    return query, key, value, *gains, angles, mask, EPS


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(5, 5), (2, 7)])
def test_values_and_gradients_are_those_of_the_textbook(is_turned, is_causal, num_queries, num_keys):
    inputs = some_inputs(num_queries, num_keys, is_turned, is_causal, torch.float64)
    learned = [value.requires_grad_() for value in inputs[:5] if value is not None]
    made, expected = ShortAttention.apply(*inputs), textbook(*inputs)
    torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(made)
    for mine, theirs in zip(
        torch.autograd.grad((made * weights).sum(), learned),
        torch.autograd.grad((expected * weights).sum(), learned),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def test_bfloat16_comes_out_as_bfloat16_and_near_float32():
    inputs = some_inputs(6, 6, True, True, torch.float32)
    halved = [
        value.bfloat16() if isinstance(value, torch.Tensor) and i < 3 else value for i, value in enumerate(inputs)
    ]
    made = ShortAttention.apply(*halved)
    assert made.dtype == torch.bfloat16
    expected = ShortAttention.apply(*inputs)
    assert (made.float() - expected).norm() < 0.02 * expected.norm()


def test_keys_that_may_not_be_seen_do_not_matter_whatever_their_size():
    query, key, value, *rest = some_inputs(4, 4, True, True, torch.float32)
    loud_key, loud_value = key.clone(), value.clone()
    loud_key[:, 3], loud_value[:, 3] = 1e4, 1e4
    quiet, loud = (
        ShortAttention.apply(query, key, value, *rest),
        ShortAttention.apply(query, loud_key, loud_value, *rest),
    )
    assert torch.equal(quiet[:, :3], loud[:, :3])
    assert not torch.equal(quiet[:, 3], loud[:, 3])


@pytest.mark.parametrize("is_turned", [False, True])
def test_attention_is_the_same_with_and_without_gradients(is_turned, monkeypatch):
    query, key, value, _, _, angles, mask, _ = some_inputs(2, 7, is_turned, True, torch.float64)
    norms = [HeadNorm(8).double() for _ in range(2)]
    for norm in norms:
        torch.nn.init.normal_(norm.weight)
    learning = attend(query, key, value, *norms, angles, mask)
    assert type(learning.grad_fn).__name__ == "ShortAttentionBackward"
    monkeypatch.setattr(ShortAttention, "apply", None)  # and without them it is not asked
    with torch.no_grad():
        torch.testing.assert_close(attend(query, key, value, *norms, angles, mask), learning, rtol=1e-9, atol=1e-9)
