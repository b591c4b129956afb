"""Wrong inputs by the thousand: token files, texts, JSON, logs, weights and flags, damaged at random.

python tests/support/fuzz.py --inputs 10000
python tests/support/fuzz.py --only repetitions --characters 8000000 --inputs 60

Each input must be taken for what it is, or refused by an error of jaxgpt.errors, which a command prints as one line:
another exception is a failure, so is more than 20 seconds, and so is a success that is none. What success is, each
target below knows by another way than the code that it tries.
"""

import contextlib
import copy
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import regex
import tyro
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tiktoken_ext.openai_public import r50k_pat_str

sys.path.insert(0, str(Path(__file__).parents[2]))

from jaxgpt import console
from jaxgpt.commands import replay
from jaxgpt.commands.export import ExportConfig
from jaxgpt.commands.fit import FitConfig
from jaxgpt.commands.flags import parse, parse_some
from jaxgpt.commands.replay import ReplayConfig
from jaxgpt.commands.sample import SampleConfig
from jaxgpt.commands.verify import VerifyConfig
from jaxgpt.data import corpus, records
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.data.text import Text
from jaxgpt.errors import CheckpointError, CorruptError, DataError, UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.prepare import readers, sources
from jaxgpt.runs import progress
from jaxgpt.runs.hub import HUB
from jaxgpt.runs.huggingface import load, save_hf
from jaxgpt.runs.rows import read_rows
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.log import MetricsLog
from jaxgpt.training.preset import Preset
from jaxgpt.training.resume import load_run_config, resume_command
from tests.support.limits import limit_time

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak. Zürich, 東京, 🙂\n" * 3
BLANK = rb"(\xef\xbb\xbf)?[ \t\r\v\f]*"  # a line that is skipped
START = {"step": 0, "B": 2, "T": 16, "accumulate": 1, "steps": 9, "dtype": "float32", "fingerprint": 64 * "0"}
Target = Callable[[st.DataObject, Path], bool]  # tries one input in an empty folder; whether it was taken


# ---- What is drawn

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "gpt2", "-1", "1e400", "--help", "../x", "nan", "\x00", "bfloat16", "auto"]),
)
anything = st.recursive(scalars, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some))


@st.composite
def damaged(draw: Any, content: bytes) -> bytes:
    """Other bytes: a bit flipped, some cut out, put in, written over, or all of them new."""
    at = draw(st.integers(0, len(content)))
    end = draw(st.integers(at, min(len(content), at + 40)) | st.just(len(content)))
    how = draw(st.sampled_from(["flip", "cut", "put in", "write over", "new", "twice"]))
    if how == "flip" and at < len(content):
        return content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
    if how == "new":
        return draw(st.binary(max_size=300))
    if how == "twice":
        return content[:end] + content[at:]
    new = b"" if how == "cut" else draw(st.binary(max_size=40))
    return content[:at] + new + content[at if how == "put in" else end :]


@st.composite
def changed(draw: Any, document: dict) -> bytes:
    """The JSON of a document in which one value, at any depth, is another, or is gone; or with damaged bytes."""
    document = copy.deepcopy(document)
    at, key = document, draw(st.sampled_from(sorted(document)))
    while isinstance(at[key], dict) and at[key] and draw(st.booleans()):
        at = at[key]
        key = draw(st.sampled_from(sorted(at)))
    how = draw(st.sampled_from(["value", "value", "gone", "bytes", "other"]))
    if how == "value":
        at[key] = draw(anything)
    elif how == "gone":
        del at[key]
    elif how == "other":
        return json.dumps(draw(anything)).encode()
    content = json.dumps(document).encode()
    return draw(damaged(content)) if how == "bytes" else content


# ---- What is tried


def token_files(data: st.DataObject, folder: Path) -> bool:
    tokens = encoding().encode_ordinary(TEXT)
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    whole = data.draw(st.sampled_from([header.tobytes(), b""])) + np.array(tokens, "<u2").tobytes()
    content = data.draw(damaged(whole) | st.binary(max_size=8) | st.just(whole))
    (folder / "tokens.bin").write_bytes(content)
    try:
        found = corpus.load(str(folder / "tokens.bin"), folder / "cache")
    except DataError:
        return False
    body = content[1024:] if content[:4] == header.tobytes()[:4] else content
    assert found.tokens.tobytes() == body and found.tokens.max() < 50257
    assert found.fingerprint == hashlib.sha256(body).hexdigest()
    return True


def texts(data: st.DataObject, folder: Path) -> bool:
    """And the cache of their tokens, damaged between two runs."""
    content = data.draw(damaged(TEXT.encode()) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "ignore")))
    (folder / "text.txt").write_bytes(content)
    try:
        found = corpus.load(str(folder / "text.txt"), folder / "cache")
    except DataError:
        return False
    whole = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    assert encoding().decode_bytes(found.tokens.tolist()) == whole
    for cached in (folder / "cache").rglob("*.bin"):
        cached.write_bytes(data.draw(damaged(cached.read_bytes())))
    assert corpus.load(str(folder / "text.txt"), folder / "cache").fingerprint == found.fingerprint
    return True


def json_lines(data: st.DataObject, folder: Path) -> bool:
    """By train, and by prepare, which counts every line that is none."""
    rows = [{"text": f"{n}. {TEXT}", "score": 0.5, "from": {"page": [None]}} for n in range(3)]
    lines, which = [json.dumps(row).encode() for row in rows], data.draw(st.integers(0, 2))
    lines[which] = data.draw(changed(rows[which]))
    content = data.draw(damaged(b"\n".join(lines)) | st.just(b"\n".join(lines)))
    (folder / "a.jsonl").write_bytes(content)
    unit = sources.Unit(str(folder / "a.jsonl"), "jsonl", 0, len(content), len(content))
    found = dict(readers.READERS["jsonl"](unit, "text", readers.LineCounter()))
    numbered = {n: line for n, line in enumerate(content.split(b"\n"), 1) if not re.fullmatch(BLANK, line)}
    assert found.keys() == numbered.keys()
    texts = {n: text for n, text in found.items() if isinstance(text, str)}

    def text_of(line: bytes) -> str:
        record = json.loads(line.decode("utf-8-sig"))
        return record.get("text") or [value for name, value in record.items() if name.strip().lower() == "text"][-1]

    assert texts == {n: text_of(numbered[n]) for n in texts}
    try:
        taken = {n: records.require_text("", row, "text") for n, row in records.read_jsonl(folder / "a.jsonl")}
    except DataError:
        assert len(texts) < len(found) or not found or not all(text.strip() for text in texts.values())
        return False
    assert taken == found
    return True


CHARACTERS = 150_000  # the most in a repetitive text


def repetitions(data: st.DataObject, folder: Path) -> bool:
    """A few characters over and over; GPT-2's pattern, with Python's `regex`, says which words the text has."""
    some = functools.partial(st.text, st.sampled_from(" \n\t\u3000\x1ca's\u00e97.-\u4e2d"), max_size=6)
    unit = data.draw(some(min_size=1))
    count = data.draw(st.integers(CHARACTERS // 8 // len(unit), CHARACTERS // len(unit)))
    text = data.draw(some()) + unit * count + data.draw(some())
    (folder / "text.txt").write_bytes(text.encode() + data.draw(st.sampled_from([b"", b"", b"\xff"])))
    try:
        found = corpus.load(str(folder / "text.txt"), folder / "cache")
    except DataError:
        assert (folder / "text.txt").read_bytes().endswith(b"\xff")
        return False
    encode_word = functools.lru_cache(encoding().encode_ordinary)
    words = regex.findall(r50k_pat_str, text)
    assert found.tokens.tolist() == list(itertools.chain.from_iterable(map(encode_word, words)))
    return True


def names(data: st.DataObject, folder: Path) -> bool:
    """Of texts and weights: no name but the right ones leads anywhere."""
    (folder / "text.txt").write_text(TEXT)
    odd = (
        st.text() | st.text(max_size=9).map(lambda text: 40 * text) | st.sampled_from(["", ".", "..", "/", "~", "a/b"])
    )
    name = data.draw(odd | odd.map(lambda name: f"{folder}/{name}") | st.just(f"{folder}/text.txt"))
    for find_it, refused in (
        (lambda: corpus.load(name, folder / "cache"), DataError),
        (lambda: resolve_weights(name), CheckpointError),
    ):
        try:
            find_it()
        except refused as error:
            assert str(error)
        else:
            known = (f"{folder}/text.txt", f"{folder}/./text.txt", "shakespeare", *HUB)
            assert name in known or Path(name).is_file(), name
            return True
    return False


def run_configs(data: st.DataObject, folder: Path) -> bool:
    flags = TrainConfig.of(B=2, T=16, init_from="gpt2").flat()
    flags |= {"out": "out", "data_kind": "text", "starts": [START], "versions": {}}
    (folder / "checkpoints").mkdir()
    (folder / "config.json").write_bytes(data.draw(changed(flags)))
    with contextlib.suppress(CheckpointError):
        assert resolve_weights(folder).config.n_layer == json.loads((folder / "config.json").read_text()).get(
            "n_layer", 12
        )
    try:
        config, starts = load_run_config(folder)
    except CheckpointError:
        return False
    there = json.loads((folder / "config.json").read_text())
    assert starts == there["starts"]
    for name, value in config.flat().items():
        former = (name == "objective" and "data_kind" not in there) or (name, there.get(name)) == ("data", "auto")
        former |= name == "probe_every" and there.get("probe") == "none"
        if there.get(name) is not None and name != "out" and not former:  # of older runs, with another meaning
            assert value == there[name], name
    return True


def checkpoint_json(data: st.DataObject, folder: Path) -> bool:
    now = progress.Progress(
        step=3, position=96, tokens_seen=96, B=2, T=16, steps=9, accumulate=1, identity={"lr": 1e-3, "seed": 0}
    )
    state = {"a": np.arange(3.0, dtype=np.float32), "b": np.zeros((), np.int32)}
    saved = progress.to_json(now, state, {"jax": "1"})
    content = data.draw(changed(saved) | st.just(json.dumps(saved).encode()))
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False  # orbax reads it, and tells of it as of any damaged file
    try:
        read, fingerprint = progress.from_json(document, folder / "3")  # its step
    except CorruptError:
        return False
    assert read == now and fingerprint == saved["fingerprint"]
    return True


def logs(data: st.DataObject, folder: Path) -> bool:
    """At resume: what stays is the log's beginning, of steps before the resumed one."""
    rows = [{"step": n, "loss": 2.5, "position": 32 * n, "tokens_seen": 32 * n + 32} for n in range(6)]
    lines, which = [json.dumps(row).encode() + b"\n" for row in rows], data.draw(st.integers(0, 5))
    lines[which] = data.draw(changed(rows[which])) + b"\n"
    content = data.draw(damaged(b"".join(lines)) | st.just(b"".join(lines)))
    log, start = folder / "log.jsonl", data.draw(st.integers(0, 7))
    log.write_bytes(content)
    there = read_rows(log)
    with contextlib.redirect_stdout(io.StringIO()), MetricsLog(log, start, 9, []):
        pass
    kept = log.read_bytes()
    assert content.startswith(kept) and (not kept or kept.endswith(b"\n"))
    assert all(step < start for step in read_rows(log))
    assert [step for step in read_rows(log) if there[step] != read_rows(log)[step]] == []

    tokens = np.arange(150, dtype=np.uint16)
    text = Text("a text", tokens, START["fingerprint"], B=2, T=16)
    run = replay.ReplayedRun(TrainConfig.of(B=2, T=16), [START], there, text)
    for step in there:
        with contextlib.suppress(CheckpointError):
            batch, _ = run.batch(step)
            x, y = batch["tokens"], batch["targets"]
            assert x.ravel().tolist() == list(range(there[step]["position"], there[step]["position"] + 32))
            assert (y == x + 1).all()
    return bool(kept)


flag_names = sorted(TrainConfig().flat())
words = st.one_of(
    st.sampled_from(flag_names).map(lambda name: f"--{name.replace('_', '-')}"),
    scalars.map(str),
    st.sampled_from(["--n", "--prompt", "--step", "--resume", "--gpu", "--max-new-tokens", "--top-p", "--top-k", "-B"]),
    st.tuples(st.sampled_from(flag_names), scalars).map(lambda pair: f"--{pair[0]}={pair[1]}"),
)


def flags(data: st.DataObject, folder: Path) -> bool:
    """train.py's flags, which must come back from the command that the config is written as; other commands' too."""
    good = st.tuples(st.sampled_from(flag_names), st.integers(1, 9)).map(lambda pair: f"--{pair[0]}={pair[1]}")
    argv = data.draw(st.lists(words, max_size=5) | st.lists(good, max_size=3))
    kind = data.draw(
        st.sampled_from(3 * [TrainConfig] + [SampleConfig, ReplayConfig, VerifyConfig, FitConfig, ExportConfig])
    )
    found = []

    def main(argv: list[str]) -> int:
        preset = parse_some(Preset, argv) if kind is TrainConfig else None
        found.append(parse(kind, argv, default=preset and TrainConfig.from_preset(preset)))
        return 0

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = console.run(main, argv)
        except SystemExit as exit:  # --help
            assert exit.code in (0, None) and "usage" in out.getvalue()
            return True
    if code:
        assert code == UsageError.exit_code and not out.getvalue()
        assert error.getvalue().startswith("error: ") and error.getvalue().count("\n") == 1, error.getvalue()
        return False
    assert not error.getvalue()
    if kind is TrainConfig and found[0].preset.init_from is None:  # else the weights, set its shape
        again = shlex.split(resume_command(found[0]).removeprefix(console.program("train")))
        default = TrainConfig.from_preset(parse_some(Preset, again))
        if "--steps" in again:  # as train.main does
            default = default.replace(epochs=None)
        assert parse(TrainConfig, again, default=default) == found[0].replace(fresh=False, profile=0)
    return True


def weights(data: st.DataObject, folder: Path) -> bool:
    """In Hugging Face's layout: another header, config or length is found out. (Other numbers are other weights.)"""
    with tempfile.TemporaryDirectory() as name:
        save_hf(_model(), Path(name) / "whole")
        shutil.copytree(Path(name) / "whole", folder, dirs_exist_ok=True)
    file = folder / data.draw(st.sampled_from(["config.json", "model.safetensors", "model.safetensors"]))
    content = file.read_bytes()
    if file.suffix == ".json":
        new = data.draw(changed(json.loads(content)))
    else:
        header = 8 + int.from_bytes(content[:8], "little")
        new = data.draw(damaged(content[:header])) + content[header:]
    file.write_bytes(new)
    try:
        model = load(resolve_weights(folder))
    except CheckpointError:
        return False
    pairs = list(zip(jax.tree.leaves(model), jax.tree.leaves(_model()), strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    assert file.suffix != ".json" or all(np.array_equal(a, b) for a, b in pairs)
    return True


_made: list[GPT2] = []


def _model() -> GPT2:
    if not _made:
        _made.append(GPT2(GPT2Config(vocab_size=11, block_size=4, n_layer=1, n_head=1, n_embd=4), jax.random.key(0)))
    return _made[0]


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (token_files, texts, json_lines, repetitions, names, run_configs, checkpoint_json, logs, flags, weights)
}


# ---- How


def fuzz(target: Target, inputs: int, number: int = 0) -> tuple[int, int]:
    """Try inputs on a target, drawn from a seed: how many there were, and how many of them were taken."""
    count, taken = 0, 0

    @seed(number)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.data())
    def one(data: st.DataObject) -> None:
        nonlocal count, taken
        with tempfile.TemporaryDirectory() as name, limit_time(20), warnings.catch_warnings():
            taken += target(data, Path(name))
        count += 1

    one()
    return count, taken


@dataclasses.dataclass
class Flags:
    """Try damaged inputs on all that reads one."""

    inputs: int = 10_000
    """How many, over all targets."""
    seed: int | None = None
    """Of what is drawn; by default another each time."""
    only: str | None = None
    """A single target."""
    characters: int = CHARACTERS
    """The most in a repetitive text."""


if __name__ == "__main__":
    options = tyro.cli(Flags)
    number = random.randrange(2**31) if options.seed is None else options.seed
    jax.config.update("jax_platforms", "cpu")
    print(f"seed {number}", flush=True)
    total, CHARACTERS = 0, options.characters
    targets = {options.only: TARGETS[options.only]} if options.only else TARGETS
    for name, target in targets.items():
        start = time.perf_counter()
        count, taken = fuzz(target, -(-options.inputs // len(targets)), number)
        total += count
        print(f"{name:16} {count:6,} inputs, {taken:6,} taken, {time.perf_counter() - start:5.0f} s", flush=True)
    print(f"{total:,} inputs: each was refused by a line, or taken for what it is")
