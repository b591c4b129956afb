"""A prepared folder while it is made: whether it is ours, whether all is done, and what a new start deletes."""

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from jaxgpt.data import shards
from jaxgpt.data.open_tokenizer import NAMES as TOKENIZERS
from jaxgpt.data.plain_tokenizers import CODE_POINTS
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.data.word_swaps import DEFAULT, read_word_swaps
from jaxgpt.errors import UsageError
from jaxgpt.files import require_folder, require_no_links, require_separate, sync
from jaxgpt.json_file import read_json, try_read_json
from jaxgpt.prepare import work_dir
from jaxgpt.prepare.config import PrepareConfig
from jaxgpt.prepare.sources import is_stream

# Flags that do not change the result may change between two starts.
MAY_CHANGE_ON_RESUME = ("workers", "executor", "sbatch", "fresh", "work_dir")
NAMES = {"inputs": "INPUT"}  # of what is given by its place
# What a preparation writes into its folder, beside index/ and work/, and what a kill can leave of it.
WRITTEN = re.compile(
    r"(train|val)_\d{6,}\.bin|report\.(json|html)|dropped\.jsonl|canaries\.json|tokenizer(_config)?\.json"
)
UNFINISHED = re.compile(
    r"\.((train|val)_\d{6,}\.bin|(meta|report|canaries|tokenizer(_config)?)\.json|dropped\.jsonl)\..*\.tmp"
)


def describe_request(config: PrepareConfig, units: list, exams: list[str], tokenizer: Tokenizer) -> dict[str, Any]:
    """The flags that change the result, and a hash of the input's names, sizes and times of change."""
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in MAY_CHANGE_ON_RESUME}
    if config.tokenizer not in (*TOKENIZERS, CODE_POINTS.name):  # a file may move
        flags["tokenizer"] = tokenizer.sha256
    if config.counterfactual:  # and the list that ships may change
        flags["counterfactual"] = read_word_swaps(config.counterfactual).sha256
    digest = hashlib.sha256()
    extra_files = [*map(Path, exams), *([config.against / "meta.json"] if config.against else [])]
    for what, path in [*((unit, Path(unit.name)) for unit in units), *((str(path), path) for path in extra_files)]:
        if path.parent == work_dir.locate(config.out, config.work_dir):  # a copy of a pipe, which is new at each start
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(repr((what, path.stat().st_mtime_ns if path.exists() else None)).encode())
    return {"flags": json.loads(json.dumps(flags, default=str)), "inputs": digest.hexdigest()}


def is_done(out: Path, request: dict[str, Any]) -> bool:
    """Whether this preparation has ended; UsageError: the folder has another one, ended or not."""
    for path, what in ((out / "meta.json", "prepared"), (out / "work" / work_dir.ASKED, "half prepared")):
        if not path.exists():
            continue
        try:
            saved = read_json(path)
            flags, inputs = {"tokenizer": PrepareConfig.tokenizer} | saved["flags"], saved["inputs"]
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{path} is corrupt ({error}); --fresh starts over") from None
        changed = [
            NAMES.get(name, f"--{name.replace('_', '-')}")
            for name, value in request["flags"].items()
            if flags.get(name) != value
        ]
        if changed or request["inputs"] not in (inputs, None):
            why = f"with another {', '.join(changed)}" if changed else "from files that have changed since"
            raise UsageError(f"{out} is {what} already, {why}; choose another --out, or --fresh to start over")
        if path.name == "meta.json":
            return True
    return False


def require_prepared_or_empty(out: Path) -> None:
    """Refuse a folder that holds something else, or that can't be written."""
    require_folder(out)
    require_no_links(out / "work")
    require_no_links(out / "index")
    names = {child.name for child in out.iterdir()} - {".lock"} if out.is_dir() else set()
    marked = (out / "work" / work_dir.MARK).exists()
    empty = (out / "work").is_dir() and not any((out / "work").iterdir())  # as a kill may leave it
    meta = try_read_json(out / "meta.json", shards.META_BYTES)
    if meta is None:
        ours = marked or names <= ({"work"} if empty else set())
    else:
        ours = isinstance(meta, dict) and meta.get("format") == shards.FORMAT
    if not ours:
        raise UsageError(f"{out}: there are files in it already; choose a new folder")
    if "work" in names and not (marked or empty):
        raise UsageError(f"{out / 'work'}: no preparation has written this; move it away, or choose a new --out")


def require_separate_inputs(config: PrepareConfig) -> None:
    """Refuse an input that the preparation would write into, and an output that it would read."""
    inputs = [("the input", name) for name in config.inputs if not is_stream(name)]
    if config.tokenizer not in TOKENIZERS:
        inputs += [("--tokenizer", config.tokenizer)]
    if config.counterfactual != DEFAULT:
        inputs += [("--counterfactual", config.counterfactual)]
    inputs += [("--against", config.against), *(("--decontaminate", file) for file in config.decontaminate)]
    inputs += [("--pii-names", config.pii_names)]
    require_separate("--out", config.out, inputs, nested=False)
    work_dir.require_usable(config, inputs)


def reset(work: Path) -> None:
    """Start with an empty folder, so that a mistake can be corrected by another command."""
    delete_work(work)
    work.mkdir()
    (work / work_dir.MARK).touch()
    sync(work, *work.resolve().parents)


def delete_work(work: Path) -> None:
    """Delete the temporary files, wherever they are, and their folders."""
    work_dir.delete_elsewhere(work)
    work_dir.delete_place(work)


def delete_old_files(out: Path, place: Path) -> None:
    """Delete an earlier preparation's files, except what this start has written already, and nothing else.

    Args:
      place: of the temporary files.
    """
    (out / "meta.json").unlink(missing_ok=True)  # first: without it this is no prepared folder
    _delete([path for path in out.iterdir() if WRITTEN.fullmatch(path.name)])
    _delete([out / "index" / "exact", out / "index" / "near"])
    with contextlib.suppress(OSError):  # what else is in it stays
        (out / "index").rmdir()
    _delete([child for child in place.iterdir() if child.is_dir() and child.name not in ("leaks", "earlier")])


def sync_written(out: Path) -> None:
    """Have the disk keep all that meta.json, which comes next, vouches for."""
    sync(*(path for path in out.iterdir() if WRITTEN.fullmatch(path.name)))
    sync(*out.glob("index/**/*"), *out.glob("index"), out)


def delete_unfinished_files(out: Path) -> None:
    """Delete what a start has left that was killed while it wrote one of them."""
    _delete([path for path in out.iterdir() if UNFINISHED.fullmatch(path.name)])


def _delete(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
