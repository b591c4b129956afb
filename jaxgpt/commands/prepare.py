"""Data preparation: `jaxgpt prepare INPUT... --out FOLDER` makes token shards of text."""

import codecs
import contextlib
import dataclasses
import importlib.util
import locale
import os
import shlex
import time
from collections.abc import Sequence
from typing import Annotated, Any

from jaxgpt import console, signals
from jaxgpt.commands.flags import HELP, parse, positional
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.errors import UsageError
from jaxgpt.prepare.config import PrepareConfig
from jaxgpt.prepare.forkserver import run_forkserver
from jaxgpt.progress_bar import stage

RESUME = b"stopped   run the same command again to resume\n"


@dataclasses.dataclass(frozen=True)
class PrepareFlags(PrepareConfig):
    """Make token shards of text: collect, clean, deduplicate, anonymize, tokenize, split.

    Run the same command again to resume. `jaxgpt train --data FOLDER` trains on the result.
    """

    inputs: Annotated[tuple[str, ...], *positional("INPUT")]

    def __post_init__(self):
        if not self.inputs:
            raise UsageError("not given: INPUT..." + HELP)
        super().__post_init__()


def main(argv: Sequence[str]) -> int:
    config = parse(PrepareFlags, argv, command="prepare")
    require_libraries()
    require_utf8()
    started = time.perf_counter()
    command = f"{console.program('prepare')} {shlex.join(argv)}"
    has_workers = config.executor == "local" and config.workers > 1
    with run_forkserver() if has_workers else contextlib.nullcontext():
        from jaxgpt.prepare import pipeline  # its libraries take half a second

        with signals.before_exit(lambda: os.write(1, RESUME)):
            report = pipeline.prepare(config, command, console.say, stage)
    if report is None:
        what = f"{config.out} is prepared already, from this input and with these flags"
        console.say("done", f"{what}; --fresh prepares it again")
    else:
        _print_report(config, report, time.perf_counter() - started)
    return 0


def require_libraries() -> None:
    for library in ("datatrove", "orjson", "zstandard", "ftfy", "phonenumbers", "stdnum", "kingfisher_sdk"):
        if importlib.util.find_spec(library) is None:
            raise UsageError(f"preparing data needs {library}: pip install -r requirements-data.txt")


def require_utf8() -> None:
    """Refuse a locale in which datatrove can't write its own logs."""
    encoding = locale.getpreferredencoding(False)  # UTF-8 in Python's UTF-8 mode
    if codecs.lookup(encoding).name != "utf-8":
        raise UsageError(f"preparing data needs UTF-8, and this locale is {encoding}; set PYTHONUTF8=1")


def _print_report(config: PrepareConfig, report: dict[str, Any], seconds: float) -> None:
    out, splits = config.out, report["splits"]
    dropped = {step["name"]: sum(step["dropped"].values()) for step in report["steps"]}
    losses = ", ".join(f"{name} {count:,}" for name, count in dropped.items() if count)
    mirrors = report.get("counterfactual", {})
    kept = report["kept"]["documents"] - report["canaries"] - mirrors.get("mirrored", 0)
    console.say("documents", f"{report['records']:,} found, {kept:,} kept")
    if losses:
        console.say("dropped", f"{losses}; {out}/dropped.jsonl says where and why")
    changed = ", ".join(f"{step['name']} {step['changed']:,}" for step in report["steps"] if step["changed"])
    if changed:
        console.say("changed", changed)
    if report["pii"]:
        console.say("personal", ", ".join(f"{kind} {count:,}" for kind, count in report["pii"].items()))
    if mirrors:
        documents = console.plural(mirrors["mirrored"], "document")
        none = f"not {mirrors['same']:,} without such a word, nor {mirrors['validation']:,} of validation"
        none += f", nor {mirrors['leaks']:,} with leaks" * bool(mirrors["leaks"])
        console.say("mirrored", f"{documents}, with {mirrors['words']:,} words swapped; {none}")
    if report["canaries"]:
        console.say(
            "canaries", f"{console.plural(report['canaries'], 'document')} planted, listed in {out}/canaries.json"
        )
    for split, count in splits.items():
        tokens, documents = console.plural(count["tokens"], "token"), console.plural(count["documents"], "document")
        console.say(split, f"{tokens} of {documents}, {console.plural(len(count['shards']), 'shard')}")
    console.say("took", f"{seconds:,.1f} s")
    console.say("look", f"{console.program('inspect')} {shlex.quote(str(out))}")
    val_flag = f" --val {shlex.quote(str(out))}" if splits["val"]["tokens"] else ""
    tokenizer = config.tokenizer if config.tokenizer in ("bytes", "chars") else shlex.quote(str(out))
    tokenizer_flag = f" --tokenizer {tokenizer}" * (config.tokenizer != PrepareConfig.tokenizer)
    is_encoders = config.tokenizer != "chars" and open_tokenizer(config.tokenizer).name == "wordpiece"
    flags = " --arch bert" * is_encoders + val_flag + tokenizer_flag
    console.say("train", f"{console.program('train')} --data {shlex.quote(str(out))}{flags}")
