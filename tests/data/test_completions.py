"""Prompts with completions as rows."""

import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.errors import DataError


def documents(loaded):
    """What each document of a table is: its text, and the text of it that is learned."""
    x, y, positions = loaded.table.values()
    for row in range(len(x)):
        starts = np.flatnonzero(positions[row] == 0)
        for start, end in zip(starts, [*starts[1:], loaded.T], strict=True):
            learned = y[row, start:end]
            if (learned >= 0).any():
                last = int(np.flatnonzero(learned >= 0)[-1])
                text = encoding().decode([*x[row, start : start + last + 1].tolist(), int(learned[last])])
                yield text, encoding().decode([int(token) for token in learned if token >= 0])


def test_completions_are_learned_and_prompts_are_not(write):
    records = [{"prompt": f"What is {n}?", "completion": f" It is {n}, and no more."} for n in range(30)]
    loaded = examples.load(write("a.jsonl", records), B=2, T=40)[0]
    texts = [
        (f"What is {n}? It is {n}, and no more.<|endoftext|>", f" It is {n}, and no more.<|endoftext|>")
        for n in range(30)
    ]
    assert sorted(documents(loaded)) == sorted(texts)
    assert loaded.count == 30 and len(loaded.table["tokens"]) < 15 and not loaded.notes  # several in a row
    assert loaded.num_bytes() == sum(len(record["completion"]) for record in records)
    assert str(loaded) == f"{loaded.name}: 30 examples of completions, in {len(loaded.table['tokens'])} rows"


def test_prompts_and_completions_may_be_empty(write):
    """Nothing is a document that begins after <|endoftext|>; what is learned of no completion is that it ends."""
    end, records = "<|endoftext|>", [("", "one two"), ("three", ""), ("", ""), (" ", "\n")]
    path = write("a.jsonl", [{"prompt": prompt, "completion": completion} for prompt, completion in records])
    loaded = examples.load(path, B=2, T=8)[0]
    texts = [(f"{end}one two{end}", f"one two{end}"), (f"three{end}", end), (end + end, end), (f" \n{end}", f"\n{end}")]
    assert (
        sorted(documents(loaded)) == sorted(texts) and len(loaded.table["tokens"]) == 1
    )  # 3, 1, 1 and 2 tokens that predict
    assert loaded.notes == ("2 examples with an empty completion: only <|endoftext|> is learned",)
    assert loaded.num_bytes() == len("one two\n")
    assert examples.load(write("a.csv", "prompt,completion\n,one two\nthree,\n,\n"), 2, 8)[0].count == 3


def test_rows_are_nearly_full(write):
    lengths = np.random.default_rng(0).integers(20, 201, 500).tolist()  # tokens that are predicted
    records = [{"prompt": " a" * (length // 2), "completion": " a" * (length - length // 2)} for length in lengths]
    for T in (256, 512):
        loaded = examples.load(write("a.jsonl", records), B=8, T=T)[0]
        assert loaded.batches_per_epoch() * 8 * T <= 1.02 * sum(lengths)


def test_what_is_too_long_loses_its_end_and_is_counted(write):
    records = [
        {"prompt": "one two", "completion": " three four five six seven"},
        {"prompt": "a b c d e f g", "completion": " h"},
    ]
    loaded = examples.load(write("a.jsonl", records), B=2, T=4)[0]
    assert list(documents(loaded)) == [("one two three four five", " three four five")]
    assert loaded.notes == (
        "1 example cut at the end, to --T 4",
        "1 example skipped: the prompt alone fills --T 4",
    )


def test_the_fingerprint_is_of_what_is_learned_from(write):
    a = write("a.jsonl", [{"prompt": "a", "completion": "b"}])
    b = write("b.jsonl", [{"completion": "b", "prompt": "a", "source": "other"}])
    c = write("c.jsonl", [{"prompt": "ab", "completion": "b"}])
    assert (
        examples.load(a, 2, 8)[0].fingerprint
        == examples.load(b, 2, 8)[0].fingerprint
        != examples.load(c, 2, 8)[0].fingerprint
    )
    assert examples.load(a, 2, 8)[0].fingerprint != examples.load(a, 2, 9)[0].fingerprint


GOOD = {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"prompt": "a"}, "line 2: its fields are 'prompt', and an example has prompt and completion;"),
        ({"prompt": "a", "completion": 3}, "line 2: 'completion' is of type int, and must be a text"),
        (
            {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
            r"line 2: a list of messages.*: jq -c '\{messages: \(.prompt \+ .completion\)\}' FILE > NEW.jsonl",
        ),
    ],
)
def test_a_bad_record_is_named_by_its_line(write, bad, message):
    with pytest.raises(DataError, match=message):
        examples.load(write("a.jsonl", [GOOD, bad]), 2, 8)


def test_prompts_that_fill_the_rows(write):
    with pytest.raises(DataError, match="the prompts alone fill --T 2 tokens"):
        examples.load(write("a.jsonl", [{"prompt": "a b c d", "completion": "e"}]), 2, 2)
