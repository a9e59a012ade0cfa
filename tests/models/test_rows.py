import pytest
import torch

from gamegen_x.models.layers.rows import RowLinear


@pytest.mark.parametrize(("d_in", "d_out"), [(16, 2), (128, 512), (256, 1536)])
def test_a_row_has_the_same_bits_whatever_is_beside_it(d_in, d_out):
    torch.manual_seed(0)
    layer, rows = RowLinear(d_in, d_out), torch.randn(40, 1, d_in)
    alone = layer(rows[:1])
    for num_rows in range(2, 41):
        assert torch.equal(layer(rows[:num_rows])[:1], alone)
    assert alone.shape == (1, 1, d_out)
    assert torch.allclose(alone, torch.nn.functional.linear(rows[:1], layer.weight, layer.bias), atol=1e-5)
