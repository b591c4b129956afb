"""Look at a prepared folder, `jaxgpt inspect data/mine`: what is in it, and what was dropped and why."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rich.console
import rich.table
import rich.text

from jaxgpt.commands.flags import parse, positional
from jaxgpt.console import escape, plural, say
from jaxgpt.data import shards
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, DataError, UsageError, require
from jaxgpt.files import owner_only, require_new, require_separate, require_writable, write_whole
from jaxgpt.json_file import parse_json, read_json, try_read_json
from jaxgpt.prepare.html import render_inspection
from jaxgpt.prepare.statistics import PIECE, PIECES, SplitStatistics, compute_statistics, count_document, excerpt
from jaxgpt.progress_bar import stage
from jaxgpt.reports.cards import render_data_card, require_licence
from jaxgpt.reports.lineage_tree import format_lineage
from jaxgpt.runs.folder import describe_missing

REPORT, DROPPED, PAGE = "report.json", "dropped.jsonl", "report.html"
FREQUENT, DOCUMENTS = 20, 5  # numbers of tokens and documents shown
EXAMPLES = 100_000  # records of dropped.jsonl in which one of each reason is looked for
TITLE_WIDTH = 60  # up to which a table is as wide as its title
MAX_BARS = 1000  # of a plot: many more than there are reasons to drop a document
QUANTILES = {"shortest": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "99 %": 0.99}


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """Show what is in a prepared folder: counts, lengths, frequent tokens, what was dropped and why.

    Nothing of the texts is shown without --show-text. With --lineage, show where a run comes from.
    """

    folder: Annotated[Path, *positional("FOLDER")]
    """A folder that `jaxgpt prepare` made; with --lineage a run."""
    lineage: bool = False
    """Show the runs that a run comes from, the data of each, and what the gates of `jaxgpt update` have found."""
    html: Path | None = None
    """Write the same as a page with plots to this new file; by default report.html in the folder, each time anew."""
    seed: int = 0
    """Random seed of the documents shown."""
    show_text: bool = False
    """Show text too: the beginnings of some documents, and what the most frequent tokens stand for."""
    card: bool = False
    """Print a data card instead: what the folder records of its sources, cleaning, personal data and splits."""
    license: str | None = None
    """The licence of the data for the card, by its name on the Hugging Face hub, such as cc-by-4.0 or other."""

    def __post_init__(self):
        require(0 <= self.seed < 2**31, "seed", self.seed, "from 0 to 2**31 - 1")
        if self.card and (self.html or self.show_text):
            raise UsageError("--card is text without documents; leave out --html and --show-text")
        if self.license is not None and not self.card:
            raise UsageError("--license needs --card, which has it")
        require_licence(self.license)
        if self.lineage and (self.html or self.card or self.show_text):
            raise UsageError(
                "--lineage shows a run, and --html, --card and --show-text a prepared folder; leave one out"
            )


def main(argv: Sequence[str]) -> int:
    config = parse(InspectConfig, argv, command="inspect")
    if config.lineage:
        require_run(config.folder)
        print(*map(escape, format_lineage(config.folder)), sep="\n")
        return 0
    if config.card:
        meta, report = read_meta(config.folder), read_report(config.folder)
        print(render_data_card(config.folder, meta, report, config.license), end="")
        return 0
    inspect_folder(config.folder, config.html, config.seed, config.show_text)
    return 0


def require_run(folder: Path) -> None:
    """Refuse what is no run's folder."""
    config = try_read_json(folder / "config.json")
    if not isinstance(config, dict) or describe_missing(config):
        raise CheckpointError(f"{folder}: not a run that has begun; --lineage takes a run folder")


def inspect_folder(folder: Path, html: Path | None = None, seed: int = 0, show_text: bool = False) -> None:
    """Print what a prepared folder holds, and write it as a page with plots too.

    Args:
      html: the page; by default report.html in the folder.
      seed: chooses the documents.
      show_text: whether anything of the texts is shown.

    Raises:
      DataError: it is no prepared folder, or one that is corrupt.
      UsageError: the page can't be written.
    """
    meta, report = read_meta(folder), read_report(folder)
    tokenizer = shards.read_tokenizer(folder)
    named, html = html, html or folder / PAGE
    if html.suffix != ".html":  # such as one of the folder's own files
        raise UsageError(f"--html {html}: give the page a name that ends in .html")
    require_writable("--html", html)
    require_separate("--html", html, [("FOLDER", folder)], rewrites=lambda file: file.suffix == ".html")
    if named:
        require_new("--html", named)
    tables, statistics = [splits_table(folder, meta)], {}
    for name, split in meta["splits"].items():
        if split["tokens"]:
            tokens = shards.open_split(folder, name, tokenizer)
            drawn = DOCUMENTS if name == "train" else 0
            with stage(f"tokens of {name}", min(len(tokens), PIECES * PIECE)) as advance:
                statistics[name] = compute_statistics(
                    tokens, str(folder), drawn, seed, on_progress=advance, tokenizer=tokenizer
                )
    tables.append(lengths_table(statistics))
    documents = []
    if "train" in statistics:
        tables.append(frequent_table(statistics["train"], tokenizer if show_text else None))
        tokens = shards.open_split(folder, "train", tokenizer)
        starts = statistics["train"].sample_starts.tolist()
        tables.append(documents_table(seed, {start: count_document(tokens, start, tokenizer) for start in starts}))
        documents = [excerpt(tokens, start, tokenizer=tokenizer) for start in starts] if show_text else []
    tables += [records_table(report), steps_table(report, find_examples(folder / DROPPED)), kinds_table(report)]

    terminal = rich.console.Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        terminal.print(table)
    for text, cut in documents:
        terminal.rule()
        terminal.print(rich.text.Text(escape(text, keep="\n") + (" [...]" if cut else "")))
    with owner_only(None if named else folder), stage("drawing the page"):
        write_whole(html, render_inspection(str(folder), tables, documents, statistics, report))
    say("saved", str(html))


def read_meta(folder: Path) -> dict[str, Any]:
    """The meta.json of a prepared folder, checked for what is shown.

    Raises:
      DataError: there is none, or it is corrupt.
    """
    meta = shards.read_meta(folder)
    for name, split in meta["splits"].items():
        numbers = [split.get(key) for key in ("documents", "tokens", "text_bytes")] if isinstance(split, dict) else [""]
        if not all(map(_is_count, numbers)) or not isinstance(split.get("shards"), list):
            raise DataError(f"{folder / shards.META}: corrupt: incomplete for split {name!r}; {shards.PREPARE_AGAIN}")
    return meta


def read_report(folder: Path) -> dict[str, Any]:
    """The report.json of a prepared folder.

    Raises:
      DataError: there is none, or it is corrupt.
    """
    path = folder / REPORT
    try:
        report = read_json(path)
        counts = [report[name] for name in ("records", "broken", "bytes", "canaries")]
        counts += [report["kept"][name] for name in ("documents", "tokens")]
        counts += [*report.get("counterfactual", {}).values(), *report["pii"].values()]
        counts += [step["changed"] for step in report["steps"]]
        reasons = [number for step in report["steps"] for number in step["dropped"].values()]
        is_valid = all(map(_is_count, counts + reasons)) and all(type(step["name"]) is str for step in report["steps"])
        is_valid = is_valid and max(len(reasons), len(report["pii"])) <= MAX_BARS
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {shards.PREPARE_AGAIN}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise DataError(f"{path}: corrupt: incomplete; {shards.PREPARE_AGAIN}")
    return report


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def find_examples(path: Path) -> dict[tuple[str, str], str]:
    """The location of the first record that was dropped, for each step and reason."""
    locations: dict[tuple[str, str], str] = {}
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError("no regular file")
        with path.open("rb") as file:
            for line, _ in zip(file, range(EXAMPLES), strict=False):
                record = parse_json(line)
                locations.setdefault((record["step"], record["reason"]), f"{record['file']}, line {record['line']}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: can't be read ({error!r:.80}); {shards.PREPARE_AGAIN}") from None
    return locations


# ---- Tables: each has a title, and the page shows the same ---------------------------------------------------------


def new_table(title: str, *columns: str) -> rich.table.Table:
    """An empty table; all columns but the first have numbers."""
    text = rich.text.Text(escape(title))
    table = rich.table.Table(title=text, title_justify="left", min_width=min(len(text), TITLE_WIDTH))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    return table


def add_row(table: rich.table.Table, *cells: str | int) -> None:
    """Add a row; texts are taken literally, without rich's markup."""
    texts = (f"{cell:,}" if isinstance(cell, int) else escape(cell) for cell in cells)
    table.add_row(*map(rich.text.Text, texts))


def splits_table(folder: Path, meta: dict[str, Any]) -> rich.table.Table:
    table = new_table(str(folder), "split", "documents", "tokens", "bytes of text", "bytes / token", "shards")
    for name, split in meta["splits"].items():
        tokens, size = split["tokens"], split["text_bytes"]
        ratio = f"{size / tokens:.2f}" if tokens else "-"
        add_row(table, name, split["documents"], tokens, size, ratio, len(split["shards"]))
    return table


def lengths_table(statistics: dict[str, SplitStatistics]) -> rich.table.Table:
    table = new_table(
        "tokens of a document, with the one that ends it", "split", *QUANTILES, "longest", "mean", "looked at"
    )
    for name, split in statistics.items():
        if len(split.lengths):
            row = [split.quantile(q) for q in QUANTILES.values()]
            add_row(table, name, *row, int(split.lengths[-1]), f"{split.mean():,.1f}", f"{split.num_tokens:,} tokens")
    return table


def frequent_table(split: SplitStatistics, tokenizer: Tokenizer | None) -> rich.table.Table:
    """With a tokenizer, what they stand for as well."""
    table = new_table("the most frequent tokens of train", *["token"] * (tokenizer is not None), "id", "times", "share")
    for token in np.argsort(-split.token_counts, kind="stable")[:FREQUENT].tolist():
        if number := int(split.token_counts[token]):
            text = [repr(tokenizer.escape_token(token))] if tokenizer else []
            add_row(table, *text, token, number, f"{number / split.num_tokens:.2%}")
    return table


def documents_table(seed: int, lengths: dict[int, int]) -> rich.table.Table:
    """Some documents: the token of the split at which each begins, and its number of tokens."""
    table = new_table(
        f"{plural(len(lengths), 'document')} of train, drawn with seed {seed}", "begins at token", "tokens"
    )
    for start, length in lengths.items():
        add_row(table, f"{start:,}", length)
    return table


def records_table(report: dict[str, Any]) -> rich.table.Table:
    table = new_table("records", "", "number")
    dropped = sum(sum(step["dropped"].values()) for step in report["steps"])
    add_row(table, "read", report["records"])
    add_row(table, "broken, not read", report["broken"])
    add_row(table, "dropped", dropped)
    add_row(table, "kept, with canaries and mirror images", report["kept"]["documents"])
    add_row(table, "canaries", report["canaries"])
    add_row(table, "mirror images", report.get("counterfactual", {}).get("mirrored", 0))
    return table


def steps_table(report: dict[str, Any], where: dict[tuple[str, str], str]) -> rich.table.Table:
    table = new_table("what each step did", "step", "changed", "dropped", "reason", "the first one dropped")
    for step in report["steps"]:
        name, reasons = step["name"], step["dropped"]
        add_row(table, name, step["changed"], sum(reasons.values()), "", "")
        for reason, number in reasons.items():
            add_row(table, "", "", number, reason, where.get((name, reason), ""))
    return table


def kinds_table(report: dict[str, Any]) -> rich.table.Table:
    table = new_table("personal data", "kind", "number")
    for kind, number in report["pii"].items():
        add_row(table, kind, number)
    return table
