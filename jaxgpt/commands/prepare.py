"""Data preparation: `python -m jaxgpt.commands.prepare INPUT... --out FOLDER` makes token shards of text.

The stages and what passes between them are in `stages`; every stage is tasks, one a piece of the input, and a task's
result depends on its piece alone. So any number of workers makes the same bytes, and what was killed goes on.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxgpt import console
from jaxgpt.errors import DataError, UsageError
from jaxgpt.runs.folder import hold

Step = Literal["none", "unicode", "controls", "boilerplate", "c4", "gopher-repetition", "gopher-quality", "fineweb"]


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Make token shards of text: collect, clean, deduplicate, anonymise, tokenise, split.

    The same command again goes on where it was stopped. `python train.py --data FOLDER` trains on the result.
    """

    inputs: Annotated[tuple[str, ...], *console.place("INPUT")] = ()
    """Files and folders: text, .jsonl, .csv, .tsv (.gz, .zst), .parquet, .warc; hf://OWNER/NAME[/CONFIG]; - (stdin)."""
    out: Path | None = None
    """Folder for the shards, meta.json and the report."""
    show: Path | None = None
    """Look at a prepared folder instead: counts, lengths, frequent tokens, some documents; and report.html in it."""
    html: Path | None = None
    """Where --show writes its page; by default report.html in the folder."""
    files: tuple[str, ...] = ()
    """Which files are taken from folders, such as "*.py" "*.rst"; by default those of the kinds above."""
    text_field: str = "text"
    """Where the text is in JSONL, CSV, Parquet and datasets."""
    clean: tuple[Step, ...] = ("unicode", "controls")
    """Repair: unicode, controls, boilerplate. Filters for web text: c4, gopher-repetition, gopher-quality, fineweb.
    none: no step."""
    language: tuple[str, ...] = ()
    """Keep only these languages, such as en de; by fastText's classifier."""
    min_chars: int = 1
    """Drop documents with fewer characters."""
    max_chars: int = 10**9
    """Drop documents with more; one above a million characters was cut into several before."""
    decontaminate: tuple[Path, ...] = ()
    """Drop documents that share 13 words in a row with these evaluation files, JSONL or text."""
    dedup: Literal["none", "exact", "minhash"] = "exact"
    """Keep one of each text; minhash: and one of those that are nearly alike."""
    against: Path | None = None
    """Drop what an earlier prepared folder had as well."""
    index: bool = True
    """Keep what a later --against needs: 8 bytes a document, and with minhash 900 more."""
    pii: Literal["off", "report", "replace", "drop"] = "off"
    """Personal data (e-mail, phone, IP, credit card, IBAN, national numbers, keys): count it, replace it by <EMAIL>
    and the like, or drop the documents."""
    pii_names: str | None = None
    """A spaCy pipeline, such as en_core_web_sm, whose guesses at names of persons and places count too."""
    canaries: int = 0
    """Plant this many random secrets, 1, 4 or 16 times each, by which memorisation is measured later."""
    val: float = 0.01
    """Share of the documents that is held out, drawn by a hash of their text."""
    shard_tokens: int = 100_000_000
    """Tokens of a shard."""
    seed: int = 0
    """Of the canaries, and of the documents that --show draws."""
    workers: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Processes, or tasks at once on a cluster; the result is the same for any number."""
    executor: Literal["local", "slurm", "ray"] = "local"
    """Where the tasks run; on a cluster --out and the input must be shared."""
    sbatch: tuple[str, ...] = ()
    """Options for SLURM: partition=... time=... and others of sbatch."""
    fresh: bool = False
    """Start over: delete what an earlier preparation left in --out."""

    def __post_init__(self):
        if self.show is None and not (self.inputs and self.out):
            raise UsageError("not given: INPUT... and --out FOLDER, or --show FOLDER" + console.HELP)
        if self.show and (self.inputs or self.out):
            raise UsageError("--show takes no INPUT and no --out: it only looks")
        for name, low, high in (
            ("val", 0, 0.5),
            ("canaries", 0, 10**5),
            ("workers", 1, 4096),
            ("min_chars", 1, 10**9),
            ("max_chars", 1, 10**9),
            ("shard_tokens", 1, 2**31 - 1),
            ("seed", 0, 2**31 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} {getattr(self, name)} is out of range: it must be from {low} to {high:,}")
        if self.min_chars > self.max_chars:
            raise UsageError(
                f"--min-chars {self.min_chars} is above --max-chars {self.max_chars}: nothing would be left"
            )
        if "none" in self.clean and len(self.clean) > 1:
            raise UsageError("--clean none stands alone; leave it out, or the other steps")
        if self.against and self.dedup == "none":
            raise UsageError("--against needs --dedup exact or minhash")
        if self.pii_names and self.pii == "off":
            raise UsageError("--pii-names needs --pii report, replace or drop")
        if bad := [option for option in self.sbatch if "=" not in option]:
            raise UsageError(f"--sbatch {bad[0]}: use NAME=VALUE, such as partition=cpu")


# What does not change the result may change between two starts.
NAMES = {"inputs": "INPUT"}  # of what is given by its place
FREE = ("workers", "executor", "sbatch", "fresh", "show", "html")


def main(argv: Sequence[str]) -> int:
    config = console.parse(PrepareConfig, argv)
    _require_libraries()
    from jaxgpt.commands import inspect

    if config.show:
        inspect.show(config.show, config.html, config.seed)
        return 0
    with hold(config.out), _terminable():
        try:
            return prepare(config, argv)
        except KeyboardInterrupt:
            say("stopped", "the same command goes on")
            raise
        except (UsageError, DataError):  # what is wrong will be put right, and then this must not be in the way
            work = config.out / "work"
            if (config.out / "meta.json").exists():
                shutil.rmtree(work, ignore_errors=True)
            elif _is_ours(config.out) and not (work / "stages").exists():
                _reset(work)
            raise


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the workers too, as Ctrl-C does."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare(config: PrepareConfig, argv: Sequence[str]) -> int:
    """Prepare into config.out, which is held; returns the exit code.

    Raises:
      DataError: no document is left, or a file that is needed can't be read.
      UsageError: --out holds something else, or an input is not there.
      RetryableError: a worker was killed.
    """
    from jaxgpt.data import shards
    from jaxgpt.prepare import canaries, decontaminate, dedup, documents, executors, filters, sources, tokenize
    from jaxgpt.prepare.drop_log import write_json
    from jaxgpt.prepare.summary import write_report

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
        say("done", f"{out} is prepared already, from this input and with these flags; --fresh does it again")
        return 0
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
        say("resume", "goes on where an earlier start stopped")
    write_json(work / "asked.json", asked)
    for path in out.glob(".*.tmp"):  # of a start that was killed while it wrote a shard
        path.unlink()
    documents.write_pieces(pieces, work)
    made = stages(config, len(pieces), work)
    started = time.perf_counter()
    with _executor(config, work) as run:
        for name, pipeline, count in made:
            with _progress(name, count) as done:
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
    command = shlex.join(["python", "-m", "jaxgpt.commands.prepare", *argv])
    shards.write_meta(out, splits, command=command, **asked, report=report)
    shutil.rmtree(work)
    _tell(out, report, splits, time.perf_counter() - started)
    return 0


def stages(config: PrepareConfig, pieces: int, work: Path) -> list[tuple[str, list, int]]:
    """What is done one after another: a name, the steps that a document passes, and how many tasks there are.

    Args:
      pieces: of the input; the tasks of the stages that go through it.
    """
    from jaxgpt.prepare import decontaminate, dedup, filters
    from jaxgpt.prepare.documents import Read
    from jaxgpt.prepare.drop_log import DropLog, ReadSurvivors, WriteSurvivors
    from jaxgpt.prepare.tokenize import Tokenize

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


# ---- The folder ----------------------------------------------------------------------------------------------------


def _asked(config: PrepareConfig, units: list) -> dict[str, Any]:
    """What a result depends on: the flags, and the input as its names, sizes and times of change tell it."""
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in FREE}
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
            raise UsageError(f"{path} is damaged; --fresh starts over") from None
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


# ---- What is said --------------------------------------------------------------------------------------------------


def say(name: str, text: str) -> None:
    print(f"{name:<9} {text}", flush=True)


def _require_libraries() -> None:
    for library in ("datatrove", "orjson", "zstandard", "ftfy", "phonenumbers", "stdnum"):
        if importlib.util.find_spec(library) is None:
            raise UsageError(f"preparing data needs {library}: pip install -r requirements-data.txt")


def _executor(config: PrepareConfig, work: Path) -> contextlib.AbstractContextManager:
    from jaxgpt.prepare import executors

    if config.executor == "slurm":
        return executors.slurm(config.workers, dict(option.split("=", 1) for option in config.sbatch))
    return (
        executors.ray(config.workers) if config.executor == "ray" else executors.local(config.workers, work / "workers")
    )


@contextlib.contextmanager
def _progress(name: str, tasks: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, and nothing elsewhere; gives what is told of each task that ends."""
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(name, total=tasks)
        yield lambda done: progress.advance(task, done)


def _tell(out: Path, report: dict[str, Any], splits: dict[str, Any], seconds: float) -> None:
    dropped = {step["name"]: sum(step["dropped"].values()) for step in report["steps"]}
    losses = ", ".join(f"{name} {count:,}" for name, count in dropped.items() if count)
    say("documents", f"{report['records']:,} found, {report['kept']['documents'] - report['canaries']:,} kept")
    if losses:
        say("dropped", f"{losses}; {out}/dropped.jsonl says where and why")
    changed = ", ".join(f"{step['name']} {step['changed']:,}" for step in report["steps"] if step["changed"])
    if changed:
        say("changed", changed)
    if report["pii"]:
        say("personal", ", ".join(f"{kind} {count:,}" for kind, count in report["pii"].items()))
    if report["canaries"]:
        say("canaries", f"{report['canaries']:,} documents planted, listed in {out}/canaries.json")
    for split, count in splits.items():
        shards = len(count["shards"])
        say(
            split, f"{count['tokens']:,} tokens of {count['documents']:,} documents, {shards} shard{'s'[: shards != 1]}"
        )
    say("took", f"{seconds:,.1f} s")
    say("look", f"python -m jaxgpt.commands.prepare --show {shlex.quote(str(out))}")
    held = f" --val {shlex.quote(str(out))}" if splits["val"]["tokens"] else ""
    say("train", f"python train.py --data {shlex.quote(str(out))}{held}")


if __name__ == "__main__":
    console.leave(console.run(main, sys.argv[1:]))
