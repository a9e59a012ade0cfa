from gamegen_x.serve.bots import BotReport, summary
from gamegen_x.serve.figures import quantiles
from gamegen_x.serve.metrics import SyncMetrics, quantile


def test_a_quantile_of_nothing_is_nothing():
    assert quantile([], 0.5) is None
    assert quantile([1, 2, 3], 0.5) == 2
    assert quantile([0, 1], 1 / 3, digits=2) == 0.33


def test_figures_of_a_server_that_has_measured_nothing_are_zero():
    assert quantiles([]) == {"p50": 0.0, "p99": 0.0}
    assert SyncMetrics().summary(fps=24.0)["action_latency_ms_p95"] == 0.0
    assert summary([BotReport(pictures=1)], seconds=1.0, stall_s=0.5)["key_to_frame_ms_p99"] == 0.0
