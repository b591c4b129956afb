import json
import os

import pytest

from jaxgpt.errors import CheckpointError
from jaxgpt.runs.rows import read_rows


def test_rows_are_found_by_their_steps_between_what_is_none(tmp_path):
    log, rows = tmp_path / "log.jsonl", [{"step": n, "position": 8 * n, "tokens_seen": 8 * n + 8} for n in range(4)]
    none = [b"", b"[]", b"\xff", b"null", b'{"step": true}', b'{"step": 9, "position": 1.5, "tokens_seen": 8}', b'{"st']
    lines = [line for row, other in zip([*rows, {}, {}, {}], none, strict=True) for line in (json.dumps(row), other)]
    log.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    assert list(read_rows(log).items()) == list(enumerate(rows))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("pipe", "no regular file"), ("missing", "No such file")):
        with pytest.raises(CheckpointError, match=f"{name}: {why}.*; give a run folder"):
            read_rows(tmp_path / name)
