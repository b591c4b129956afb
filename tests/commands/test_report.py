"""The command: what it writes and refuses, how it follows a run, and the page in a browser."""

import csv
import os
import threading
import time

import pytest

from jaxgpt import commands, console
from jaxgpt.commands import report
from jaxgpt.reports.report import is_report
from tests.reports.test_tables import read_table
from tests.support.browser import DRIVER, browser
from tests.support.run_folders import make_rows, write_log, write_run


def run(*words):
    return console.run(commands.main, ["report", *map(str, words)])


@pytest.fixture
def runs(tmp_path):
    """Two runs of one name, and one that has just begun."""
    folders = [write_run(tmp_path / name / "run", make_rows(seed=i), lr=i) for i, name in enumerate("ab")]
    return [*folders, write_run(tmp_path / "c", [])]


def test_a_page_plots_and_rows_are_written(runs, tmp_path, capsys):
    runs[0].chmod(0o750)  # open to a group
    (tmp_path / "any").touch()
    (runs[0] / "result.json").write_text('{"model": "a/run", "loss": 3.125}')
    assert run(*runs, "--x", "tokens", "--png", tmp_path / "png", "--csv", tmp_path / "rows.csv") == 0
    page, out = runs[0] / "report.html", capsys.readouterr().out
    assert out.splitlines()[-1] == f"saved     {page}"
    text = page.read_text()
    assert text.count("<figure>") == 4 and 'http-equiv="refresh"' not in text and "a/run/result.json" in text
    table = read_table(text)
    assert table[0] == ["", "a/run", "b/run", "c"] and ["lr", "0", "1", "0.003"] in table
    assert {path.name for path in (tmp_path / "png").iterdir()} == {
        *("loss.png", "lr.png", "grad_norm.png", "tokens_per_s.png")
    }
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [row["loss"] for seed in (0, 1) for row in make_rows(seed=seed)]
    assert [float(row["loss"]) for row in rows] == losses
    files = [tmp_path / "any", page, tmp_path / "rows.csv", tmp_path / "png" / "loss.png"]
    mode, *modes = [os.stat(path).st_mode & 0o777 for path in files]
    assert modes == [mode & 0o750, mode & 0o700, mode & 0o700]  # what was named is the user's alone
    assert run(runs[0]) == 0 and run(runs[0], "--out", page) == 0  # its own page is replaced


def test_exports_have_each_plot_and_any_name(tmp_path, capsys):
    rows = [row | {"x/y": 1.0, "x-y": 2.0} for row in make_rows(9)]
    folder = write_run(tmp_path / os.fsdecode(b"r\xff"), rows)
    assert run(folder, "--png", tmp_path / "png", "--csv", tmp_path / "rows.csv") == 0
    assert "png: 6 plots" in capsys.readouterr().out
    assert {"x%2Fy.png", "x-y.png"} < {path.name for path in (tmp_path / "png").iterdir()}
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        assert [row["run"] for row in csv.DictReader(file)] == 9 * [r"r\udcff"]


def test_what_is_wrong_is_one_line_and_nothing_is_overwritten(runs, tmp_path, capsys):
    (tmp_path / "mine.html").write_text("mine")
    (tmp_path / "mine.csv").write_text("mine")
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "loss.png").write_text("mine")
    for words, code, message in (
        ([], 2, "0 runs: name from 1 to 16 run folders"),
        ([runs[0]] * 17, 2, "17 runs: name from 1 to 16"),
        ([tmp_path], 4, "no run that has begun; give a run folder"),
        ([runs[0], "--out", tmp_path / "mine.html"], 2, "mine.html: exists already; choose another file"),
        ([runs[0], "--csv", tmp_path / "mine.csv"], 2, "mine.csv: exists already; choose another file"),
        ([runs[0], "--png", tmp_path / "png"], 2, "loss.png: exists already; choose another file"),
        ([runs[0], "--csv", runs[0] / "log.jsonl"], 2, "give the file a name that ends in .csv"),
        ([runs[0], "--follow", "--csv", "x.csv"], 2, "--follow rewrites only the page"),
    ):
        assert run(*words) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and message in line
    assert (tmp_path / "mine.html").read_text() == (tmp_path / "mine.csv").read_text() == "mine"
    assert not (runs[0] / "report.html").exists()


def test_a_run_is_followed_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLLOW_S", 0.01)
    rows = make_rows()
    folder = write_run(tmp_path / "run", rows[:10])
    page, ended = folder / "report.html", []
    follower = threading.Thread(target=lambda: ended.append(run(folder, "--follow")))
    follower.start()

    def wait_for(text):
        deadline = time.monotonic() + 60
        while not (page.exists() and text in page.read_text()):
            assert time.monotonic() < deadline and follower.is_alive()
            time.sleep(0.01)

    wait_for("10 of 60")
    write_log(folder, rows[10:30], mode="a")
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 30, "lo')  # a row is being written
    wait_for("30 of 60")
    assert 'http-equiv="refresh"' in page.read_text() and is_report(page)
    write_log(folder, rows)
    follower.join(60)
    assert ended == [0] and "60 of 60" in page.read_text() and 'http-equiv="refresh"' not in page.read_text()


def test_it_pauses_after_each_page_even_if_rows_come_faster(tmp_path, monkeypatch):
    folder, rows = write_run(tmp_path / "run", []), make_rows()
    write, order = report.write_whole, []

    def write_and_train(*arguments):
        write(*arguments)
        order.append("page")
        write_log(folder, rows[: 20 * len(order)])

    monkeypatch.setattr(report, "write_whole", write_and_train)
    monkeypatch.setattr(report.time, "sleep", lambda seconds: order.append(seconds))
    assert run(folder, "--follow") == 0
    assert order == ["page", report.FOLLOW_S] * 2 + ["page"]


@pytest.mark.parametrize("moment", ["while it draws", "while it waits"])
def test_a_run_that_is_moved_ends_it_in_one_line_and_its_page_is_still(tmp_path, monkeypatch, capsys, moment):
    folder, moved, render = write_run(tmp_path / "run", make_rows(9)), tmp_path / "moved", report.render_report

    def move(*_):
        if (folder / "report.html").exists():
            folder.rename(moved)

    def render_and_move(*arguments):
        move()
        return render(*arguments)

    if moment == "while it draws":
        monkeypatch.setattr(report, "render_report", render_and_move)
    pause = move if moment == "while it waits" else lambda seconds: write_log(folder, make_rows(19))
    monkeypatch.setattr(report.time, "sleep", pause)
    assert run(folder, "--follow") == (4 if moment == "while it waits" else 75)
    problem = "no run that has begun" if moment == "while it waits" else "was moved or deleted; run the same command"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {folder}") and problem in line and ".tmp" not in line
    assert is_report(moved / "report.html") and b"refresh" not in (moved / "report.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved"]


@pytest.mark.slow
@pytest.mark.skipif(not DRIVER, reason="chromedriver is not installed")
def test_a_browser_shows_the_page_asks_for_nothing_and_reports_nothing(runs, tmp_path):
    pytest.importorskip("selenium", reason="pip install selenium")
    long = write_run(tmp_path / "long", make_rows(100_000, every=10_000, spikes=(45, 70_000)))
    assert run(*runs, long) == 0
    page = runs[0] / "report.html"
    assert page.stat().st_size < 10**6
    for width, dark, color in ((1000, False, "rgb(255, 255, 255)"), (390, True, "rgb(22, 24, 28)")):
        with browser(width, 800, dark) as session:
            assert session.open(page) < 5  # seconds
            assert session.requests() == [page.as_uri()] and session.messages() == []
            assert session.run("return getComputedStyle(document.body).backgroundColor") == color
            assert session.run("return document.documentElement.scrollWidth") <= width
            texts = "[...document.querySelectorAll('figure svg text')]"
            heights = session.run(f"return {texts}.map(text => text.getBoundingClientRect().height)")
            assert len(heights) > 20 and min(heights) >= 9  # pixels, on a phone, too
