"""What every dataset promises, of each kind."""

import dataclasses

import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.data.text import Text, Windows

TOKENS = np.random.default_rng(0).integers(0, 50257, 333).astype(np.uint16)


@pytest.fixture(params=["text", "several tokens ahead", "shuffled", "mixed", "completions", "labels"])
def data(request, write):
    text = Text("a text", TOKENS, "abc", B=4, T=8)
    other = Text("another", TOKENS[:99], "def", B=4, T=8)
    pairs = [{"prompt": f"{n} and {n} are", "completion": f" {2 * n}."} for n in range(23)]
    labels = [{"text": f"{n}", "label": n % 2} for n in range(9)]
    return {
        "text": lambda: text,
        "several tokens ahead": lambda: dataclasses.replace(text, horizon=3),
        "shuffled": lambda: Windows((text,), seed=3, B=4, T=8),
        "mixed": lambda: Windows((text, other), (3, 1), mix="a=3,b=1", B=4, T=8),
        "completions": lambda: examples.load(write("pairs.jsonl", pairs), B=4, T=24)[0],
        "labels": lambda: examples.load(write("labels.jsonl", labels), B=4, T=8)[0],
    }[request.param]()


def test_a_batch_is_a_pure_function_of_its_position_and_counts_on_by_its_tokens(data):
    position, seen = 0, []
    for _ in range(int(2 * data.batches_per_epoch()) + 1):
        batch, following = data.batch(position)
        again, _ = data.batch(position)
        for name, array in batch.items():
            assert array.dtype == np.int32 and len(array) == data.B
            np.testing.assert_array_equal(array, again[name])
        assert following in (position + data.B * data.T, 0)
        assert data.resume_position(position) == position
        seen.append(position)
        position = following
    assert len(set(seen)) > 1


def test_the_rows_of_several_hosts_are_the_batch(data):
    batch, following = data.batch(0)
    parts = [dataclasses.replace(data, rows=slice(first, first + 2)).batch(0) for first in (0, 2)]
    for name, array in batch.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part, _ in parts]), array)
    assert {position for _, position in parts} == {following}


def test_one_pass_has_the_arrays_of_a_batch_and_fills_up_the_last(data):
    if isinstance(data, Windows):
        assert not hasattr(data, "one_pass")  # it is trained on alone
        return
    batch, _ = data.batch(0)
    passes = list(data.one_pass())
    assert len(passes) == -(-data.num_rows() // data.B)
    for each in passes:
        assert {name: array.shape for name, array in each.items()} == {name: a.shape for name, a in batch.items()}


def test_what_it_is_is_known(data):
    assert data.kind in ("text", "completions", "labels") and data.name and data.fingerprint
    assert isinstance(data.order_facts(), dict) and (data.kind == "labels") == bool(data.labels)
