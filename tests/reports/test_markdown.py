"""What is rendered, read again: by YAML's own parser, and by one of Markdown's rules at a time."""

import html
import re

import pytest

from jaxgpt.reports.markdown import (
    escape_markdown,
    render_facts,
    render_front_matter,
    render_rows,
    render_section,
    show_cell,
)

HOSTILE = [
    "a|b",
    "*bold*",
    "_it_",
    "`code`",
    "[a](http://b.c)",
    "<script>alert(1)</script>",
    "# title",
    "a\nb",
    "\x1b[2J",
]
HOSTILE += ["---", "a: b", '"', "'", "\\|", "&amp;", "~~gone~~", "$x$", "é\u202e", "![a](b)", "http://evil.example"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_text(text):
    shown = escape_markdown(text)
    assert "\n" not in shown and "\x1b" not in shown and "<" not in shown and "://" not in shown
    bare = re.sub(r"\\[\\`*_\[\]#|~$]", "", shown)  # what is escaped, left out
    assert not re.search(r"[`*\[\]#|~$]|(?<![A-Za-z0-9])_", bare)
    printable = text.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert html.unescape(re.sub(r"\\([\\`*_\[\]#|~$])", r"\1", shown)) == printable


def test_names_with_underscores_are_readable():
    assert escape_markdown("weight_decay 1_000") == "weight_decay 1_000"


def test_front_matter_is_yaml_whatever_is_in_it():
    yaml = pytest.importorskip("yaml")
    facts = {f"key{i}": text for i, text in enumerate(HOSTILE)} | {"tags": HOSTILE, "license": None, "datasets": []}
    first, *lines, last = render_front_matter(facts).splitlines()
    assert first == last == "---"
    assert yaml.safe_load("\n".join(lines)) == {name: value for name, value in facts.items() if value}


def test_a_table_has_a_cell_for_each_value():
    table = render_rows(("a", "b"), [["x|y", 1234], [None, ["p", "q"]]])
    assert table.splitlines() == ["| a | b |", "|---|---|", "| x\\|y | 1,234 |", "| not recorded | p, q |"]
    assert render_rows(("a", "b"), []) == "" and render_facts({}) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12345, "12,345"), (0.2, "0.2"), (10.679566821793701, "10.6796"), (1e-8, "1e-08"), (False, "no")]
    + [(value, "not recorded") for value in (None, "", [], {})],
)
def test_a_cell(value, shown):
    assert show_cell(value) == shown


def test_a_section_without_content_says_so():
    assert render_section(2, "A", "", "b") == "## A\n\nb"
    assert render_section(3, "A") == render_section(3, "A", "") == "### A\n\nnot recorded."
