from gamegen_x.evaluation.progress import Progress


def test_progress_says_how_much_is_left_and_ends_with_a_line(capsys):
    progress = Progress("playing", 4, seconds_between_lines=0.0)
    progress(1, "loss 0.5")
    progress(4)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("playing: 1/4, loss 0.5, ")
    assert first.endswith("s left")
    assert last.startswith("playing: 4/4, took ")


def test_progress_is_quiet_between_its_lines(capsys):
    progress = Progress("playing", 4, seconds_between_lines=1000.0)
    for done in range(1, 4):
        progress(done)
    assert capsys.readouterr().out == ""
