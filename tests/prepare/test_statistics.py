"""Statistics of a split: against documents counted one by one, in any pieces and shards."""

import numpy as np
import pytest

from jaxgpt.data.gpt2_tokenizer import VOCAB_SIZE, encoding
from jaxgpt.data.shards import Tokens
from jaxgpt.errors import DataError
from jaxgpt.prepare import statistics

EOT = VOCAB_SIZE - 1


def split(documents, cuts):
    """Documents as Tokens in shards."""
    ids = np.concatenate([np.array([EOT, *each], "<u2") for each in documents])
    return Tokens(tuple(np.split(ids, cuts)))


def drawn(count, longest, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 2000, rng.integers(0, longest)).tolist() for _ in range(count)]


@pytest.mark.parametrize("piece", [64, 97, 1000, 10**6])
def test_the_counts_are_those_of_the_documents(piece):
    documents = [*drawn(40, 30), [5] * 300, []]  # one is longer than some pieces, and the last is its beginning alone
    tokens = split(documents, [100, 101, 555])
    assert len(tokens) < 16 * 64 or piece > 64
    counted = statistics.compute_statistics(tokens, "here", documents=7, piece=piece)
    lengths = sorted(len(each) + 1 for each in documents)
    assert counted.num_tokens == len(tokens) == sum(lengths)
    assert np.repeat(counted.lengths, counted.counts).tolist() == lengths and counted.mean() == np.mean(lengths)
    for q in (0, 0.25, 0.5, 0.75, 0.99, 1):
        assert counted.quantile(q) == np.quantile(lengths, q, method="inverted_cdf")
    ids = np.concatenate(tokens.shards).tolist()
    assert {i: n for i, n in enumerate(counted.token_counts.tolist()) if n} == {i: ids.count(i) for i in set(ids)}
    assert len(set(counted.sample_starts.tolist())) == 7 and all(ids[start] == EOT for start in counted.sample_starts)


def test_evenly_spaced_pieces_of_a_large_split_are_counted():
    documents = drawn(4000, 20)
    tokens = split(documents, [999])
    counted = statistics.compute_statistics(tokens, "here", documents=300, piece=600)
    assert counted.num_tokens == statistics.PIECES * 600 < len(tokens) / 2
    whole = statistics.compute_statistics(tokens, "here", piece=10**6)
    assert counted.mean() == pytest.approx(whole.mean(), rel=0.05)
    assert (
        counted.sample_starts.min() < 700 and counted.sample_starts.max() > len(tokens) - 700
    )  # from one end to the other
    # Only whole documents: what a gap cuts has no length that none has.
    assert set(counted.lengths.tolist()) <= {len(each) + 1 for each in documents}


def test_every_document_is_equally_likely_to_be_drawn():
    """Each of ten documents over 2,000 seeds, long or short: chi-square, 99.9 % quantile of 9 degrees of freedom."""
    tokens = split([[1] * n for n in range(0, 100, 10)], [])
    begins = np.flatnonzero(np.asarray(tokens[0 : len(tokens)]) == EOT).tolist()
    hits = np.zeros(10)
    for seed in range(2000):
        hits[
            begins.index(
                statistics.compute_statistics(tokens, "here", documents=1, seed=seed, piece=100).sample_starts[0]
            )
        ] += 1
    assert ((hits - 200) ** 2 / 200).sum() < 27.9


@pytest.mark.parametrize("text", ["short", "a" * 300, "a" * 301, "\U0001f600" * 400, "na\u00efve \u65e5\u672c " * 99])
def test_an_excerpt_is_the_beginning_of_the_text(text):
    ids = encoding().encode_ordinary(text)
    tokens = split([[1, 2], ids, [3]], [5, 6])
    assert statistics.excerpt(tokens, 3) == (text[:300], len(text) > 300)
    assert statistics.excerpt(split([ids], []), 0) == (text[:300], len(text) > 300)  # at the end of all


def test_corrupt_tokens():
    with pytest.raises(DataError, match="here: corrupt: token 1 is 60000, beyond"):
        statistics.compute_statistics(Tokens((np.array([EOT, 60000, 5], "<u2"),)), "here")
