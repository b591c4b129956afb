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

# Flags that do not change the result may change between two starts.
MAY_CHANGE_ON_RESUME = ("workers", "executor", "sbatch", "fresh")
NAMES = {"inputs": "INPUT"}  # of what is given by its place

Say = Callable[[str, str], None]
Progress = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


def prepare(config: PrepareConfig, command: str, say: Say, progress: Progress) -> dict[str, Any] | None:
    """Prepare into config.out, which is held.

    Args:
      command: the command line, for meta.json.
      say: takes a label and what is to be said of it.
      progress: takes the name of a stage and how many tasks it has; gives the function that counts finished tasks.

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
    names = sources.save_streams(config.inputs, work / "input", config.fresh)
    exams = sources.save_streams(map(str, config.decontaminate), work / "exam", config.fresh)
    pieces = sources.plan_pieces(names, config.files)
    units = [unit for piece in pieces for unit in piece]
    _require_separate(config, units)
    request = _describe_request(config, units, exams)
    if not config.fresh and _is_done(out, request):
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
        num_sequences = decontaminate.build_index(map(Path, exams), work / "leaks")
        say("leaks", f"{num_sequences:,} sequences of {decontaminate.LEAK_WORDS} words that must not be trained on")
    if config.fresh:  # only now, when nothing is wrong with the flags
        _delete_old_files(out)
    if (work / "stages").exists():
        say("resume", "continues where an earlier start stopped")
    write_json(work / "asked.json", request)
    for path in out.glob(".*.tmp"):  # of a start that was killed while it wrote a shard
        path.unlink()
    documents.write_pieces(pieces, work)
    plan = stages(config, len(pieces), work)
    with _executor(config, work) as run:
        for name, pipeline, count in plan:
            with progress(name, count) as done:
                run(pipeline, count, work / "stages" / name, done)
    planted = canaries.plant(config.canaries, config.seed)
    splits = tokenize.collect(work, out, len(pieces), planted, config.shard_tokens)
    steps = [step for _, pipeline, _ in plan for step in pipeline]
    names = [step.name for step in steps if getattr(step, "drop_log", None) or getattr(step, "exclusion_writer", None)]
    report = write_report(work, out, pieces, names, splits, sum(each.repeats for each in planted))
    if not splits["train"]["tokens"]:
        _reset(work)
        raise DataError(f"no document is left to train on, of {report['records']:,}; {out}/dropped.jsonl says why")
    if planted:
        canaries.write(out, planted)
    if config.dedup != "none" and config.index:
        shutil.copytree(work / "earlier", out / "index", dirs_exist_ok=True) if config.against else None
        shutil.copytree(work / "index", out / "index", dirs_exist_ok=True)
    shards.write_meta(out, splits, command=command, **request, report=report)
    shutil.rmtree(work)
    return report | {"splits": splits}


def stages(config: PrepareConfig, pieces: int, work: Path) -> list[tuple[str, list, int]]:
    """The stages in their order: each one's name, the steps that a document passes, and its number of tasks.

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
    plan = [
        ("clean", [*first, WriteSurvivors(work), dedup.exact_signatures(work)], pieces),
        ("exact", [dedup.find_exact(work, earlier)], 1),
    ]
    if config.dedup == "exact":
        plan.append(("tokenise", [ReadSurvivors(work), dedup.drop_exact(work, exact), *last], pieces))
    else:
        plan += [
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
        plan.append(("index", [dedup.index_exact(work, index, name)], 1))
        if config.dedup == "minhash":
            plan.append(("index-near", [dedup.index_near(work, index, name)], buckets))
    return plan


def _executor(config: PrepareConfig, work: Path) -> contextlib.AbstractContextManager:
    if config.executor == "slurm":
        return executors.slurm(config.workers, dict(option.split("=", 1) for option in config.sbatch))
    return (
        executors.ray(config.workers) if config.executor == "ray" else executors.local(config.workers, work / "workers")
    )


# ---- The folder ----------------------------------------------------------------------------------------------------


def _describe_request(config: PrepareConfig, units: list, exams: list[str]) -> dict[str, Any]:
    """The flags that change the result, and a hash of the input's names, sizes and times of change."""
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in MAY_CHANGE_ON_RESUME}
    digest = hashlib.sha256()
    extra_files = [*map(Path, exams), *([config.against / "meta.json"] if config.against else [])]
    for what, path in [*((unit, Path(unit.name)) for unit in units), *((str(path), path) for path in extra_files)]:
        if path.parent == config.out / "work":  # a copy of a pipe, which is new at each start
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(repr((what, path.stat().st_mtime_ns if path.exists() else None)).encode())
    return {"flags": json.loads(json.dumps(flags, default=str)), "inputs": digest.hexdigest()}


def _is_done(out: Path, request: dict[str, Any]) -> bool:
    """Whether this preparation has ended; UsageError: the folder has another one, ended or not."""
    for path, what in ((out / "meta.json", "prepared"), (out / "work" / "asked.json", "half prepared")):
        if not path.exists():
            continue
        try:
            saved = json.loads(path.read_text())
            flags, inputs = saved["flags"], saved["inputs"]
        except (ValueError, TypeError, KeyError):
            raise UsageError(f"{path} is corrupt; --fresh starts over") from None
        changed = [
            NAMES.get(name, f"--{name.replace('_', '-')}")
            for name, value in request["flags"].items()
            if flags.get(name) != value
        ]
        if changed or inputs != request["inputs"]:
            why = f"with another {', '.join(changed)}" if changed else "from files that have changed since"
            raise UsageError(f"{out} is {what} already, {why}; choose another --out, or --fresh to start over")
        if path.name == "meta.json":
            return True
    return False


def _require_ours(out: Path) -> None:
    """Refuse a folder that holds something else."""
    if any(child.name != ".lock" for child in out.iterdir()) and not _is_ours(out):
        raise UsageError(f"{out}: there are files in it already; choose a new folder")


def _is_ours(out: Path) -> bool:
    """Whether a preparation made this folder, or is writing to it."""
    if (out / "work" / "workers").exists():
        return True
    try:
        return json.loads((out / "meta.json").read_text())["format"] == "jaxgpt-tokens"
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _require_separate(config: PrepareConfig, units: list) -> None:
    """Refuse an input, or an earlier folder, that the preparation would write into."""
    out = config.out.resolve()
    for unit in units:
        path = Path(unit.name).resolve()
        if out in path.parents and path.parent != out / "work":
            raise UsageError(f"--out {config.out} lies within the input ({unit.name}); choose a folder outside of it")
    if config.against and config.against.resolve() == out:
        raise UsageError(f"--against {config.against} is --out itself; choose another --out")


def _reset(work: Path) -> None:
    """Start with an empty folder, so that a mistake can be corrected by another command."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "workers").touch()  # marks the folder as ours, and each worker holds it


def _delete_old_files(out: Path) -> None:
    """Delete an earlier preparation's files, except what this start has written already, and nothing else."""
    (out / "meta.json").unlink(missing_ok=True)  # first: without it this is no prepared folder
    shutil.rmtree(out / "index", ignore_errors=True)
    for pattern in ("train_*.bin", "val_*.bin", "report.*", "dropped.jsonl", "canaries.json"):
        for path in out.glob(pattern):
            path.unlink()
    for child in (out / "work").iterdir():
        if child.is_dir() and child.name not in ("leaks", "earlier"):
            shutil.rmtree(child)
