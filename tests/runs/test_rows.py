"""Rows between lines that are none, against those that were written; every reader of a log takes the same ones."""

import json
import os
import random

import pytest

from jaxgpt.errors import CheckpointError
from jaxgpt.reports.follow import LogReader
from jaxgpt.reports.history import read_history
from jaxgpt.runs import rows
from jaxgpt.runs.rows import open_log, read_pieces, read_rows
from tests.support.run_folders import make_rows

NOT_ROWS = [b"", b"{", b"[1]", b"7", b"null", b"\x00", b'"a', b"\xff", b"\xef\xbb\xbfx", 9 * b"[" + b"}"]
NOT_ROWS += [b'{"step": 1}', b'{"step": true, "position": 0, "tokens_seen": 2}', 2000 * b"[" + 2000 * b"]"]
NOT_ROWS += [b'{"step": %s, "position": 0, "tokens_seen": 2}' % step for step in (b"1.5", b"-1", b"1" + 30 * b"0")]
NOT_ROWS += [b'{"step": 9, "position": 1.5, "tokens_seen": 8}', b'{"step": 1, "position": 0, "tokens_seen": 2}, {}']


@pytest.mark.parametrize("piece", [1, 7, 2**16])
@pytest.mark.parametrize("end", [b'{"step": 99, "lo', b'{"step": 99, "position": 0, "tokens_seen": 2}'])
def test_all_readers_find_the_rows_between_what_is_none(tmp_path, monkeypatch, piece, end):
    """In disorder, some steps twice, and with a last line whose end is not written."""
    monkeypatch.setattr(rows, "PIECE", piece)
    draw, log = random.Random(piece), tmp_path / "log.jsonl"
    lines = [json.dumps(row).encode() for row in make_rows(40) + make_rows(10, seed=1)] + NOT_ROWS
    draw.shuffle(lines)
    log.write_bytes(b"\n".join([*lines, end]))
    written = [json.loads(line) for line in lines if line not in NOT_ROWS]
    last = {row["step"]: row for row in written}
    assert read_rows(log) == last
    pieces = [*read_pieces(log)]
    assert [row for part, _ in pieces for row in part] == written and sum(n for _, n in pieces) == len(NOT_ROWS)
    history, reader = read_history(log), LogReader(log)
    assert history.steps.tolist() == sorted(last) and history.skipped_lines == len(NOT_ROWS)
    reader.read(99)  # which finds that they are in disorder
    reader.rewind()
    assert [{"step": row.step} | row.values for row in reader.read(99)] == [last[step] for step in sorted(last)]


def test_a_log_that_is_not_there_is_empty_and_one_that_is_no_file_is_refused(tmp_path):
    assert read_rows(tmp_path / "log.jsonl") == {}
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        for read in (read_rows, read_history, lambda log: LogReader(log).read(1)):
            with pytest.raises(CheckpointError, match=f"{path}: no regular file; give a run folder"):
                read(path)


def test_a_line_that_is_completed_while_the_log_is_read_is_left_to_the_next_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PIECE", 1)
    log, lines = tmp_path / "log.jsonl", [json.dumps(row).encode() + b"\n" for row in make_rows(3)]
    log.write_bytes(lines[0] + lines[1][:9])
    pieces = read_pieces(log)
    assert [next(pieces)[0][0]["step"]] == [0]
    with open_log(log) as file:  # as a reader that was later
        assert [*rows.complete_lines(file)] == lines[:1]
    assert [*pieces] == []
    with log.open("ab") as file:
        file.write(lines[1][9:] + lines[2])
    assert [*read_rows(log)] == [0, 1, 2]
