"""Measure how far annotators agree: `jaxgpt agreement prefs.jsonl`, as `jaxgpt review` writes it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from jaxgpt.commands.flags import parse, positional
from jaxgpt.console import plural, say
from jaxgpt.errors import UsageError
from jaxgpt.files import require_new, require_separate, require_writable, write_whole
from jaxgpt.json_file import replace_nonfinite
from jaxgpt.progress_bar import stage
from jaxgpt.reports.agreement import summarize
from jaxgpt.reports.agreement_page import describe_counts, format_interval, name_group, render_agreement
from jaxgpt.reports.judgments import read_judgments, with_undecided

MAX_PRINTED = 20  # lines of a statistic, and items in dispute; the page and the JSON have all


@dataclasses.dataclass(frozen=True)
class AgreementConfig:
    """Measure how far annotators agree, and which model they prefer: kappa, win rate, position bias, time, disputes.

    It reads what `jaxgpt review` writes, the ties and skips beside it included. Several files, such as one from each
    annotator, are read as one. All intervals are of 95 %.
    """

    files: Annotated[tuple[Path, ...], *positional("FILE")]
    """Files of judgments, a JSON object a line."""
    out: Path | None = None
    """Write a page with tables and plots to this new .html file. It has the prompts of items in dispute."""
    json: Path | None = None
    """Write all numbers to this new file. It has the prompts of items in dispute."""

    def __post_init__(self):
        if not self.files:
            raise UsageError("no FILE: name a file of judgments, such as the --out of jaxgpt review")
        if self.out and self.out.suffix != ".html":
            raise UsageError(f"--out {self.out}: give the page a name that ends in .html")


def main(argv: Sequence[str]) -> int:
    config = parse(AgreementConfig, argv, command="agreement")
    require_outputs(config)
    with stage("reading the judgments"):
        judgments = read_judgments(config.files)
    with stage("computing the statistics"):
        summary = summarize(judgments)
    print_summary(summary)
    if config.out:
        with stage("drawing the page"):
            page = render_agreement(summary, [str(path) for path in config.files])
        write_whole(config.out, page, new=True)
        say("saved", str(config.out))
    if config.json:
        write_whole(config.json, json.dumps(replace_nonfinite(summary), indent=1) + "\n", new=True)
        say("saved", str(config.json))
    return 0


def require_outputs(config: AgreementConfig) -> None:
    """Refuse files that can't be written, exist, or are read."""
    inputs = [("FILE", path) for path in with_undecided(config.files)]
    for flag, path in (("--out", config.out), ("--json", config.json)):
        if path:
            require_writable(flag, path)
            require_separate(flag, path, inputs)
            require_new(flag, path)
    if config.out and config.json and config.out.resolve() == config.json.resolve():
        raise UsageError(f"--out and --json are both {config.out}; give each a file of its own")


def print_summary(summary: dict[str, Any]) -> None:
    """The numbers, a line each, without any text of an item."""
    say("judged", describe_counts(summary["counts"]))
    for row in summary["kappa"][:MAX_PRINTED]:
        names, alike = " and ".join(row["annotators"]), f"{row['alike']:,} of {plural(row['items'], 'item')}"
        say("kappa", f"{format_interval(row, 'kappa')}: {names}, alike on {alike}")
    if len(summary["kappa"]) > 1:
        everyone = summary["fleiss"]
        items = plural(everyone["items"], "item")
        say("kappa", f"{format_interval(everyone, 'kappa')}: all {everyone['annotators']}, by Fleiss, on {items}")
    for row in summary["win_rate"][:MAX_PRINTED]:
        topic = "" if row["topic"] is None else f", topic {name_group(row['topic'])}"
        share = format_interval(row, "share")
        say("wins", f"{share}: {row['model']}{topic}, {row['wins']:,} of {row['decided']:,} decided")
    for row in summary["position"][:MAX_PRINTED]:
        name, first = name_group(row["annotator"]), f"{row['first']:,} of {row['decided']:,}"
        say("position", f"{format_interval(row, 'bias')}: {name}, chose the first answer {first} times")
    for row in summary["time"][:MAX_PRINTED]:
        if row["timed"]:
            say("time", f"{row['median_s']:,.1f} s for an item (median): {name_group(row['annotator'])}")
    if disputes := summary["disputes"]:
        names = [dispute["item"] for dispute in disputes if dispute["item"]][:MAX_PRINTED]
        more = ", ..." if len(disputes) > MAX_PRINTED else ""
        say("disputes", f"{plural(len(disputes), 'item')}" + f": {', '.join(names)}{more}" * bool(names))
