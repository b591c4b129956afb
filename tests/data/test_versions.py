"""The fingerprints that data has had, against the data itself before and after each erasure."""

import dataclasses

import numpy as np
import pytest

from jaxgpt.data import erasure
from jaxgpt.data.config import DataConfig
from jaxgpt.data.datasets import training_data
from jaxgpt.data.redaction import merge
from jaxgpt.data.versions import texts_of, versions
from tests.support.erasure import BYTES, make_folder, make_texts, places_of

FLAGS = [
    {"data": "{a}"},
    {"data": "{a}", "order": "shuffled"},
    {"data": "{a}", "val": "0.3"},
    {"mix": "{a}=2,{b}=1"},
    {"mix": "{a}=1,{b}=1", "order": "shuffled"},
]


@pytest.mark.parametrize("flags", FLAGS)
def test_all_that_a_text_was_is_known_by_its_fingerprints(flags, tmp_path):
    texts = {name: make_texts(12, seed) for seed, name in enumerate("ab")}
    folders = {name: make_folder(tmp_path / name, train=each) for name, each in texts.items()}
    flags = {name: value.format(**folders) for name, value in flags.items()}
    config = DataConfig(T=8, tokenizer="bytes", **flags)

    def load():
        data = training_data(config)
        return data, [np.array(text.tokens[:]) for text in texts_of(data)]

    seen = [load()]
    for name, number in [("a", 4), ("b", 5), ("a", 11), ("a", 2)]:
        ranges = {"train": merge([places_of(folders[name], "train", texts[name][number])])}
        erasure.begin(folders[name], ranges, {}, BYTES)
        erasure.complete(folders[name], BYTES)
        seen.append(load())
    now, tokens = seen[-1]
    known = versions(now)
    for data, before in seen:
        since = known[data.fingerprint]
        for old, new, ranges in zip(before, tokens, since, strict=True):
            changed = np.flatnonzero(old != new)
            expected = [token for first, end in ranges.tolist() for token in range(first, end)]
            assert changed.tolist() == expected
    assert known[now.fingerprint] == [pytest.approx(merge([]))] * len(texts_of(now))
    assert len({data.fingerprint for data, _ in seen}) == (5 if "mix" in flags else 4)
    assert dataclasses.replace(now).fingerprint in known and "another" not in known
