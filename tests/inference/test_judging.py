"""Judgements of answers, against score's log-likelihoods, the layers of a reward model, and every pair in turn."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest

from jaxgpt.data.judged import load_judged, load_scored
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference import judging
from jaxgpt.inference.score import score
from jaxgpt.models.configs import GPT2Config
from tests.support.models import spread_model

BYTES = ByteTokenizer()
CONFIG = GPT2Config(vocab_size=BYTES.vocab_size, block_size=40, n_layer=1, n_head=2, n_embd=16)
PAIRS = [{"prompt": "a" * n, "chosen": "yes" * (n % 4), "rejected": f"no{n}"} for n in range(7)]


def test_log_probabilities_are_scores(write):
    """The last batch of 3 is filled up."""
    model, (data, _) = spread_model(CONFIG), load_judged(write("a.jsonl", PAIRS), 3, 40, tokenizer=BYTES)
    done = []
    sums, means = judging.log_probs(model, data, done.append)
    requests = [
        ([*BYTES.encode(pair["prompt"]).tolist()] or [BYTES.end], [*BYTES.encode(pair[name]).tolist(), BYTES.end])
        for pair in PAIRS
        for name in ("chosen", "rejected")
    ]
    expected = np.array([each.log_likelihood for each in score(model, requests)])
    np.testing.assert_allclose(sums.reshape(-1), expected, rtol=1e-5)
    np.testing.assert_allclose(means.reshape(-1), expected / [len(answer) for _, answer in requests], rtol=1e-5)
    assert done == [3, 3, 1] and np.ptp(sums) > 1


def test_rewards_are_the_heads_of_each_text_alone(write):
    model = spread_model(dataclasses.replace(CONFIG, n_labels=1))
    kernel = np.asarray(model.score.kernel[...], np.float64)
    records = [{"prompt": pair["prompt"], "completion": pair["rejected"]} for pair in PAIRS]
    found = judging.rewards(model, load_scored(write("a.jsonl", records), 4, 40, tokenizer=BYTES))
    x = np.zeros((1, 40), np.int32)
    hidden, expected = jax.jit(lambda model, x: model.hidden(x)), []
    for record in records:
        prompt, answer = (BYTES.encode(record[name]) for name in ("prompt", "completion"))
        text = np.array([*(prompt if len(prompt) else [BYTES.end]), *answer, BYTES.end])
        x[0, : len(text)] = text
        expected.append(float((np.asarray(hidden(model, x))[0, len(text) - 1] @ kernel)[0]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found) > 0.1


def test_a_pair_is_right_where_the_chosen_answer_is_higher():
    scores = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.5, 0.0]])
    found = judging.pair_accuracy(scores)
    margins = [1.0, -2.0, 0.0, 0.5]
    assert (found["accuracy"], found["margin"]) == (0.5, np.mean(margins))
    assert found["accuracy_stderr"] == pytest.approx(np.std([1, 0, 0, 1], ddof=1) / 2)
    assert found["margin_stderr"] == pytest.approx(np.std(margins, ddof=1) / 2)


def test_the_auc_is_the_share_of_all_pairs_of_a_good_and_a_bad_answer():
    """With ties; its error is that of a jackknife, which leaves one answer out at a time."""
    rng = np.random.default_rng(0)
    good = np.arange(60) % 3 > 0
    scores = np.round(rng.normal(size=60) + good, 1)

    def auc(scores, good):
        pairs = list(itertools.product(scores[good], scores[~good]))
        return sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)

    found = judging.rating_auc(scores, good)
    assert found["auc"] == pytest.approx(auc(scores, good)) and len({*scores[good]} & {*scores[~good]}) > 5
    variance = 0
    for rows in (np.flatnonzero(good), np.flatnonzero(~good)):
        without = [auc(np.delete(scores, row), np.delete(good, row)) for row in rows]
        variance += (len(rows) - 1) / len(rows) * np.sum((np.array(without) - np.mean(without)) ** 2)
    assert found["auc_stderr"] == pytest.approx(math.sqrt(variance))
    assert all(map(math.isnan, judging.rating_auc(scores, good | True).values()))
