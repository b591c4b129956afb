"""Forget documents: `jaxgpt erase data/mine --pattern REGEX`, what has read them, and how runs resume without them."""

import dataclasses
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxgpt.commands.erase.config import EraseConfig
from jaxgpt.commands.erase.delete import cached_copies, delete_export, require_idle, rewind
from jaxgpt.commands.erase.listing import count_tokens, list_documents, list_paths, list_readers
from jaxgpt.commands.erase.readers import Reader, examine, find_links, spread
from jaxgpt.commands.erase.runs import RunFacts, describe, find, reads_file
from jaxgpt.commands.flags import parse
from jaxgpt.console import note, program, say
from jaxgpt.data import erasure, shards
from jaxgpt.data.document_search import Found, search
from jaxgpt.data.redaction import merge, subtract
from jaxgpt.data.shards import Tokens
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, DataError, UsageError
from jaxgpt.files import owner_only, report_write_errors
from jaxgpt.locks import hold, hold_to_read
from jaxgpt.runs.folder import LINEAGE
from jaxgpt.training.resume import resume_command

PAGE = "report.html"  # of `jaxgpt inspect`, which quotes documents


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be erased, and what has read it.

    Attributes:
      found: the documents that were asked for.
      new: the ranges of their tokens that are still there, by split.
      num_runs: how many runs were looked at.
      readers: the runs that read the folder, or began with weights that had; in the order in which they train again.
      exports: those that have read it.
      links: those to runs that have read it, such as `promoted`.
      unknown_exports: those of which it is not known.
      cached: files of the cache that have the tokens.
    """

    found: list[Found]
    new: dict[str, np.ndarray]
    num_runs: int
    readers: list[Reader]
    exports: list[Path]
    links: list[Path]
    unknown_exports: list[Path]
    cached: list[Path]

    @property
    def tainted(self) -> list[Reader]:
        return [reader for reader in self.readers if reader.first is not None]


def main(argv: Sequence[str]) -> int:
    flags = parse(EraseConfig, argv, command="erase")
    require_folder(flags)
    texts = {str(file): read_text(file) for file in flags.file}
    writes = flags.apply or flags.delete
    shards.read_meta(flags.folder)  # or nothing is held there
    with owner_only(flags.folder), hold(flags.folder) if writes else hold_to_read(flags.folder):
        tokenizer = shards.read_tokenizer(flags.folder)
        complete(flags, tokenizer)
        plan = make_plan(flags, tokenizer, texts)
        show(flags, plan)
        if flags.apply or flags.delete:
            require_idle(plan.readers)
            carry_out(flags, plan, tokenizer)
    return 0


def require_folder(flags: EraseConfig) -> None:
    """Refuse a text or a file of examples, and name the runs that read it."""
    if os.path.isdir(flags.folder):
        return
    if not os.path.exists(flags.folder):
        raise DataError(f"{flags.folder}: no such folder; name one that {program('prepare')} made")
    readers = [str(run) for run in find(flags.runs)[0] if reads_file(run, flags.folder)]
    who = f"runs that read it: {', '.join(readers)}" if readers else "no run that was found reads it"
    prepare = f"{program('prepare')} {shlex.quote(str(flags.folder))} --out data/NAME"
    raise UsageError(
        f"{flags.folder}: a file, in which nothing can go without moving the rest; take it out there, and train again "
        f"with --fresh ({who}); documents can be erased from a text that was prepared: {prepare}"
    )


def read_text(file: Path) -> str:
    """The text of --file; DataError: it can't be read."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"--file {file}: not UTF-8; convert it first, for example: iconv -t utf-8") from None
    except (OSError, ValueError) as error:
        raise DataError(f"--file {file}: {getattr(error, 'strerror', None) or error}; name a text") from None


def complete(flags: EraseConfig, tokenizer: Tokenizer) -> None:
    """Do what is left of an erasure that was interrupted; DataError: there is some, and --apply is not given."""
    if ranges := erasure.pending(flags.folder):
        if not flags.apply:
            again = f"{program('erase')} {shlex.quote(str(flags.folder))} --apply"
            raise DataError(f"{flags.folder}: an erasure was interrupted; complete it first: {again}")
        overwrite(flags.folder, tokenizer)
        say("erased", f"{count_tokens(ranges)} of {flags.folder}, which completes an erasure that was interrupted")


def make_plan(flags: EraseConfig, tokenizer: Tokenizer, texts: Mapping[str, str]) -> Plan:
    """Find the documents, and what has read them or those that were erased before; nothing is changed."""
    folder, splits = flags.folder, open_splits(flags.folder, tokenizer)
    found = []
    if flags.doc or flags.pattern is not None or texts:
        found = search(splits, tokenizer, flags.doc, flags.regex, texts, flags.similar, flags.spans)
    elif not any(len(tokens.erased) for tokens in splits.values()):
        raise UsageError(f"{folder}: say what to erase, with --doc, --pattern or --file; nothing was erased before")
    new = {split: merge(pair for each in found if each.split == split for pair in each.ranges) for split in splits}
    new = {split: subtract(ranges, splits[split].erased) for split, ranges in new.items()}
    new = {split: ranges for split, ranges in new.items() if len(ranges)}
    if new and flags.delete and not flags.apply:
        raise UsageError("--delete without --apply: the runs would read these documents again; add --apply")
    places, exports = find(flags.runs)
    runs = [run for run in map(describe_or_skip, places) if run]
    readers = [reader for run in runs if (reader := examine(run, folder, splits, new))]
    readers, exports, unknown = spread(readers, runs, exports)
    readers.sort(key=lambda each: (each.generation, str(each.run.folder)))
    links = find_links(flags.runs, readers)
    return Plan(found, new, len(runs), readers, exports, links, unknown, cached_copies(splits, new, tokenizer))


def open_splits(folder: Path, tokenizer: Tokenizer) -> dict[str, Tokens]:
    """The splits of a folder that have tokens."""
    meta = shards.read_meta(folder)
    names = [name for name in meta["splits"] if shards.shard_entries(folder, meta, name, empty=True)]
    return {name: shards.open_split(folder, name, tokenizer) for name in names}


def describe_or_skip(run: Path) -> RunFacts | None:
    try:
        return describe(run)
    except CheckpointError as error:
        note(f"{error}; this run is skipped")
        return None


def show(flags: EraseConfig, plan: Plan) -> None:
    """Print a plan."""
    if flags.doc or flags.pattern is not None or flags.file:
        list_documents(plan.found, plan.new, flags.folder)
    list_readers(plan.readers, plan.num_runs, flags.runs)
    list_paths("export", plan.exports, "has read it")
    list_paths("link", plan.links, "leads to a run that has read it")
    list_paths("cache", plan.cached, "has these tokens")
    list_paths("unknown", plan.unknown_exports, "weights that don't say what they have read; see yourself")
    if not flags.apply and not flags.delete and (plan.new or plan.tainted or plan.exports):
        goal = "--apply --delete erases the tokens, and deletes" if plan.new else "--delete deletes"
        say("next", f"the same command with {goal} what has read them")


def carry_out(flags: EraseConfig, plan: Plan, tokenizer: Tokenizer) -> None:
    """Erase and delete; after a kill at any moment the same command does the rest."""
    folder, tainted = flags.folder, plan.tainted
    if flags.delete:  # first: later nobody knows what to look for
        for path in plan.cached:
            path.unlink(missing_ok=True)
    if plan.new:
        whole = {split: sum(each.is_whole for each in plan.found if each.split == split) for split in plan.new}
        erasure.begin(folder, plan.new, whole, tokenizer)
        overwrite(folder, tokenizer)
        say("erased", f"{count_tokens(plan.new)} of {folder}: end tokens, which nothing learns, are in their places")
        note(f"the input of {folder} still has it: take it out there too, or `prepare --fresh` brings it back")
    if not flags.delete:
        return
    for link in plan.links:
        with report_write_errors(link.parent):
            link.unlink(missing_ok=True)
    for export in plan.exports:
        delete_export(export)
    updates = [reader.run.folder for reader in tainted if (reader.run.folder / LINEAGE).exists()]
    for reader in reversed(plan.readers):  # from the last heir on: its parent tells that it has read it
        if reader.tainted:
            rewind(reader)
    if tainted or plan.exports or plan.cached:
        say("deleted", "what has read it")
    for reader in tainted:
        say("resume", resume_command(reader.run.config))
    for run in updates:
        note(f"{run}: `{program('update')}` made it: the command that did resumes it, and measures and judges it anew")


def overwrite(folder: Path, tokenizer: Tokenizer) -> None:
    """Do what `erasure.begin` has written down, after all else in the folder that may quote a document is deleted."""
    (folder / PAGE).unlink(missing_ok=True)
    for path in folder.glob(".*.tmp"):  # what a kill has left
        path.unlink(missing_ok=True)
    if (folder / "work" / "workers").exists():  # texts that a killed `prepare` could not delete
        shutil.rmtree(folder / "work")
    erasure.complete(folder, tokenizer)
