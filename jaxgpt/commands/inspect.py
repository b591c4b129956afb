"""Look at a prepared folder, `jaxgpt inspect data/mine`: what is in it, what was dropped and why, some documents."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rich.console
import rich.table
import rich.text

from jaxgpt.commands.flags import parse, place
from jaxgpt.data import shards
from jaxgpt.data.tokenizer import gpt2
from jaxgpt.errors import DataError, UsageError, require
from jaxgpt.prepare.html import render_report, require_matplotlib
from jaxgpt.prepare.statistics import SplitStatistics, compute_statistics, escape_unprintable, excerpt
from jaxgpt.runs.folder import require_writable

REPORT, DROPPED, PAGE = "report.json", "dropped.jsonl", "report.html"
FREQUENT, DOCUMENTS = 20, 5  # how many tokens and documents are shown
EXAMPLES = 100_000  # records of dropped.jsonl in which one of each reason is looked for
QUANTILES = {"shortest": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "99 %": 0.99}


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """Show what is in a prepared folder: counts, lengths, frequent tokens, what was dropped and why, some documents."""

    folder: Annotated[Path, *place("FOLDER")]
    """A folder that `jaxgpt prepare` made."""
    html: Path | None = None
    """Where all of it is written as a page with plots; by default report.html in the folder."""
    seed: int = 0
    """Of the draw of documents."""

    def __post_init__(self):
        require(0 <= self.seed < 2**31, "seed", self.seed, "from 0 to 2**31 - 1")


def main(argv: Sequence[str]) -> int:
    config = parse(InspectConfig, argv, command="inspect")
    show(config.folder, config.html, config.seed)
    return 0


def show(folder: Path, html: Path | None = None, seed: int = 0) -> None:
    """Print what a prepared folder holds, and write it as a page with plots too.

    Args:
      html: the page; by default report.html in the folder.
      seed: of the draw of documents.

    Raises:
      DataError: it is no prepared folder, or one that is corrupt.
      UsageError: matplotlib is missing, or the page can't be written.
    """
    meta, report = read_meta(folder), read_report(folder)
    html = html or folder / PAGE
    if html.suffix != ".html":  # such as one of the folder's own files
        raise UsageError(f"--html {html}: give the page a name that ends in .html")
    require_matplotlib()
    require_writable("--html", html)
    tables, statistics = [splits_table(folder, meta)], {}
    for name, split in meta["splits"].items():
        if split["tokens"]:
            tokens = shards.open_split(folder, name)
            statistics[name] = compute_statistics(tokens, str(folder), DOCUMENTS if name == "train" else 0, seed)
    tables.append(lengths_table(statistics))
    documents = []
    if "train" in statistics:
        tables.append(frequent_table(statistics["train"]))
        tokens = shards.open_split(folder, "train")
        documents = [excerpt(tokens, start) for start in statistics["train"].sample_starts.tolist()]
    tables += [records_table(report), steps_table(report, examples(folder / DROPPED)), kinds_table(report)]

    paper = rich.console.Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        paper.print(table)
    paper.print(f"{len(documents)} documents of train, drawn with seed {seed}:")
    for text, cut in documents:
        paper.rule()
        paper.print(rich.text.Text(escape_unprintable(text) + (" [...]" if cut else "")))
    html.write_text(render_report(str(folder), tables, documents, statistics, report), encoding="utf-8")
    paper.print(f"saved     {html}", markup=False, highlight=False)


def read_meta(folder: Path) -> dict[str, Any]:
    """The meta.json of a prepared folder, with what is shown of each split.

    Raises:
      DataError: there is none, or it is corrupt.
    """
    meta = shards.read_meta(folder)
    for name, split in meta["splits"].items():
        numbers = [split.get(key) for key in ("documents", "tokens", "text_bytes")] if isinstance(split, dict) else [""]
        if not all(type(number) is int for number in numbers) or not isinstance(split.get("shards"), list):
            raise DataError(
                f"{folder / shards.META}: corrupt: it does not say what split {name!r} has; {shards.PREPARE_AGAIN}"
            )
    return meta


def read_report(folder: Path) -> dict[str, Any]:
    """The report.json of a prepared folder.

    Raises:
      DataError: there is none, or it is corrupt.
    """
    path = folder / REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        whole = all(type(report[name]) is int for name in ("records", "broken", "bytes", "canaries"))
        whole &= all(type(report["kept"][name]) is int for name in ("documents", "tokens"))
        whole &= all(type(number) is int for number in report["pii"].values())
        for step in report["steps"]:
            whole &= type(step["name"]) is str and type(step["changed"]) is int
            whole &= all(type(number) is int for number in step["dropped"].values())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {shards.PREPARE_AGAIN}") from None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DataError(
            f"{path}: corrupt: it does not say what was read, changed, dropped and kept; {shards.PREPARE_AGAIN}"
        )
    return report


def examples(path: Path) -> dict[tuple[str, str], str]:
    """Of each step and reason, where the first record stands that was dropped for it."""
    found: dict[tuple[str, str], str] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line, _ in zip(file, range(EXAMPLES), strict=False):
                record = json.loads(line)
                found.setdefault((record["step"], record["reason"]), f"{record['file']}, line {record['line']}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: can't be read ({error!r:.80}); {shards.PREPARE_AGAIN}") from None
    return found


# ---- Tables: each has a title, and the page shows the same ---------------------------------------------------------


def table(title: str, *columns: str) -> rich.table.Table:
    """An empty one; numbers stand in all columns but the first."""
    drawn = rich.table.Table(title=rich.text.Text(title), title_justify="left")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="right" if i else "left", overflow="fold")
    return drawn


def add(drawn: rich.table.Table, *cells: str | int) -> None:
    """A row; texts are taken as they are, without rich's markup."""
    texts = (f"{cell:,}" if isinstance(cell, int) else escape_unprintable(cell) for cell in cells)
    drawn.add_row(*map(rich.text.Text, texts))


def splits_table(folder: Path, meta: dict[str, Any]) -> rich.table.Table:
    drawn = table(str(folder), "split", "documents", "tokens", "bytes of text", "bytes / token", "shards")
    for name, split in meta["splits"].items():
        tokens, size = split["tokens"], split["text_bytes"]
        ratio = f"{size / tokens:.2f}" if tokens else "-"
        add(drawn, name, split["documents"], tokens, size, ratio, len(split["shards"]))
    return drawn


def lengths_table(statistics: dict[str, SplitStatistics]) -> rich.table.Table:
    drawn = table("tokens of a document, with its <|endoftext|>", "split", *QUANTILES, "longest", "mean", "looked at")
    for name, found in statistics.items():
        if len(found.lengths):
            row = [found.quantile(q) for q in QUANTILES.values()]
            add(drawn, name, *row, int(found.lengths[-1]), f"{found.mean():,.1f}", f"{found.num_tokens:,} tokens")
    return drawn


def frequent_table(found: SplitStatistics) -> rich.table.Table:
    drawn = table("the most frequent tokens of train", "token", "id", "times", "share")
    for token in np.argsort(-found.token_counts, kind="stable")[:FREQUENT].tolist():
        if number := int(found.token_counts[token]):
            text = gpt2().decode_single_token_bytes(token).decode("utf-8", errors="backslashreplace")
            add(drawn, repr(text), token, number, f"{number / found.num_tokens:.2%}")
    return drawn


def records_table(report: dict[str, Any]) -> rich.table.Table:
    drawn = table("records", "", "number")
    dropped = sum(sum(step["dropped"].values()) for step in report["steps"])
    add(drawn, "read", report["records"])
    add(drawn, "broken, not read", report["broken"])
    add(drawn, "dropped", dropped)
    add(drawn, "kept, with copies of canaries", report["kept"]["documents"])
    add(drawn, "canaries", report["canaries"])
    return drawn


def steps_table(report: dict[str, Any], where: dict[tuple[str, str], str]) -> rich.table.Table:
    drawn = table("what each step did", "step", "changed", "dropped", "reason", "the first one dropped")
    for step in report["steps"]:
        name, reasons = step["name"], step["dropped"]
        add(drawn, name, step["changed"], sum(reasons.values()), "", "")
        for reason, number in reasons.items():
            add(drawn, "", "", number, reason, where.get((name, reason), ""))
    return drawn


def kinds_table(report: dict[str, Any]) -> rich.table.Table:
    drawn = table("personal data", "kind", "number")
    for kind, number in report["pii"].items():
        add(drawn, kind, number)
    return drawn
