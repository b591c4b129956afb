"""Markdown of what others have written: a card's front matter, tables and lists, in which a text stays text."""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxgpt.console import escape

NOT_RECORDED = "not recorded"
FOLDERS = re.compile(r"(?<![\w.:/;&])/(?:[^\s/|,=]+/)+")  # of a path from the root
MARKUP = re.compile(r"[\\`*\[\]#|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # an underscore in a word is none


def escape_markdown(text: str) -> str:
    """Text in one line that is text in Markdown, whatever is in it: no markup, no HTML, no link."""
    return MARKUP.sub(r"\\\g<0>", html.escape(escape(text), quote=False)).replace("://", ":&sol;&sol;")


def join_parts(parts: Iterable[str]) -> str:
    """A card of its parts. A path from the root is shown by its last name alone: a card tells nothing of a machine."""
    return FOLDERS.sub("", "\n\n".join(parts) + "\n")


def render_front_matter(facts: Mapping[str, str | Sequence[str]]) -> str:
    """YAML between lines of ---, as the Hugging Face hub reads it; what is empty is left out.

    Each value is JSON, which YAML has as a part of it, so that no text in it ends its line.
    """
    lines = [f"{name}: {json.dumps(value)}" for name, value in facts.items() if value]
    return "\n".join(["---", *lines, "---"])


def render_section(level: int, title: str, *parts: str) -> str:
    """A heading, and what comes under it; "not recorded" if that is nothing."""
    return "\n\n".join(["#" * level + f" {title}", *(filter(None, parts) if any(parts) else [f"{NOT_RECORDED}."])])


def render_rows(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table whose cells are text; "" without rows."""
    lines = [f"| {' | '.join(escape_markdown(show_cell(cell)) for cell in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(header)} |", "|---" * len(header) + "|", *lines]) if lines else ""


def render_facts(facts: Mapping[str, Any]) -> str:
    """A table of names and values; None is "not recorded"."""
    return render_rows(("", ""), facts.items())


def render_list(facts: Mapping[str, Any]) -> str:
    """The same as a list, as the hub's own cards begin."""
    return "\n".join(f"- **{name}:** {escape_markdown(show_cell(value))}" for name, value in facts.items())


def show_cell(value: Any) -> str:
    """A value of JSON for a reader: six digits of a number, and what is empty as "not recorded"."""
    if value is None or value in ("", [], (), {}):
        return NOT_RECORDED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(show_cell, value))
    return value if isinstance(value, str) else json.dumps(value)
