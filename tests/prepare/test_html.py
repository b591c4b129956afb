"""The report: one file with all numbers, in which texts stay texts."""

import html
import html.parser
import xml.etree.ElementTree

import numpy as np
import pytest
import rich.table
import rich.text

from jaxgpt.console import escape
from jaxgpt.prepare.html import plot_bars, plot_lengths, render_inspection
from jaxgpt.prepare.statistics import SplitStatistics

NASTY = "</pre><script>alert(1)</script> & \"$x$\" 'y' \x1b[0m"
REPORT = {"steps": [{"name": "rep<b>", "dropped": {"$a$ & b": 1234}}], "pii": {"email": 0}}


def statistics_of(lengths, numbers):
    return SplitStatistics(99, np.array(lengths), np.array(numbers), np.zeros(3, int), np.array([0]))


def test_a_text_is_shown_as_text_and_nothing_is_fetched():
    table = rich.table.Table("column", title=rich.text.Text(NASTY))
    table.add_row(rich.text.Text(NASTY))
    statistics = {"train": statistics_of([1, 7, 3000], [5, 2, 1])}
    text = render_inspection(NASTY, [table], [(NASTY, True), ("plain", False)], statistics, REPORT)
    tags, content = [], []
    parser = html.parser.HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.handle_data = content.append
    parser.feed(text)
    assert "script" not in {tag for tag, _ in tags} and "b" in {tag for tag, _ in tags}  # that of the cut
    shown = NASTY.replace("\x1b", "\\x1b")
    assert sum(shown in each for each in content) == 5  # the title twice, the table's, a cell, a document
    assert "\x1b" not in text and "<p>None.</p>" in text  # no personal data
    fetched = [value for tag, each in tags for name, value in each.items() if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in fetched)
    assert "rep<b>: $a$ & b" in "".join(content) and "1,234" in "".join(content)
    assert text == render_inspection(
        NASTY, [table], [(NASTY, True), ("plain", False)], statistics, REPORT
    )  # the same bytes


def test_each_bar_and_bin_is_as_long_as_its_number():
    drawn = xml.etree.ElementTree.fromstring(plot_bars({"a": 10, "b": 40, "c": 0}))
    boxes = [each.find(".//{*}path").get("d") for each in drawn.iter() if each.get("id", "").startswith("patch_")]
    edges = [[float(number) for number in box.replace("z", "").split() if number not in "MLC"] for box in boxes]
    widths = {round(max(box[::2]) - min(box[::2]), 3) for box in edges}
    assert any(b == pytest.approx(4 * a, rel=1e-3) for a in widths for b in widths if a > 1)
    assert plot_lengths({"val": statistics_of([], [])}) == "" == plot_bars({"a": 0}) == plot_bars({})
    text = plot_lengths({"train": statistics_of([1, 500], [3, 10**6]), "val": statistics_of([2], [1])})
    assert "train" in text and "val" in text and text.startswith("<svg")


@pytest.mark.parametrize("name", ["$x^{$", "$$", "_private", "", "a\nb\x1b", "\ud800", "\\frac{", 5000 * "a"])
def test_a_name_is_no_mathematics(name):
    text = plot_lengths({name: statistics_of([1, 500], [3, 10**6])}) + plot_bars({name: 10**17, "b": 1})
    assert text.count(html.escape(escape(name)[:60], quote=False)) >= 2 and 61 * "a" not in text
