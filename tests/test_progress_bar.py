"""The bar on a terminal, the lines elsewhere, and which stages each command has."""

import ast
import codecs
import contextlib
import io
import itertools
import math
import os
import re
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from jaxgpt import commands, progress_bar
from jaxgpt.progress_bar import Lines, Stage, stage
from tests.support.commands import run_command

ROOT = Path(__file__).parent.parent
HOSTILE = "a\x1b[31m\r\nfile[bold]\u202etxt.exe"
ESCAPED = r"a\x1b[31m\r\nfile[bold]\u202etxt.exe"


class Terminal:
    """The other end of a pseudo-terminal, and what a user would see there."""

    def __init__(self):
        self.end, ours = os.openpty()
        self.file, self.written = os.fdopen(ours, "w", buffering=1, encoding="utf-8"), ""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        """Take what comes, since who writes would wait for that."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        with contextlib.suppress(OSError):  # it is closed
            while part := os.read(self.end, 4096):
                self.written += decoder.decode(part)

    def close(self):
        """All that was written."""
        self.file.close()
        self.reader.join()
        os.close(self.end)
        return self.written

    def wait_for(self, text):
        ends = time.monotonic() + 20
        while text not in self.written:
            assert time.monotonic() < ends, self.written
            time.sleep(0.01)

    def screen(self):
        """The lines that are left, for the few sequences that move the cursor and erase."""
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.written):
            if part == "\r":
                column = 0
            elif part == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif part == "\x1b[1A":
                row -= 1
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part.startswith("\x1b"):
                assert part.endswith("m"), part  # a colour; nothing hides the cursor
            else:
                lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
                column += len(part)
        return "\n".join(lines).rstrip()


@pytest.fixture
def terminal(monkeypatch):
    """A function that makes stdout and stderr a terminal, in this environment."""
    monkeypatch.delenv("JAXGPT_PROGRESS")
    monkeypatch.setattr(progress_bar, "REFRESH_S", 0.01)
    monkeypatch.setattr(progress_bar, "_lines", Lines())

    made = Terminal()

    def make(**environment):
        for name, value in ({"TERM": "xterm-256color", "COLUMNS": "100"} | environment).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", made.file)
        monkeypatch.setattr(sys, "stderr", made.file)
        return made

    yield make
    if not made.file.closed:
        made.close()


@pytest.fixture
def clock(monkeypatch):
    """A clock as a list of one number of seconds."""
    seconds = [0.0]
    monkeypatch.setattr(progress_bar, "_clock", lambda: seconds[0])
    return seconds


def test_a_terminal_shows_name_count_and_times_and_is_clean_afterwards(terminal, clock):
    shown = terminal()
    print("before")
    with stage(HOSTILE, 40) as advance, stage("inner"):
        advance(10)
        clock[0] = 30
        shown.wait_for("10 of 40, 0:00:30 elapsed, 0:01:30 left")
        print("a row of the result")
        print("note: a remark", file=sys.stderr)
        shown.wait_for("remark")
        assert ESCAPED in shown.written and re.search("inner +0:00:30 elapsed", shown.screen())
    assert sys.stderr is shown.file and sys.stdout is shown.file
    print("after")
    shown.close()
    assert shown.screen() == "before\na row of the result\nnote: a remark\nafter"


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_long_name_is_cut_and_a_count_is_not(terminal, clock, columns):
    shown = terminal(COLUMNS=columns)
    with stage("name " * 50, 40) as advance:
        advance(10)
        clock[0] = 30
        shown.wait_for("0:01:30 left" if columns != "40" else "0:00:30 elapsed")
        assert all(len(line) <= int(columns) for line in shown.screen().splitlines())


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_a_stage_leaves_a_clean_terminal(terminal, ends):
    shown = terminal()
    with pytest.raises(ends), stage("outer", 3), stage("inner", 3):
        shown.wait_for("inner")
        raise ends
    shown.close()
    assert shown.screen() == "" and progress_bar._stages == []


@pytest.mark.parametrize(
    "environment, has_bar, has_colour",
    [
        ({}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, False, False),
    ],
)
def test_a_dumb_terminal_has_no_escapes_and_no_color_no_colours(terminal, environment, has_bar, has_colour):
    shown = terminal(**environment)
    with stage("windows", 4, quiet_s=0) as advance:
        advance(1)
        shown.wait_for("1 of 4")
    written = shown.close().replace("\r\n", "\n")  # which the terminal itself makes of \n
    assert bool(re.search(r"\x1b\[[\d;]+m", written)) == has_colour
    assert ("\x1b" in written) == ("\r" in written) == has_bar
    assert has_bar or re.fullmatch(r"progress: windows: 1 of 4, 0:00:0\d elapsed, 0:00:\d\d left\n", written)


def test_a_pipe_gets_lines_even_if_colours_are_forced(terminal, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with stage("short", 4):
        time.sleep(0.05)
    with stage(HOSTILE, 5e6, unit="MB", quiet_s=0) as advance:
        advance(1e6)
        time.sleep(0.1)
    out, err = capfd.readouterr()
    assert out == "" and err.startswith(f"progress: {ESCAPED}: ") and err.count("\n") == 1
    assert "of 5.0 MB, 0:00:00 elapsed" in err and not set("\x1b\r") & set(err)


def test_a_terminal_that_a_pipe_may_write_to_as_well_has_no_bar(terminal, monkeypatch):
    """As of `jaxgpt train | tee log`."""
    shown, (end, pipe) = terminal(), os.pipe()
    with open(end), open(pipe, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with stage("printed", 3, quiet_s=0, prints=True):
            time.sleep(0.05)
        with stage("compiling", quiet_s=0):
            shown.wait_for("elapsed")
    assert shown.close() == "progress: compiling: 0:00:00 elapsed\r\n"


def test_a_system_without_threads_and_a_pipe_that_nobody_reads_keep_nobody_waiting(terminal, monkeypatch):
    terminal(TERM="dumb")
    end, pipe = os.pipe()
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe, bytes(4096)):
            pass
    os.set_blocking(pipe, True)
    with open(pipe, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with stage("full", quiet_s=0):
            time.sleep(0.05)
        os.read(end, 10**6)
    os.close(end)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
    with stage("no thread"):
        pass


def times_of_lines(stages, seconds):
    """When stages print that are (start, end, total or None, quiet_s), at equal speed, with a look each half second."""
    lines, made, times = Lines(), {}, []
    for now in (n / 2 for n in range(2 * seconds)):
        current = []
        for start, end, total, quiet_s in stages:
            if start <= now < end:
                each = made.setdefault(start, Stage(f"s{start}", total, 0, "", quiet_s, start, 0))
                each.done = round((total or 0) * (now - start) / (end - start))
                current.append(each)
        if line := lines.next_line(tuple(current), now):
            times.append(now)
            assert re.match(r"progress: s\d+: ", line)
    return times


def test_lines_are_few():
    assert times_of_lines([(0, 1.5, 9, 2)], 9) == []
    assert times_of_lines([(0, 30, 9, 2)], 30) == [2, 12, 22]  # one in ten seconds
    assert times_of_lines([(0, 200, 1000, 2)], 200) == [2, *range(20, 200, 20)]  # each tenth
    assert times_of_lines([(0, 3000, 1000, 2)], 200) == [2, 62, 122, 182]  # each minute
    assert times_of_lines([(0, 99, None, 2)], 150) == [2, 62]  # of what nobody can count
    assert times_of_lines([(0, 500, 9, math.inf)], 500) == []
    assert times_of_lines([(0, 500, 9, math.inf), (7, 90, None, 30)], 500) == [37]
    starts = range(0, 100, 4)
    times = times_of_lines([(start, start + 4, 9, 2) for start in starts], 100)
    assert times and all(b - a >= 10 for a, b in itertools.pairwise(times))


def test_the_time_left_counts_from_where_a_stage_began():
    assert Stage("", 100, 60, "", 2, 5, 50).describe(25) == "60 of 100, 0:00:20 elapsed, 0:01:20 left"
    assert Stage("", 2.5e9, 0, "MB", 2, 5, 0).describe(6) == "0.0 of 2,500.0 MB, 0:00:01 elapsed"
    assert Stage("", None, 1200, "", 2, 0, 0).describe(6) == "1,200, 0:00:06 elapsed"
    assert Stage("", 900, 8, "", 2, 0, 0).describe(59) == "8 of 900, 0:00:59 elapsed"  # compiled meanwhile
    assert Stage("", 900, 8, "", 2, 0, 0).describe(64) == "8 of 900, 0:01:04 elapsed, 1:58:56 left"
    assert Stage("", 3, 4, "", 2, 0, 0).describe(6) == "3 of 3, 0:00:06 elapsed"  # the last batch is filled up


def test_nothing_is_shown_where_another_process_or_the_result_says_it(terminal, monkeypatch):
    shown = terminal()
    with progress_bar.hide(), stage("hidden", 3), stage("inner"):
        pass
    with stage("printed", 3, prints=True) as advance:
        advance(1)
    monkeypatch.setenv("JAXGPT_PROGRESS", "off")
    with stage("off", 3):
        pass
    assert shown.written == ""
    monkeypatch.delenv("JAXGPT_PROGRESS")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with stage("printed", 3, prints=True):
        shown.wait_for("printed")


def test_counting_costs_next_to_nothing():
    with stage("steps", 10**6) as advance:
        begun = time.process_time()
        for _ in range(10**5):
            advance(1)
        assert time.process_time() - begun < 0.1  # 1 µs each; it is some 50 ns


def test_only_this_file_draws_bars():
    drawing = {"progress", "live", "status", "spinner", "progress_bar"}
    for path in (ROOT / "jaxgpt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            called = node.func if isinstance(node, ast.Call) else None
            names += ["rich.status"] if isinstance(called, ast.Attribute) and called.attr == "status" else []
            drawn = [name for name in names if name.startswith(("rich.", "tqdm")) and name.split(".")[-1] in drawing]
            assert not drawn or path.name == "progress_bar.py", (path, drawn)


# ---- The commands


def rows_of_the_page():
    """docs/training.md's table: the stages of each command, as patterns."""
    page = (ROOT / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|$", page[page.index("## Progress") :], re.MULTILINE)
    cells = dict(rows)
    cells = {name: cell + cells["train"] * ("as above" in cell) for name, cell in cells.items()}
    stages = {name: re.findall("`([^`]+)`", cell) for name, cell in cells.items()}
    return {name: [re.sub("[A-Z]+", ".*", re.escape(each)) for each in of_it] for name, of_it in stages.items()}


def test_the_page_has_every_command_with_stages():
    folder = ROOT / "jaxgpt" / "commands"  # where a command is a file, or a folder of files
    files = {name: [folder / f"{name}.py", *(folder / name).glob("*.py")] for name in commands.COMMANDS}
    with_stages = {
        name for name, paths in files.items() if any("stage(" in path.read_text() for path in paths if path.exists())
    }
    assert with_stages <= rows_of_the_page().keys() <= commands.COMMANDS.keys()


@pytest.mark.slow
def test_the_stages_of_each_command_are_those_of_the_page(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    seen = []

    class Seen(Stage):
        def __init__(self, what, *rest):
            super().__init__(what, *rest)
            seen.append(what)

    monkeypatch.setattr(progress_bar, "Stage", Seen)
    shape = "--n-layer 1 --n-head 1 --n-embd 8 --block-size 32 --B 2 --T 16 --device cpu"
    write("text.txt", "one two three four\n" * 60)
    write("labels.jsonl", [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(8)])
    write("choices.jsonl", [{"context": "a b", "choices": [" c", " d"], "answer": 0}])
    write("documents.jsonl", [{"text": f"document {n} of some words"} for n in range(200)])
    lines = f"""train {shape} --data text.txt --val 0.2 --steps 3 --out run
        sample run --prompt one --max-new-tokens 3 --device cpu
        evaluate run --data text.txt --choices choices.jsonl --device cpu
        verify run
        replay run --step 1
        export run hf
        train {shape} --data text.txt --steps 1 --out again --init-from hf
        train {shape} --data labels.jsonl --steps 1 --out labels
        predict labels --data labels.jsonl --device cpu
        prepare documents.jsonl --out prepared --workers 1
        inspect prepared
        doctor"""
    rows = rows_of_the_page()
    for line in lines.splitlines():
        name, *words = line.split()
        seen.clear()
        ended = run_command([name, *words])
        assert ended.code == 0, ended
        assert seen and all(any(re.fullmatch(row, what) for row in rows[name]) for what in seen), (name, seen)
