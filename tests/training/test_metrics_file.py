from gamegen_x.training.metrics_file import MetricsFile, read_metrics, rewind


def test_rows_are_appended_and_new_names_become_columns(tmp_path):
    path = tmp_path / "metrics.csv"
    metrics = MetricsFile(path=str(path))
    metrics.log_metrics({"train/loss": 0.5, "epoch": 0}, step=0)
    metrics.log_metrics({"val/loss": 0.25}, step=0)
    MetricsFile(path=str(path)).log_metrics({"train/loss": 0.1}, step=1)
    assert read_metrics(path) == [
        {"step": "1", "train/loss": "0.5", "val/loss": ""},
        {"step": "1", "train/loss": "", "val/loss": "0.25"},
        {"step": "2", "train/loss": "0.1", "val/loss": ""},
    ]


def test_values_are_written_to_their_last_bit(tmp_path):
    value = 0.1 + 0.2
    MetricsFile(path=str(tmp_path / "m.csv")).log_metrics({"x": value}, step=0)
    assert float(read_metrics(tmp_path / "m.csv")[0]["x"]) == value


def test_rewinding_drops_later_rows_and_a_row_cut_short(tmp_path):
    path = tmp_path / "metrics.csv"
    metrics = MetricsFile(path=str(path))
    for step in range(4):
        metrics.log_metrics({"train/loss": float(step)}, step=step)
    with path.open("a") as file:
        file.write("5,0.")
    rewind(path, 2)
    assert [row["step"] for row in read_metrics(path)] == ["1", "2"]
    MetricsFile(path=str(path)).log_metrics({"train/loss": 9.0}, step=2)
    assert [row["step"] for row in read_metrics(path)] == ["1", "2", "3"]
