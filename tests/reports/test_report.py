"""The page and the CSV: hostile names and texts stay text, and the numbers are the log's."""

import csv
import html.parser
import io
import json

import pytest

from jaxgpt.reports.logged_run import load_runs
from jaxgpt.reports.report import is_report, render_report, stop_refresh, write_csv
from tests.support.run_folders import make_rows, write_run

NASTY = "<script>alert(1)<\\script> & \"$x^{$\" 'y' \x1b[0m =1+1"


@pytest.mark.filterwarnings("error")
def test_hostile_names_and_texts_stay_text(tmp_path):
    rows = [row | {NASTY: 1.0, "a/../b": 2.0, "val_<b>": 1.0} for row in make_rows(40)]
    settings = dict.fromkeys(("corpus", "data", "init_from", "base", "device_name"), NASTY) | {"labels": [NASTY]}
    folder = write_run(tmp_path / NASTY, rows, starts=[{NASTY: NASTY}], **settings, **{NASTY: NASTY})
    (folder / f"{NASTY}.json").write_text(json.dumps({"loss": 1.0, "choices": {NASTY: 1}, "model": NASTY}))
    sample = {"step": 20, "prompt": NASTY, "text": NASTY}
    (folder / "samples.jsonl").write_text(
        "\n".join(map(json.dumps, [*[sample] * 21, {"step": 1}, sample | {"text": 7}]))
    )
    runs = load_runs([folder, write_run(tmp_path / "$a$ _b")])
    page = render_report(runs, "step", {NASTY: {"loss": 1.0, NASTY: NASTY}}, refresh_s=5)
    tags, content = [], []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.handle_data = content.append
    parser.feed(page)
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in tags} and "\x1b" not in page
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
    fetched = [value for _, each in tags for name, value in each.items() if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in fetched) and "url(http" not in page
    shown = NASTY.replace("\x1b", "\\x1b")
    assert sum(shown in each for each in content) > 15 + 40
    assert page.count("After 20 steps") == 20 and ", the newest 20 of 21" in "".join(content)


def test_the_csv_has_the_numbers_of_the_logs(tmp_path):
    logs = {"a": make_rows(30), "=b": make_rows(20, seed=1, every=7)}
    logs["a"][3] |= {"loss": None, "skipped": True}
    runs = load_runs([write_run(tmp_path / name, rows) for name, rows in logs.items()])
    file = io.StringIO()
    write_csv(file, runs)
    read = list(csv.DictReader(io.StringIO(file.getvalue())))
    expected = [(name, row) for name, rows in logs.items() for row in rows]
    assert len(read) == len(expected)
    for cells, (name, row) in zip(read, expected, strict=True):
        assert cells.pop("run") == ("a" if name == "a" else "./=b")
        cells.pop("seconds")
        assert {key: json.loads(cell) for key, cell in cells.items() if cell} == {
            key: int(value) for key, value in row.items() if value is not None and type(value) is not float
        } | {key: value for key, value in row.items() if type(value) is float}


def test_a_page_is_known_by_its_mark_and_loses_its_refresh(tmp_path):
    runs = load_runs([write_run(tmp_path / "run")])
    page, foreign = tmp_path / "page.html", tmp_path / "foreign.html"
    page.write_text(render_report(runs, "step", {}, refresh_s=5))
    foreign.write_text('<meta http-equiv="refresh" content="5"/>')
    assert is_report(page) and not is_report(foreign) and not is_report(tmp_path / "missing")
    assert b'http-equiv="refresh" content="5"' in page.read_bytes()
    for path in (page, foreign):
        stop_refresh(path)
    assert b"refresh" not in page.read_bytes() and b"refresh" in foreign.read_bytes()
