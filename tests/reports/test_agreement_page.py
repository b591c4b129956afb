"""The page of `jaxgpt agreement`: tables and plots have the numbers, and what annotators write stays text."""

import re
import xml.etree.ElementTree

import pytest

from jaxgpt.reports.agreement import summarize
from jaxgpt.reports.agreement_page import MAX_DISPUTES, draw_intervals, format_interval, render_agreement
from jaxgpt.reports.judgments import Judgment
from tests.reports.test_plots import find_line, find_scale
from tests.reports.test_tables import read_table

HOSTILE = '<script>alert("x")</script>\x1b[2J\u202e $x^'


def make_judgments(n=8, **fields):
    fields = {
        "models": (HOSTILE, "runs/b"),
        "topic": HOSTILE,
        "seconds": 4.0,
        "remark": HOSTILE,
        "prompt": HOSTILE,
    } | fields
    for item in range(n):
        yield Judgment(HOSTILE, (item,), HOSTILE, 0, place=1, **fields)
        yield Judgment("ben", (item,), HOSTILE, item % 2, place=2, **fields)


def test_what_is_hostile_stays_text_and_nothing_is_fetched():
    page = render_agreement(summarize([*make_judgments()]), [HOSTILE])
    assert "&lt;script&gt;alert" in page and not re.search(r"<script|\x1b|\u202e|<link|@import", page)
    assert not re.search(r"(src|href|url)\s*=", page.split("</svg>")[-1])
    assert page.count("<svg") == 3 and page.count("<table") == 5


def test_tables_have_the_numbers():
    summary = summarize([*make_judgments(topic="")])
    tables = re.findall(r"<table>.*?</table>", render_agreement(summary, ["prefs.jsonl"]), re.DOTALL)
    rows = [row for table in tables for row in read_table(table)]
    assert ["runs/b", "all", "16", "4", "25.0\xa0%\xa0[10.2,\xa049.5]"] in rows
    assert ["ben", "8", "0", "-50.0\xa0%\xa0[-50.0,\xa0-17.6]"] in rows and ["ben", "8", "4.0 s"] in rows
    assert sum(row[0].startswith("<script>") and row[-1].startswith("<script>") for row in rows) == 4  # disputes


def test_there_is_no_section_for_what_is_not_known():
    alone = [Judgment("", (item,), "", 0) for item in range(3)]
    page = render_agreement(summarize(alone), ["prefs.jsonl"])
    assert page.count("<h2>") == 1 and "No item has two annotators" in page and "<table" not in page
    alike = [Judgment(name, (1,), "1", 0) for name in ("anna", "ben")]  # whose kappa is undefined
    page = render_agreement(summarize(alike), ["prefs.jsonl"])
    assert "undefined" in page and "<svg" not in page and "nan" not in page
    many = [Judgment(name, (i,), str(i), vote) for i in range(MAX_DISPUTES + 1) for vote, name in enumerate("ab")]
    page = render_agreement(summarize(many), ["prefs.jsonl"])
    assert f"Items in dispute, {MAX_DISPUTES} of {MAX_DISPUTES + 1}" in page


def test_points_are_drawn_where_the_numbers_are():
    rows = [("a", {"share": 0.25, "low": 0.1, "high": 0.5}), ("b $x^", {"share": 0.75, "low": 0.5, "high": 0.9})]
    rows += [("c", dict.fromkeys(("share", "low", "high"), float("nan")))]
    svg = xml.etree.ElementTree.fromstring(draw_intervals(rows, "share", "win rate", (0, 0.5, 1)))
    to_x = find_scale(svg, "x")
    (first, second) = find_line(svg, "share-values")
    assert [to_x(first[0]), to_x(second[0])] == pytest.approx([0.25, 0.75], abs=2e-3)
    assert first[1] < second[1]  # the first is at the top
    texts = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "b $x^" in texts and "c" not in texts


def test_an_interval_has_its_unit():
    numbers = {"kappa": 0.641, "share": 0.5, "bias": 0.012, "low": -0.02, "high": 0.7}
    texts = ["0.64 [-0.02, 0.70]", "50.0 % [-2.0, 70.0]", "+1.2 % [-2.0, +70.0]"]
    assert [format_interval(numbers, name) for name in ("kappa", "share", "bias")] == texts
