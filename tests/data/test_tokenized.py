"""Examples as tokens, and their place in the cache."""

import dataclasses
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.base import ExampleKind
from jaxgpt.data.config import FieldNames
from jaxgpt.data.examples import read_examples
from jaxgpt.data.gpt2_tokenizer import GPT2Tokenizer, encoding
from jaxgpt.errors import DataError

PAIRS = [{"prompt": f"What is {n}?", "completion": f" It is {n}.\n"} for n in range(300)]
TEXTS = [{"text": f"It is {n}", "label": n % 3} for n in range(40)]


def equal(a, b):
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))


def open_pairs(path):
    return read_examples(path)[1]


@pytest.fixture
def tokenizes(monkeypatch):
    """Whether a call tokenized anything."""
    texts = []
    encode = GPT2Tokenizer.encode
    monkeypatch.setattr(GPT2Tokenizer, "encode", lambda self, text: texts.append(text) or encode(self, text))

    def tokenizes(function, *arguments, **more):
        texts.clear()
        function(*arguments, **more)
        return bool(texts)

    return tokenizes


def test_segments_are_tokenized_one_by_one_in_their_order(write):
    opened = open_pairs(write("a.jsonl", PAIRS))
    segments = [opened.tokens[start:end].tolist() for start, end in itertools.pairwise(opened.starts)]
    assert segments[::2] == [encoding().encode_ordinary(pair["prompt"]) for pair in PAIRS]
    assert segments[1::2] == [[*encoding().encode_ordinary(pair["completion"]), encoding().eot_token] for pair in PAIRS]
    assert opened.learned.tolist() == [False, True] * 300 and opened.lines.tolist() == list(range(1, 301))
    assert opened.first.tolist() == list(range(0, 600, 2)) and opened.end.tolist() == list(range(2, 602, 2))


@pytest.mark.parametrize("records", [PAIRS, TEXTS], ids=["pairs", "labels"])
def test_the_second_start_does_not_tokenize(write, cache, tokenizes, records):
    assert tokenizes(examples.load, write("a.jsonl", records), 4, 16)
    first, second = (examples.load(write(name, records), 4, 16)[0] for name in ("a.jsonl", "renamed.JSONL"))
    assert first.fingerprint == second.fingerprint and first.labels == second.labels
    assert not tokenizes(examples.load, write("renamed.JSONL", records), 4, 32, seed=3, fraction=0.1)


def test_the_cache_goes_by_all_that_decides_the_tokens(write, cache, tokenizes):
    path = write("a.jsonl", TEXTS)
    assert tokenizes(examples.load, path, 4, 16)
    assert tokenizes(examples.load, write("a.jsonl", [*TEXTS[:-1], {"text": "It is 99", "label": 0}]), 4, 16)
    assert not tokenizes(examples.load, write("a.jsonl", TEXTS), 4, 16)
    assert tokenizes(examples.load_texts, path, 4, 16, ["0", "1", "2"])  # without labels
    table = 'text,label\n"a\t",1\nb,2\n'
    assert tokenizes(examples.load, write("a.csv", table), 4, 16)
    with pytest.raises(DataError, match="2 fields, and the first line names 1"):
        examples.load(write("a.tsv", table), 4, 16)  # the same bytes are another table
    path = write("b.jsonl", [{"a": "x", "b": "y", "instruction": "z", "output": "z"}])
    names = {"prompt_field": "a", "completion_field": "b"}, {"prompt_field": "b", "completion_field": "a"}
    assert all(tokenizes(examples.load, path, 4, 64, fields=FieldNames(**given)) for given in names)
    assert tokenizes(examples.load, path, 4, 64)


def test_other_code_is_another_key(write, cache, tokenizes):
    code, namespace = "def parse(where, record):\n    return [(record['a'], True)]\n", {}
    module, path = write("kind.py", code), write("a.jsonl", [{"a": "x"}])
    exec(compile(code, module, "exec"), namespace)
    kinds = [ExampleKind("pairs", ("a",), namespace["parse"], tabulate=None)]
    assert [tokenizes(read_examples, path, kinds) for _ in "12"] == [True, False]
    write("kind.py", code.replace("True", "False"))
    assert tokenizes(read_examples, path, kinds)
    Path(module).unlink()  # unknown code may have changed
    assert all(tokenizes(read_examples, path, kinds) for _ in "12")


def test_a_corrupt_cache_is_replaced(write, cache):
    path = write("a.jsonl", PAIRS)
    first = open_pairs(path)
    (kept,) = (cache / "tokens").iterdir()
    content = kept.read_bytes()
    for at in (0, 40, 200, len(content) // 2, len(content) - 1):
        kept.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert equal(open_pairs(path), first) and kept.read_bytes() == content
    for corrupt in (b"", content[:20], content[:32], content[:-1], content + b"x", content[: len(content) // 2]):
        kept.write_bytes(corrupt)
        assert equal(open_pairs(path), first) and kept.read_bytes() == content


def test_an_unwritable_cache_does_not_matter(write, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGPT_CACHE", write("file", "x"))
    assert len(open_pairs(write("a.jsonl", PAIRS))) == 300


def test_memory_is_that_of_the_tokens(write, cache):
    """The texts of a file of 2 MB are never in memory at once, as records or as lists of tokens."""
    words = "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer. " * 4
    path = write("a.jsonl", [{"prompt": f"{n}: {words}", "completion": words} for n in range(3000)])
    size = Path(path).stat().st_size
    encoding()
    tracemalloc.start()
    assert len(open_pairs(path)) == 3000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 2e6 and peak < 3 * size  # with the file's bytes


def test_an_error_names_its_line(write, cache):
    with pytest.raises(DataError, match="line 280: 'prompt' is of type int, and must be a text"):
        open_pairs(write("a.jsonl", [*PAIRS[:279], {"prompt": 3, "completion": "c"}, *PAIRS]))
    assert not (cache / "tokens").exists()
