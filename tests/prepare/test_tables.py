import csv
import io
import random

from jaxgpt.prepare import tables
from jaxgpt.prepare.readers import LineCounter


def reread(lines, **dialect):
    """The rows by their definition: a broken one costs its first line, and all after that is parsed again."""
    first, rows = 0, []
    while first < len(lines):
        taken = []
        try:
            row = next(csv.reader((taken.append(line) or line for line in lines[first:]), strict=True, **dialect))
        except csv.Error:
            row, taken = "broken", taken[:1]
        rows.append((first + 1, row))
        first += len(taken)
    return rows


def test_rows_are_those_of_parsing_again_after_each_broken_one():
    rng, broken = random.Random(0), 0
    for _ in range(3000):
        text = "".join(rng.choices(['"', ",", "a", "\n", '""', '","', "\r\n"], k=rng.randrange(30)))
        for dialect in ({"delimiter": ","}, {"delimiter": ",", "quoting": csv.QUOTE_NONE}):
            expected = reread(list(io.StringIO(text, newline="")), **dialect)
            rows = tables.read_rows(io.StringIO(text, newline=""), LineCounter(), **dialect)
            assert [(at, "broken" if isinstance(row, csv.Error) else row) for at, row in rows] == expected, text
            broken += sum(row == "broken" for _, row in expected)
    assert broken > 1000


def test_each_line_is_parsed_three_times_at_most(monkeypatch):
    """Each of these lines opens a quote that no other closes."""
    parsed, reader = [], csv.reader
    monkeypatch.setattr(
        csv, "reader", lambda lines, **dialect: reader((parsed.append(line) or line for line in lines), **dialect)
    )
    rows = list(tables.read_rows(io.StringIO('a","b\n' * 1000), LineCounter(), delimiter=","))
    assert len(rows) == 1000 and len(parsed) <= 3000


def test_a_row_too_long_costs_its_first_line(monkeypatch):
    monkeypatch.setattr(tables, "RECORD_BYTES", 60)
    monkeypatch.setattr(tables, "RECORD_PARTS", 20)
    lines = ['1,"' + "a" * 100 + "\n", "2,b\n", '3,"c\n', *["c\n"] * 6, 'c"\n', "," * 30 + "\n", "4,d"]
    rows = list(tables.read_rows(io.StringIO("".join(lines), newline=""), LineCounter(), delimiter=","))
    assert [at for at, row in rows if row is tables.TOO_LONG] == [1, 3, 11]
    assert [row for at, row in rows if at in (2, 12)] == [["2", "b"], ["4", "d"]]
    assert [at for at, _ in rows] == list(range(1, 13))
