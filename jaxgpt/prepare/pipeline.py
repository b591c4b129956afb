"""From raw text to token shards, in stages, each a pipeline of datatrove.

The stages and what passes between them are in `stages`; every stage is tasks, one a piece of the input, and a task's
result depends on its piece alone. So any number of workers makes the same bytes, and a killed run resumes.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxgpt.data import shards
from jaxgpt.errors import DataError, UsageError
from jaxgpt.prepare import canaries, decontaminate, dedup, documents, executors, filters, sources, tokenize
from jaxgpt.prepare.config import PrepareConfig
from jaxgpt.prepare.documents import Read
from jaxgpt.prepare.drop_log import DropLog, ReadSurvivors, WriteSurvivors, write_json
from jaxgpt.prepare.summary import write_report
from jaxgpt.prepare.tokenize import Tokenize

# What does not change the result may change between two starts.
MAY_CHANGE_ON_RESUME = ("workers", "executor", "sbatch", "fresh")
NAMES = {"inputs": "INPUT"}  # of what is given by its place

Say = Callable[[str, str], None]
Progress = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


def prepare(config: PrepareConfig, command: str, say: Say, progress: Progress) -> dict[str, Any] | None:
    """Prepare into config.out, which is held.

    Args:
      command: that asked for it; meta.json has it.
      say: takes a label and what is to be said of it.
      progress: takes the name of a stage and how many tasks it has; gives what is told of each that ends.

    Returns:
      The report, and in it `splits` as meta.json has them; None if all was prepared before.

    Raises:
      DataError: no document is left, or a file that is needed can't be read.
      UsageError: --out holds something else, or an input is not there.
      RetryableError: a worker was killed.
    """
    try:
        return _prepare(config, command, say, progress)
    except (UsageError, DataError):  # what is wrong will be put right, and then this must not be in the way
        work = config.out / "work"
        if (config.out / "meta.json").exists():
            shutil.rmtree(work, ignore_errors=True)
        elif _is_ours(config.out) and not (work / "stages").exists():
            _reset(work)
        raise


def _prepare(config: PrepareConfig, command: str, say: Say, progress: Progress) -> dict[str, Any] | None:
    out, work = config.out, config.out / "work"
    _require_ours(out)
    if not work.exists():
        _reset(work)
    executors.wait_for_workers(work / "workers")
    names = [str(sources.save_stdin(work)) if name == "-" else name for name in config.inputs]
    pieces = sources.plan_pieces(names, config.files)
    units = [unit for piece in pieces for unit in piece]
    _require_apart(config, units)
    asked = _asked(config, units)
    if not config.fresh and _is_done(out, asked):
        shutil.rmtree(work)
        return None
    size = sum(unit.size for unit in units)
    say("input", f"{len({unit.name for unit in units}):,} files, {size / 1e6:,.1f} MB, in {len(pieces):,} tasks")
    if config.pii_names:
        filters.load_names(config.pii_names)
    if config.language:
        filters.require_languages(config.language)
    if config.against:
        dedup.copy_index(config.against, config.dedup == "minhash", work / "earlier")
    if config.decontaminate:
        found = decontaminate.build_index(config.decontaminate, work / "leaks")
        say("leaks", f"{found:,} sequences of {decontaminate.LEAK_WORDS} words that must not be trained on")
    if config.fresh:  # only now, when nothing is wrong with the flags
        _clear(out)
    if (work / "stages").exists():
        say("resume", "continues where an earlier start stopped")
    write_json(work / "asked.json", asked)
    for path in out.glob(".*.tmp"):  # of a start that was killed while it wrote a shard
        path.unlink()
    documents.write_pieces(pieces, work)
    made = stages(config, len(pieces), work)
    with _executor(config, work) as run:
        for name, pipeline, count in made:
            with progress(name, count) as done:
                run(pipeline, count, work / "stages" / name, done)
    planted = canaries.plant(config.canaries, config.seed)
    splits = tokenize.collect(work, out, len(pieces), planted, config.shard_tokens)
    steps = [step for _, pipeline, _ in made for step in pipeline]
    names = [step.name for step in steps if getattr(step, "drop_log", None) or getattr(step, "exclusion_writer", None)]
    report = write_report(work, out, pieces, names, splits, sum(each.repeats for each in planted))
    if not splits["train"]["tokens"]:
        _reset(work)
        raise DataError(
            f"no document is left to train on, of {report['records']:,}; {out}/dropped.jsonl says why of each"
        )
    if planted:
        canaries.write(out, planted)
    if config.dedup != "none" and config.index:
        shutil.copytree(work / "earlier", out / "index", dirs_exist_ok=True) if config.against else None
        shutil.copytree(work / "index", out / "index", dirs_exist_ok=True)
    shards.write_meta(out, splits, command=command, **asked, report=report)
    shutil.rmtree(work)
    return report | {"splits": splits}


def stages(config: PrepareConfig, pieces: int, work: Path) -> list[tuple[str, list, int]]:
    """What is done one after another: a name, the steps that a document passes, and how many tasks there are.

    Args:
      pieces: of the input; the tasks of the stages that go through it.
    """
    first = [Read(config.text_field, work), *filters.make_steps(config.clean, work)]
    if (config.min_chars, config.max_chars) != (1, 10**9):
        first.append(filters.filter_by_length(config.min_chars, config.max_chars, work))
    if config.language:
        first.append(filters.filter_by_language(config.language, work))
    if config.decontaminate:
        first.append(decontaminate.decontaminate(work / "leaks", work))
    last = [filters.Anonymise(config.pii, config.pii_names, work)] if config.pii != "off" else []
    last.append(Tokenize(work, config.val))
    if config.dedup == "none":
        return [("tokenise", first + last, pieces)]
    earlier, index, buckets = (work / "earlier") if config.against else None, work / "index", dedup.MINHASH.num_buckets
    exact, near = DropLog(work, "exact", "same as another"), DropLog(work, "near", "nearly the same as another")
    made = [
        ("clean", [*first, WriteSurvivors(work), dedup.exact_signatures(work)], pieces),
        ("exact", [dedup.find_exact(work, earlier)], 1),
    ]
    if config.dedup == "exact":
        made.append(("tokenise", [ReadSurvivors(work), dedup.drop_exact(work, exact), *last], pieces))
    else:
        made += [
            ("signatures", [ReadSurvivors(work), dedup.drop_exact(work, None), dedup.near_signatures(work)], pieces),
            ("buckets", [dedup.near_buckets(work, earlier)], buckets),
            ("clusters", [dedup.near_clusters(work)], 1),
            (
                "tokenise",
                [ReadSurvivors(work), dedup.drop_exact(work, exact), dedup.drop_near(work, near), *last],
                pieces,
            ),
        ]
    if config.index:
        name = hashlib.sha256(str(config.out.resolve()).encode()).hexdigest()[:16]
        made.append(("index", [dedup.index_exact(work, index, name)], 1))
        if config.dedup == "minhash":
            made.append(("index-near", [dedup.index_near(work, index, name)], buckets))
    return made


def _executor(config: PrepareConfig, work: Path) -> contextlib.AbstractContextManager:
    if config.executor == "slurm":
        return executors.slurm(config.workers, dict(option.split("=", 1) for option in config.sbatch))
    return (
        executors.ray(config.workers) if config.executor == "ray" else executors.local(config.workers, work / "workers")
    )


# ---- The folder ----------------------------------------------------------------------------------------------------


def _asked(config: PrepareConfig, units: list) -> dict[str, Any]:
    """What a result depends on: the flags, and the input as its names, sizes and times of change tell it."""
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in MAY_CHANGE_ON_RESUME}
    digest = hashlib.sha256()
    others = [*config.decontaminate, *([config.against / "meta.json"] if config.against else [])]
    for what, path in [*((unit, Path(unit.name)) for unit in units), *((str(path), path) for path in others)]:
        if path.parent == config.out / "work":  # a copy of standard input, which is new at each start
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(repr((what, path.stat().st_mtime_ns if path.exists() else None)).encode())
    return {"flags": json.loads(json.dumps(flags, default=str)), "inputs": digest.hexdigest()}


def _is_done(out: Path, asked: dict[str, Any]) -> bool:
    """Whether this preparation has ended; UsageError: another one is there, ended or not."""
    for path, what in ((out / "meta.json", "prepared"), (out / "work" / "asked.json", "half prepared")):
        if not path.exists():
            continue
        try:
            there = json.loads(path.read_text())
            flags, inputs = there["flags"], there["inputs"]
        except (ValueError, TypeError, KeyError):
            raise UsageError(f"{path} is corrupt; --fresh starts over") from None
        others = [
            NAMES.get(name, f"--{name.replace('_', '-')}")
            for name, value in asked["flags"].items()
            if flags.get(name) != value
        ]
        if others or inputs != asked["inputs"]:
            why = f"with another {', '.join(others)}" if others else "from files that have changed since"
            raise UsageError(f"{out} is {what} already, {why}; choose another --out, or --fresh to start over")
        if path.name == "meta.json":
            return True
    return False


def _require_ours(out: Path) -> None:
    """Refuse a folder in which something else is."""
    if any(child.name != ".lock" for child in out.iterdir()) and not _is_ours(out):
        raise UsageError(f"{out}: there are files in it already; choose a new folder")


def _is_ours(out: Path) -> bool:
    """Whether a preparation left this, or is at work here."""
    if (out / "work" / "workers").exists():
        return True
    try:
        return json.loads((out / "meta.json").read_text())["format"] == "jaxgpt-tokens"
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _require_apart(config: PrepareConfig, units: list) -> None:
    """Refuse an input, or an earlier folder, that the preparation would write into."""
    out = config.out.resolve()
    for unit in units:
        path = Path(unit.name).resolve()
        if out in path.parents and path.parent != out / "work":
            raise UsageError(f"--out {config.out} lies within the input ({unit.name}); choose a folder outside of it")
    if config.against and config.against.resolve() == out:
        raise UsageError(f"--against {config.against} is --out itself; choose another --out")


def _reset(work: Path) -> None:
    """Begin with nothing: so that what was wrong can be put right by another command."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "workers").touch()  # which tells whose folder it is, and is held by each worker


def _clear(out: Path) -> None:
    """Delete what a preparation left, but for what this start has made already, and nothing else."""
    (out / "meta.json").unlink(missing_ok=True)  # first: without it the rest is no prepared folder
    shutil.rmtree(out / "index", ignore_errors=True)
    for pattern in ("train_*.bin", "val_*.bin", "report.*", "dropped.jsonl", "canaries.json"):
        for path in out.glob(pattern):
            path.unlink()
    for child in (out / "work").iterdir():
        if child.is_dir() and child.name not in ("leaks", "earlier"):
            shutil.rmtree(child)
