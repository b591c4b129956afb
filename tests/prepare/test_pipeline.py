"""The stages of a preparation and their order. What whole preparations make is in tests/commands/test_prepare.py."""

import contextlib
import dataclasses
import io
import json
import os
import sys
from pathlib import Path

import pytest

from jaxgpt.data import shards
from jaxgpt.errors import DataError, UsageError
from jaxgpt.prepare import dedup, documents, tokenize
from jaxgpt.prepare.config import PrepareConfig
from jaxgpt.prepare.pipeline import prepare, stages
from tests.support.trees import snapshot


@pytest.fixture
def config(tmp_path, write):
    """Of 20 documents, one of them twice."""
    path = write("text.jsonl", [{"text": f"Document {n % 19} has {n % 19 + 7} words or so."} for n in range(20)])
    (tmp_path / "out").mkdir()
    return PrepareConfig(inputs=(path,), out=tmp_path / "out", workers=1, val=0)


class Log:
    """What a preparation says, and how many tasks of each stage have ended."""

    def __init__(self):
        self.said, self.done = {}, {}

    def say(self, label, text):
        self.said[label] = text

    @contextlib.contextmanager
    def progress(self, stage, tasks):
        self.done[stage] = [0, tasks]

        def advance(done):
            self.done[stage][0] += done

        yield advance


@pytest.mark.parametrize(
    "flags, names",
    [
        ({"dedup": "none"}, ["tokenise"]),
        ({"index": False}, ["clean", "exact", "tokenise"]),
        ({}, ["clean", "exact", "tokenise", "index"]),
        (
            {"dedup": "minhash"},
            ["clean", "exact", "signatures", "buckets", "clusters", "tokenise", "index", "index-near"],
        ),
    ],
    ids=str,
)
def test_the_stages_are_those_that_the_flags_need(config, tmp_path, flags, names):
    made = stages(dataclasses.replace(config, **flags), 7, tmp_path)
    assert [name for name, _, _ in made] == names
    alone = ("exact", "clusters", "index")
    for name, steps, tasks in made:
        buckets = dedup.MINHASH.num_buckets if name in ("buckets", "index-near") else 7
        assert tasks == (1 if name in alone else buckets) and steps


def test_steps_come_in_the_order_of_the_flags_that_name_them(config, tmp_path):
    config = dataclasses.replace(config, dedup="none", clean=("controls", "unicode"), min_chars=5, pii="report")
    ((_, steps, _),) = stages(config, 1, tmp_path)
    names = [type(step).__name__ for step in steps]
    assert names[0] == "Read" and names[-2:] == ["Anonymise", "Tokenize"] and len(names) == 6


def test_a_preparation_says_what_it_reads_and_returns_what_it_made(config):
    log = Log()
    report = prepare(config, "the command", log.say, log.progress)
    assert report["records"] == 20 and report["kept"]["documents"] == 19
    assert report["splits"]["train"]["documents"] == 19
    assert list(log.said) == ["input"] and log.said["input"].startswith("1 file, ")
    assert log.done == {name: [1, 1] for name in ("clean", "exact", "tokenise", "index")}
    meta = json.loads((config.out / "meta.json").read_text())
    assert meta["command"] == "the command" and shards.verify(config.out) == 1
    assert not (config.out / "work").exists()

    assert prepare(dataclasses.replace(config, workers=2), "again", log.say, log.progress) is None
    with pytest.raises(UsageError, match=r"is prepared already, with another INPUT, --val; choose another --out"):
        prepare(dataclasses.replace(config, val=0.5, inputs=(*config.inputs,) * 2), "", log.say, log.progress)
    assert json.loads((config.out / "meta.json").read_text()) == meta and not (config.out / "work").exists()


@pytest.mark.parametrize("module, function", [(documents, "write_pieces"), (tokenize, "collect")])
def test_an_interrupted_start_is_resumed_with_the_same_input_only(config, monkeypatch, module, function):
    """Of a pipe, and of a file that has changed meanwhile: a refusal leaves all as it was."""

    def start(config, piped=b"", interrupt=False):
        log = Log()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
            if interrupt:
                patch.setattr(module, function, lambda *_: exec("raise KeyboardInterrupt"))
            return prepare(config, "", log.say, log.progress)

    path = Path(*config.inputs)
    text, status = path.read_bytes(), path.stat()
    pipe = dataclasses.replace(config, inputs=("-",), out=config.out.with_name("piped"))
    for each in (config, pipe):
        with pytest.raises(KeyboardInterrupt):
            start(each, text, interrupt=True)
    before = snapshot(config.out / "work"), snapshot(pipe.out / "work")
    path.write_bytes(text.replace(b"words", b"wards"))
    with pytest.raises(UsageError, match="out is half prepared already, from files that have changed since; choose"):
        start(config)
    with pytest.raises(UsageError, match=r"^-: is not the input of the start that .*/input0\.jsonl has; to resume, "):
        start(pipe, path.read_bytes())
    assert (snapshot(config.out / "work"), snapshot(pipe.out / "work")) == before
    path.write_bytes(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [start(each, text)["records"] for each in (config, pipe)] == [20, 20]


def test_what_leaves_nothing_can_be_put_right(config):
    log = Log()
    with pytest.raises(DataError, match="no document is left to train on, of 20; "):
        prepare(dataclasses.replace(config, min_chars=10**6), "", log.say, log.progress)
    assert prepare(config, "", log.say, log.progress)["kept"]["documents"] == 19


def test_where_all_documents_are_for_validation_the_error_says_so(config, write):
    log, texts = Log(), [f"Text {n}" for n in range(20)]
    path = write("val.jsonl", [{"text": text} for text in texts if tokenize.is_validation(text.encode(), 0.5)])
    with pytest.raises(DataError, match="of 7; all that are left are for validation; use --val 0"):
        prepare(dataclasses.replace(config, inputs=(path,), val=0.5), "", log.say, log.progress)
