import pytest
import torch
from torch import nn

from gamegen_x.sampling.live_networks import live_model


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_live_layer_gives_a_row_the_same_bits_whatever_comes_with_it(precision):
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(256, 1024))
    live, rows = live_model(layer, precision), torch.randn(40, 256).to(precision)
    alone = live(rows[:1])
    for num_rows in range(2, 41):
        assert torch.equal(live(rows[:num_rows])[:1], alone)
    torch.testing.assert_close(
        alone.float(), layer(rows[:1].float()), rtol=0, atol=1e-5 if precision == torch.float32 else 0.05
    )
    assert type(layer[0]) is nn.Linear  # the copy is live, not the network itself
