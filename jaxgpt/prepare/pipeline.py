"""From raw text to token shards, in stages, each a pipeline of datatrove.

The stages and what passes between them are in `stages`; every stage is tasks, one a piece of the input, and a task's
result depends on its piece alone. So any number of workers makes the same bytes, and a killed run resumes.
"""

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxgpt
from jaxgpt.console import plural
from jaxgpt.data import shards
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.open_tokenizer import keep
from jaxgpt.data.plain_tokenizers import CODE_POINTS
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.data.word_swaps import read_word_swaps
from jaxgpt.errors import DataError, UsageError
from jaxgpt.locks import hold
from jaxgpt.prepare import (
    canaries,
    completion,
    counterfactual,
    decontaminate,
    dedup,
    documents,
    filters,
    folder,
    slurm,
    sources,
    tasks,
    tokenize,
    work_dir,
)
from jaxgpt.prepare.config import PrepareConfig
from jaxgpt.prepare.documents import Read
from jaxgpt.prepare.drop_log import DropLog, ReadSurvivors, WriteSurvivors, report_corruption, write_json
from jaxgpt.prepare.summary import write_report
from jaxgpt.prepare.tokenize import Tokenize
from jaxgpt.processes import wait_for_workers
from jaxgpt.progress_bar import stage

Say = Callable[[str, str], None]
Progress = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


class Plan(NamedTuple):
    """What a preparation will read, found without touching anything.

    Attributes:
      pieces: the input, one piece a task.
      request: the flags and a hash of the input, by which a later start knows whether it is the same.
      tokenizer: that of the tasks.
      sequences: the words that must not be trained on, as decontaminate.find_sequences gives them.
    """

    pieces: list[list[sources.Unit]]
    request: dict[str, Any]
    tokenizer: Tokenizer
    sequences: dict[str, np.ndarray]


def prepare(config: PrepareConfig, command: str, say: Say, progress: Progress) -> dict[str, Any] | None:
    """Prepare into config.out, held meanwhile.

    Args:
      command: the command line, for meta.json.
      say: takes a label and what is to be said of it.
      progress: takes the name of a stage and how many tasks it has; gives the function that counts finished tasks.

    Returns:
      The report, and in it `splits` as meta.json has them; None if all was prepared before.

    Raises:
      DataError: no document is left, or a file that is needed can't be read.
      UsageError: --out holds something else, or an input is not there.
      RetryableError: a worker was killed, or another preparation holds the folder.
    """
    with stage("looking at the input"):
        plan = make_plan(config, *map(_without_streams, _names(config)))
    with hold(config.out):
        folder.require_prepared_or_empty(config.out)  # as another preparation may have left it meanwhile
        begun = any(path.name != work_dir.MARK for path in config.out.glob("work/*"))  # by an earlier start
        try:
            return _prepare(config, plan, command, say, progress)
        except (UsageError, DataError):  # what is wrong will be put right, and then this must not be in the way
            work = config.out / "work"
            if (config.out / "meta.json").exists():
                folder.delete_work(work)
            elif not begun and not (work_dir.locate(config.out, config.work_dir) / "stages").exists():
                folder.reset(work)
            raise


def make_plan(config: PrepareConfig, names: list[str], exams: list[str]) -> Plan:
    """Find the input, refusing what is wrong with it, the flags or the folder; nothing is touched.

    Args:
      names: the inputs, with files in place of pipes. Where these are still missing, only the flags are compared with
        those of an earlier preparation.
      exams: the files of --decontaminate, in the same way.
    """
    folder.require_prepared_or_empty(config.out)
    folder.require_separate_inputs(config)
    pieces = sources.plan_pieces(names, config.files)
    tokenizer = tokenize.open_source(config.tokenizer)
    request = folder.describe_request(config, [unit for piece in pieces for unit in piece], exams, tokenizer)
    if tuple(map(len, (names, exams))) != tuple(map(len, _names(config))):
        request["inputs"] = None
    if not config.fresh and folder.is_done(config.out, request):
        return Plan(pieces, request, tokenizer, {})
    tasks.require_executor(config.executor, config.sbatch)
    if config.pii_names:
        filters.load_names(config.pii_names)
    if config.language:
        filters.require_languages(config.language)
    if config.against:
        dedup.require_index(config.against, config.dedup == "minhash")
    return Plan(pieces, request, tokenizer, decontaminate.find_sequences(map(Path, exams)))


def _names(config: PrepareConfig) -> tuple[list[str], list[str]]:
    return list(config.inputs), list(map(str, config.decontaminate))


def _without_streams(names: list[str]) -> list[str]:
    return [name for name in names if not sources.is_stream(name)]


def _prepare(config: PrepareConfig, plan: Plan, command: str, say: Say, progress: Progress) -> dict[str, Any] | None:
    out = config.out
    if not (out / "work").exists():
        folder.reset(out / "work")
    work = work_dir.open_place(out, config.work_dir)
    wait_for_workers(work / "workers")
    slurm.wait_for_jobs(work, say)
    if plan.request["inputs"] is None:  # what it reads is known once the pipes are saved, in a folder that is ours
        names, exams = _names(config)
        saved = sources.save_streams(names, work / "input", config.fresh)
        plan = make_plan(config, saved, sources.save_streams(exams, work / "exam", config.fresh))
    pieces, request, tokenizer, sequences = plan
    units = [unit for piece in pieces for unit in piece]
    if not config.fresh and folder.is_done(out, request):
        folder.delete_work(out / "work")
        return None
    size = sum(unit.size for unit in units)
    files = plural(len({unit.name for unit in units}), "file")
    if config.work_dir:
        say("work", f"{work} has the temporary files, and is deleted at the end")
    say("input", f"{files}, {size / 1e6:,.1f} MB, in {plural(len(pieces), 'task')}")
    if config.fresh or not (work / "stages").exists():
        work_dir.require_room(config, size)
    if config.against:
        dedup.copy_index(config.against, config.dedup == "minhash", work / "earlier")
    if sequences:
        decontaminate.write_index(sequences, work / "leaks")
        count = sum(map(len, sequences.values()))
        say("leaks", f"{plural(count, 'sequence')} of {decontaminate.LEAK_WORDS} words that must not be trained on")
    if config.fresh:  # only now, when nothing is wrong with the flags
        folder.delete_old_files(out, work)
    if (work / "stages").exists():
        say("resume", "checks what finished tasks wrote, then continues where an earlier start stopped")
        with stage("checking what finished tasks wrote"):
            completion.delete_false_marks(work)
    write_json(out / "work" / work_dir.ASKED, request)
    folder.delete_unfinished_files(out)
    documents.write_pieces(pieces, work)
    if tokenizer != CODE_POINTS:
        (work / tokenize.KEPT).mkdir(exist_ok=True)
        keep(tokenizer, work / tokenize.KEPT)
    order = stages(config, len(pieces), work, tokenizer.sha256)
    with tasks.open_executor(config.executor, config.workers, config.sbatch, work) as run:
        for name, pipeline, count in order:
            with progress(name, count) as done:
                run(pipeline, count, work / "stages" / name, done)
    planted = canaries.plant(config.canaries, config.seed)
    steps = [step for _, pipeline, _ in order for step in pipeline]
    names = [step.name for step in steps if getattr(step, "drop_log", None) or getattr(step, "exclusion_writer", None)]
    with report_corruption(work), stage("shards and report"):
        tokenizer = tokenize.finish_tokenizer(tokenizer, work, len(pieces), planted)
        splits = tokenize.collect(work, out, len(pieces), planted, config.shard_tokens, tokenizer)
        report = write_report(work, out, pieces, names, splits, sum(each.repeats for each in planted))
    if not splits["train"]["tokens"]:
        folder.reset(out / "work")
        why = f"{out}/dropped.jsonl says why"
        if splits["val"]["tokens"]:
            why = "all that are left are for validation; use --val 0"
        raise DataError(f"no document is left to train on, of {report['records']:,}; {why}")
    if planted:
        canaries.write(out, planted)
    index = dedup.write_index(work, out / "index") if config.dedup != "none" and config.index else {}
    keep(tokenizer, out)
    folder.sync_written(out)
    versions = {"jaxgpt": jaxgpt.__version__}
    versions |= {library: importlib.metadata.version(library) for library in ("datatrove", "ftfy")}
    facts = {"command": command, "versions": versions} | request
    shards.write_meta(out, splits, tokenizer, **facts, report=report, index=index)
    folder.delete_work(out / "work")
    return report | {"splits": splits}


def stages(
    config: PrepareConfig, pieces: int, work: Path, tokenizer: str = GPT2_TOKENIZER.sha256
) -> list[tuple[str, list, int]]:
    """The stages in their order: each one's name, the steps that a document passes, and its number of tasks.

    Args:
      pieces: of the input; the tasks of the stages that go through it.
      tokenizer: its hash; a copy is in `work`.
    """
    first = [Read(config.text_field, work), *filters.make_steps(config.clean, work)]
    if (config.min_chars, config.max_chars) != (1, 10**9):
        first.append(filters.filter_by_length(config.min_chars, config.max_chars, work))
    if config.language:
        first.append(filters.filter_by_language(config.language, work))
    if config.decontaminate:
        first.append(decontaminate.decontaminate(work / "leaks", work))
    last = [filters.Anonymise(config.pii, config.pii_names, work)] if config.pii != "off" else []
    if config.counterfactual:  # after the filters and duplicates, which would judge a mirror image too
        leaks = decontaminate.decontaminate(work / "leaks", work) if config.decontaminate else None
        last.append(counterfactual.Mirror(read_word_swaps(config.counterfactual), config.val, leaks))
    last.append(Tokenize(work, config.val, tokenizer))
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
