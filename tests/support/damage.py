"""Our own folders with damaged JSON: every file, in a fixed list of ways, and every value of it replaced by others.

python -m tests.support.damage

Each is given to the function that reads it, and to commands, which must refuse it in one line, or take it, within 20
seconds. A prepared folder that is taken has the tokens that it had, a model the shape that its config.json says.
"""

import collections
import contextlib
import copy
import dataclasses
import itertools
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tyro
from safetensors.numpy import load_file, save_file

from jaxgpt.commands.inspect import find_examples, read_meta, read_report
from jaxgpt.data import shards
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, TEMPLATE
from jaxgpt.errors import JaxgptError
from jaxgpt.inference import memorization
from jaxgpt.prepare import canaries
from jaxgpt.prepare.folder import is_done
from jaxgpt.runs.rows import read_rows
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.resume import load_run_config
from tests.support import refusals
from tests.support.commands import run_command
from tests.support.limits import limit_time

DEEP = 10**5
WAYS = {
    "empty": lambda content: b"",
    "null": lambda content: b"null",
    "list": lambda content: b"[]",
    "object": lambda content: b"{}",
    "list of lists": lambda content: b"[[]]",
    "text": lambda content: b'"text"',
    "number": lambda content: b"7",
    "infinity": lambda content: b"Infinity",
    "400 digits": lambda content: b"1" * 400,
    "5,000 digits": lambda content: b"1" * 5000,
    "brackets": lambda content: b"[" * DEEP,
    "braces": lambda content: b'{"a":' * DEEP,
    "deep": lambda content: b"[" * 400 + b"]" * 400,
    "zeros": lambda content: bytes(len(content)),
    "zero at the end": lambda content: content + b"\0",
    "not UTF-8": lambda content: content.replace(b"a", b"\xff"),
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "half": lambda content: content[: len(content) // 2],
    "twice": lambda content: content + content,
    "pipe": None,
    "folder": None,
}
ABSENT = object()
VALUES = [ABSENT, None, True, "", "text", "\ud800", "\0", "$x^{$", "../x", [], [None], {}, {"a": {}}]
VALUES += [0, -1, 1.5, 10**6, 10**9, 10**12, 10**17, 10**400, 1e308, float("nan"), float("-inf"), "9" * 400]


def json_paths(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in a JSON document, of which only the first and the last of a long list."""
    if isinstance(content, dict):
        children = list(content.items())
    else:
        children = list(enumerate(content)) if isinstance(content, list) else []
    for key, child in children if len(children) <= 60 else children[:2] + children[-1:]:
        yield (*path, key)
        yield from json_paths(child, (*path, key))


def replace_at(content: Any, path: tuple, value: Any) -> Any:
    """A copy of the document with another value at a path."""
    content = copy.deepcopy(content)
    *parents, last = path
    parent = content
    for key in parents:
        parent = parent[key]
    if value is ABSENT:
        del parent[last]
    else:
        parent[last] = value
    return content


def damages(content: bytes) -> Iterator[tuple[str, bytes | None]]:
    """All damages of a file: what each is called, and the bytes; None: it is no file any more."""
    for name, way in WAYS.items():
        yield name, way and way(content)
    lines = content.splitlines(keepends=True)
    try:
        document, before, after = json.loads(content), b"", b""
    except ValueError:  # .jsonl: another line in the middle
        if len(lines) < 2:
            return
        middle = len(lines) // 2
        document, before, after = json.loads(lines[middle]), b"".join(lines[:middle]), b"".join(lines[middle + 1 :])
    for path in json_paths(document):
        for value in VALUES:
            name = f"{'/'.join(map(str, path))} = {'absent' if value is ABSENT else repr(value)[:20]}"
            yield name, before + json.dumps(replace_at(document, path, value)).encode() + b"\n" + after


def put(file: Path, name: str, content: bytes | None) -> None:
    """Write a damaged file in place of another."""
    file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)
    elif name == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()


# ---- What is damaged, and which commands read it. {} is a damaged copy of the folder.


def read_run(run: Path) -> None:
    config = resolve_weights(run).config
    saved = json.loads((run / "config.json").read_bytes())
    assert config.n_layer == saved.get("n_layer", 12) and config.n_embd == saved.get("n_embd", 768)
    load_run_config(run)


def read_prepared(folder: Path) -> None:
    for split, count in (("train", 1344), ("val", 672)):
        tokens = shards.open_split(folder, split)[:]
        assert tokens.tobytes() == (folder / f"{split}_000000.bin").read_bytes()[1024:] and len(tokens) == count
    is_done(folder, json.loads((folder.parent / "prepared" / "meta.json").read_bytes()))
    read_meta(folder)


READERS: dict[str, Callable[[Path], Any]] = {
    "text/config.json": read_run,
    "labels/config.json": read_run,
    "adapters/config.json": read_run,
    "text/log.jsonl": lambda run: read_rows(run / "log.jsonl"),
    "base/config.json": resolve_weights,
    "classifier/config.json": resolve_weights,
    "classifier/tokenizer_config.json": resolve_weights,
    "classifier/tokenizer.json": resolve_weights,
    "sharded/model.safetensors.index.json": resolve_weights,
    "peft/adapter_config.json": resolve_weights,
    "secret/meta.json": read_prepared,
    "secret/report.json": read_report,
    "secret/canaries.json": canaries.read,
    "dropped/dropped.jsonl": lambda folder: find_examples(folder / "dropped.jsonl"),
}
TARGETS: dict[str, list[str]] = {
    "text/config.json": [
        "sample {} --prompt a --max-new-tokens 2 --device cpu",
        "export {} new",
        "verify {}",
        "replay {} --step 2",
        "report {} --out new.html",
        "evaluate {} --data text.txt --device cpu --json new.json",
        "train --init-from {} --data text.txt --T 16 --B 2 --steps 1 --out new --device cpu",
        f"train {refusals.RUN} --data text.txt --steps 3 --out {{}}",
    ],
    "text/log.jsonl": [
        "replay {} --step 2",
        "report {} --out new.html",
        f"train {refusals.RUN} --data text.txt --steps 4 --out {{}}",
    ],
    "text/checkpoints/3/progress/metadata": [
        "sample {} --prompt a --max-new-tokens 2 --device cpu",
        "verify {}",
        f"train {refusals.RUN} --data text.txt --steps 3 --out {{}}",
    ],
    "text/checkpoints/3/state/_METADATA": ["sample {} --prompt a --max-new-tokens 2 --device cpu", "verify {}"],
    "text/checkpoints/3/_CHECKPOINT_METADATA": ["sample {} --prompt a --max-new-tokens 2 --device cpu"],
    "labels/config.json": ["predict {} --data labels.csv --out new.jsonl --device cpu", "export {} new"],
    "adapters/config.json": ["sample {} --prompt a --max-new-tokens 2 --device cpu"],
    "base/config.json": ["sample {} --prompt a --max-new-tokens 2 --device cpu"],
    "classifier/config.json": ["predict {} --data labels.csv --out new.jsonl --device cpu"],
    "classifier/tokenizer_config.json": ["predict {} --data labels.csv --out new.jsonl --device cpu"],
    "classifier/tokenizer.json": ["predict {} --data labels.csv --out new.jsonl --device cpu"],
    "sharded/model.safetensors.index.json": ["sample {} --prompt a --max-new-tokens 2 --device cpu"],
    "peft/adapter_config.json": ["sample {} --prompt a --max-new-tokens 2 --device cpu"],
    "secret/meta.json": [
        "inspect {} --html new.html",
        "evaluate text --data {} --device cpu",
        "prepare corpus --val 0.3 --out {}",
    ],
    "secret/report.json": ["inspect {} --html new.html"],
    "dropped/dropped.jsonl": ["inspect {} --html new.html"],
    "secret/canaries.json": ["evaluate text --canaries {} --device cpu"],
}


def fill(folder: Path) -> None:
    """What refusals.fill makes, and the other kinds of folders that we write or read."""
    refusals.fill(folder)
    config = json.loads((folder / "base" / "config.json").read_text())
    config |= {"architectures": ["GPT2ForSequenceClassification"], "id2label": {"0": "bad", "1": "good"}}
    shutil.copytree(folder / "base", folder / "classifier")
    (folder / "classifier" / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "base" / "model.safetensors")
    save_file(tensors | {"score.weight": np.ones((2, 8), np.float32)}, folder / "classifier" / "model.safetensors")
    texts = GPT2_TOKENIZER.hugging_face_files(32, TEMPLATE)
    (folder / "classifier" / "tokenizer_config.json").write_text(texts["tokenizer_config.json"])
    tokenizer = {"post_processor": json.loads(texts["tokenizer.json"])["post_processor"]}  # all that is read
    (folder / "classifier" / "tokenizer.json").write_text(json.dumps(tokenizer))
    shutil.copytree(folder / "base", folder / "sharded")
    (folder / "sharded" / "model.safetensors").unlink()
    files = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in files if files[name] == file}, folder / "sharded" / file)
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (folder / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    matrices = {"A": np.ones((2, 8), np.float32), "B": np.zeros((24, 2), np.float32)}
    name = "base_model.model.transformer.h.1.attn.c_attn.lora_{}.weight"
    (folder / "peft").mkdir()
    save_file({name.format(kind): m for kind, m in matrices.items()}, folder / "peft" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": "base", "lora_alpha": 6, "bias": "none"}
    config |= {"alpha_pattern": {"c_attn": 3}, "use_dora": False, "r": 2}
    (folder / "peft" / "adapter_config.json").write_text(json.dumps(config))
    shutil.copytree(folder / "prepared", folder / "dropped")
    drop = {"file": "a.txt", "unit": 0, "line": 7, "step": "read", "reason": "empty"}
    (folder / "dropped" / "dropped.jsonl").write_text(3 * (json.dumps(drop) + "\n"))


def sweep_commands(folder: Path, target: str, words: str, every: int = 1) -> dict[str, int]:
    """Try every Nth damage of a file on a command, {} in its words: how many were refused, and taken."""

    def is_taken(damaged: Path) -> bool:
        for made in folder.glob("new*"):
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        ended = run_command(words.format(damaged.name).split())
        assert not ended.problem, ended.problem[-300:]
        return not ended.code

    with mock.patch.object(memorization, "REFERENCES", 63):  # of canaries that are taken, each a pass of the model
        return _sweep(folder, target, is_taken, every, fresh_copy=True)


def sweep_reader(folder: Path, target: str, every: int = 1) -> dict[str, int]:
    """Try every Nth damage of a file on the function that reads it: how many were refused, and taken."""

    def is_taken(damaged: Path) -> bool:
        try:
            READERS[target](damaged)
        except JaxgptError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, error
            return False
        return True

    return _sweep(folder, target, is_taken, every, fresh_copy=False)


def _sweep(folder: Path, target: str, is_taken: Callable[[Path], bool], every: int, fresh_copy: bool) -> dict[str, int]:
    """Damage a file of a copy of a folder: a fresh copy each time, or one for all.

    Raises:
      AssertionError: what went wrong, and with which damage.
    """
    name, _, file = target.partition("/")
    counts, faults, damaged = collections.Counter(), [], folder / f"damaged-{os.getpid()}"
    content = (folder / name / file).read_bytes()
    with contextlib.chdir(folder):
        for how, new in itertools.islice(damages(content), 0, None, every):
            if fresh_copy or not damaged.exists():
                shutil.rmtree(damaged, ignore_errors=True)
                shutil.copytree(folder / name, damaged)
            put(damaged / file, how, new)
            started = time.perf_counter()
            try:
                with limit_time(20):
                    counts["taken" if is_taken(damaged) else "refused"] += 1
            except Exception as error:
                faults.append(f"{target}, {how}: {type(error).__name__}: {str(error)[:300]}")
            if time.perf_counter() - started > 5:
                faults.append(f"{target}, {how}: {time.perf_counter() - started:.1f} s")
        shutil.rmtree(damaged)
    assert not faults, "\n".join(faults)
    return dict(counts)


@dataclasses.dataclass
class Flags:
    """Damage the JSON of our own folders, and give it to the commands that read it."""

    only: str = ""
    """A part of the names of the files and commands."""
    every: int = 1
    """Try only every Nth damage."""


if __name__ == "__main__":
    flags = tyro.cli(Flags)
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name))
        for target, words in [(target, "") for target in READERS] + [
            (target, words) for target, lines in TARGETS.items() for words in lines
        ]:
            if flags.only in f"{target} {words}":
                started = time.perf_counter()
                try:
                    folder = Path(name)
                    result = (
                        sweep_commands(folder, target, words, flags.every) if words else sweep_reader(folder, target)
                    )
                except AssertionError as error:
                    result = f"FAULTS\n{error}"
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                seconds = time.perf_counter() - started
                print(f"{target}, {words.split(' ')[0]}: {result}, {seconds:.0f} s, {peak} MB", flush=True)
