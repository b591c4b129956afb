"""What `jaxgpt erase` prints: documents by their numbers, runs and files by their names, and never a text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxgpt.commands.erase.readers import Reader
from jaxgpt.console import plural, say
from jaxgpt.data.document_search import Found

SHOWN = 20  # documents, and paths of a kind, that are listed


def count_tokens(ranges: Mapping[str, np.ndarray]) -> str:
    """How many tokens some ranges of splits are, in words."""
    counts = {split: int((pairs[:, 1] - pairs[:, 0]).sum()) for split, pairs in ranges.items()}
    return " and ".join(f"{plural(count, 'token')} of {split}" for split, count in counts.items())


def list_documents(found: Sequence[Found], new: Mapping[str, np.ndarray], folder: Path) -> None:
    """Print the documents that were found, and how many tokens of them are still there."""
    if not found:
        say("documents", f"none in {folder}")
        return
    amount = f", {count_tokens(new)}" if new else ", all erased already"
    say("documents", f"{plural(len(found), 'document')} in {folder}{amount}")
    for each in found[:SHOWN]:
        say("", f"{each}: tokens {each.first:,} to {each.end:,}, {each.why}")
    if len(found) > SHOWN:
        say("", f"and {len(found) - SHOWN:,} more")


def list_readers(readers: Sequence[Reader], count: int, roots: Sequence[Path]) -> None:
    """Print what the runs have read of it, and how many steps are to be trained again.

    Args:
      count: the runs that were looked at.
      roots: where.
    """
    where = ", ".join(map(str, roots))
    tainted = [reader for reader in readers if reader.first is not None]
    unknown = [reader for reader in readers if reader.unknown]
    if not tainted and not unknown:
        say("runs", f"none under {where} has read it; {plural(count, 'run')} looked at")
    for reader in readers:
        run, why = reader.run, f"; {reader.why}" * bool(reader.why)
        if reader.unknown:
            say("unknown", f"{run.folder}: {reader.unknown}; see yourself, or train it again with --fresh")
        elif reader.first is None:
            clean = "reads the folder, and has not read it"
            say("run", f"{run.folder}: {clean}{why}")
        else:
            rest = f"resumes from checkpoint {reader.clean:,}" if reader.clean else "starts over"
            again = f"{plural(run.steps - reader.clean, 'step')} of {run.steps:,} to train again"
            say("run", f"{run.folder}: has read it from step {reader.first:,} on{why}; {rest}, {again}")
            list_paths("tainted", reader.tainted)
    if tainted:
        done = sum(reader.run.steps for reader in tainted)
        again = done - sum(reader.clean for reader in tainted)
        say("cost", f"{again:,} of {done:,} steps to train again, {again / max(done, 1):.0%}")


def list_paths(label: str, paths: Sequence[Path], what: str = "") -> None:
    """Print a line for each path."""
    for path in paths[:SHOWN]:
        say(label, f"{path}: {what}" if what else f"{path}")
    if len(paths) > SHOWN:
        say(label, f"and {len(paths) - SHOWN:,} more")
