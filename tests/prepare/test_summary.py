import json

import pytest

from jaxgpt.errors import JaxgptError
from jaxgpt.prepare.drop_log import DropLog, report_corruption, write_json
from jaxgpt.prepare.sources import Unit
from jaxgpt.prepare.summary import write_report


@pytest.fixture
def work(tmp_path):
    """Of two tasks: the first had the first half of a.jsonl, the second the rest and all of b.jsonl."""
    work = tmp_path / "work"
    write_json(work / "read" / "00000.json", {"records": 9, "lines": [10]})
    write_json(work / "read" / "00001.json", {"records": 6, "lines": [5, 3]})
    for rank, step, unit, line, reason in (
        (0, "read", 0, 4, "not JSON"),
        (0, "exact", 0, 9, "same as another"),
        (1, "read", 0, 2, "empty"),
        (1, "exact", 1, 3, "same as another"),
    ):
        with DropLog(work, step) as drop_log:
            drop_log.add(rank, {"file": "ab"[unit] + ".jsonl", "unit": unit, "line": line}, reason)
    for rank, counts in enumerate(({"changed": 2}, {"changed": {"total": 3, "n": 3}})):
        stats = [{"name": "CHANGE: unicode", "stats": counts}, {"name": "ANONYMISE: pii", "stats": {"email": 4}}]
        write_json(work / "stages" / "clean" / "stats" / f"{rank:05d}.json", stats)
    return work


PIECES = [
    [Unit("a.jsonl", "jsonl", 0, 100, 100)],
    [Unit("a.jsonl", "jsonl", 100, 150, 50), Unit("b.jsonl", "jsonl", 0, 30, 30)],
]
NAMES = ["read", "unicode", "exact", "pii"]


def test_the_numbers_add_up_and_lines_are_those_of_files(work, tmp_path):
    splits = {"train": {"documents": 12, "tokens": 100}, "val": {"documents": 1, "tokens": 10}}
    report = write_report(work, tmp_path, PIECES, NAMES, splits, 2)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report == {
        "records": 15,
        "broken": 1,
        "bytes": 180,
        "steps": [
            {"name": "read", "changed": 0, "dropped": {"not JSON": 1, "empty": 1}},
            {"name": "unicode", "changed": 5, "dropped": {}},
            {"name": "exact", "changed": 0, "dropped": {"same as another": 2}},
            {"name": "pii", "changed": 0, "dropped": {}},
        ],
        "pii": {"email": 8},
        "canaries": 2,
        "kept": {"documents": 13, "tokens": 110},
    }
    lines = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    places = [(line["file"], line["line"], line["step"]) for line in lines]
    assert places == [("a.jsonl", 4, "read"), ("a.jsonl", 9, "exact"), ("a.jsonl", 12, "read"), ("b.jsonl", 3, "exact")]


@pytest.mark.parametrize(
    "name, content",
    [
        ("read/00001.json", ""),
        ("read/00001.json", '{"records": "6", "lines": [5, 3]}'),
        ("read/00001.json", '{"records": 6, "lines": [5]}'),
        ("read/00000.json", None),
        ("stages/clean/stats/00001.json", "[" * 10**5),
        ("stages/clean/stats/00001.json", '[{"name": "pii", "stats": {"email": 1e999}}]'),
        ("dropped/00001/exact.jsonl", '{"unit": 7, "line": 1}'),
        ("dropped/00001/exact.jsonl", "\0"),
    ],
)
def test_what_no_task_wrote_is_one_line(work, tmp_path, name, content):
    (work / name).unlink()
    if content is not None:
        (work / name).write_text(content)
    message = r"work: corrupt: not what the tasks wrote \(.*\); start over with --fresh$"
    with pytest.raises(JaxgptError, match=message), report_corruption(work):
        write_report(work, tmp_path, PIECES, NAMES, {"train": {"documents": 13, "tokens": 9}}, 2)


def test_a_document_that_is_neither_kept_nor_dropped_is_an_error(work, tmp_path):
    with pytest.raises(AssertionError, match="15 found, 4 dropped"), report_corruption(work):  # ours, not the disk's
        write_report(work, tmp_path, PIECES, NAMES, {"train": {"documents": 10, "tokens": 0}}, 0)
