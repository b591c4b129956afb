"""Bias by a model, against the softmax of its logits over whole sentences."""

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from jaxgpt.data.bias_pairs import BiasPair
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.mirrored import MirroredText
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference.bias import measure_gap, measure_pairs
from jaxgpt.inference.bias_metrics import counterfactual_gap, preference, stereoset
from jaxgpt.inference.bias_texts import encode_mirrored, encode_pairs
from jaxgpt.models.base import unembed
from jaxgpt.models.configs import BertConfig, GPT2Config
from tests.support.models import forward, random_model

BYTES = ByteTokenizer()
GPT2 = GPT2Config(vocab_size=257, block_size=32, n_layer=1, n_head=2, n_embd=16)
PAIRS = [
    BiasPair("She is a nurse.", "He is a nurse.", "gender", "stereo"),
    BiasPair("The old man naps.", "The young man naps.", "age", "stereo"),
    BiasPair("He codes.", "She codes.", "gender", "antistereo"),
]


logits_of = jax.jit(lambda model, tokens: unembed(model, model.hidden(tokens)))


@pytest.fixture(scope="module")
def model():
    return random_model(GPT2)


def log_likelihood(model, context, text):
    """Of the bytes of a text after others, in float64."""
    before, after = list(context.encode()) or [BYTES.end], list(text.encode())
    tokens = np.array([*before, *after], np.int32)
    log_p = log_softmax(np.asarray(forward(model, tokens[None, :-1])[0], np.float64), axis=-1)
    return sum(log_p[i - 1, tokens[i]] for i in range(len(before), len(tokens)))


def test_pairs_are_compared_by_the_likelihood_of_whole_sentences(model):
    done = []
    results = measure_pairs(model, encode_pairs(PAIRS, BYTES, 32), 2, done.append)
    expected = [log_likelihood(model, "", pair.more) - log_likelihood(model, "", pair.less) for pair in PAIRS]
    np.testing.assert_allclose(results["each"], expected, rtol=1e-4)
    assert results["measure"] == "log-likelihood" and sum(done) == 3 and results["unequal_lengths"] == 3
    wanted = preference(np.array(results["each"]))
    assert {name: results[name] for name in wanted} == wanted
    by_group = {"age": [1], "gender": [0, 2]}
    assert {name: each["n"] for name, each in results["groups"].items()} == {"age": 1, "gender": 2}
    for name, rows in by_group.items():
        assert results["groups"][name]["log_odds"] == pytest.approx(np.mean([expected[row] for row in rows]), rel=1e-4)
    assert {name: each["n"] for name, each in results["directions"].items()} == {"antistereo": 1, "stereo": 2}


def test_stereoset_is_compared_by_the_likelihood_a_token(model):
    items = [
        BiasPair("It is fat.", "It is thin.", "a", "intrasentence", "It is sky.", "", "x"),
        BiasPair("He eats.", "He fasts.", "b", "intersentence", "Rain!", "We met.", "y"),
    ]
    results = measure_pairs(model, encode_pairs(items, BYTES, 32))
    scores = []
    for item in items:
        before = " " * bool(item.context)
        texts = [before + text for text in (item.more, item.less, item.unrelated)]
        scores.append([log_likelihood(model, item.context, text) / len(text) for text in texts])
    wanted = stereoset(np.array(scores), ["x", "y"])
    assert {name: results[name] for name in wanted} == wanted and results["measure"] == "log-likelihood a token"
    np.testing.assert_allclose(results["each"], [a - b for a, b, _ in scores], rtol=1e-3)
    assert set(results["directions"]) == {"intrasentence", "intersentence"} and "ss" in results["groups"]["a"]


def test_the_gap_of_documents_is_that_of_their_tokens(model):
    documents = [("He ran home.", "She ran home."), ("A man sat.", "A woman sat.")]
    done = []
    data = encode_mirrored(MirroredText("a", "document", documents, 2, 0), BYTES, 32)
    numbers = measure_gap(model, data, advance=done.append)
    values = np.array([[log_likelihood(model, "", text) for text in each] for each in documents])
    wanted = counterfactual_gap(*values.T, np.array([12, 10]))
    assert numbers == pytest.approx(wanted | {"cut": 0}, rel=1e-4) and sum(done) == 2


def test_what_is_longer_than_the_context_is_read_in_windows_and_counted(model):
    long = "he " * 12 + "ran"  # 39 tokens, and the context is 32
    data = encode_mirrored(MirroredText("a", "document", [(long, "she")], 1, 0), BYTES, 32)
    numbers = measure_gap(model, data)
    parts = log_likelihood(model, "", long[:32]) + log_likelihood(model, long[31], long[32:])
    assert numbers["cut"] == 1 and numbers["gap"] == pytest.approx(parts - log_likelihood(model, "", "she"), rel=1e-4)
    assert measure_pairs(model, encode_pairs([BiasPair(long, "she")], BYTES, 32))["cut"] == 1


def test_an_encoder_hides_each_shared_token_and_padding_changes_nothing():
    config = BertConfig(vocab_size=258, block_size=40, n_layer=1, n_head=2, n_embd=16)
    model, tokenizer = random_model(config), for_encoder(BYTES)
    results = measure_pairs(model, encode_pairs(PAIRS[:2], tokenizer, 40, is_encoder=True), 3)
    expected = []
    for text in ("She is a nurse.", "He is a nurse."):  # of which all but the beginning is the same
        ids, total = np.array([tokenizer.cls, *text.encode(), tokenizer.sep], np.int32), 0.0
        for place in range(len(ids) - 1 - len("e is a nurse."), len(ids) - 1):
            hidden = np.where(np.arange(len(ids)) == place, tokenizer.mask, ids)
            logits = np.asarray(logits_of(model, hidden[None])[0, place], np.float64)
            total += log_softmax(logits)[ids[place]]
        expected.append(total)
    assert results["measure"] == "pseudo-log-likelihood of the shared tokens"
    np.testing.assert_allclose(results["each"][0], expected[0] - expected[1], rtol=1e-3)
