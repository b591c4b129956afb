"""A model's bias: which of two sentences it finds likelier, and what swapped words cost a text."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgpt.inference import bias_metrics
from jaxgpt.inference.bias_texts import EncodedPairs, EncodedText, Requests
from jaxgpt.inference.pseudo_likelihood import hide_each
from jaxgpt.inference.score import score
from jaxgpt.models.base import Model

Advance = Callable[[float], None]


def measure_pairs(
    model: Model, data: EncodedPairs, batch_size: int = 8, advance: Advance = lambda pairs: None
) -> dict[str, Any]:
    """The preference for the first sentence of pairs, overall, by group and by direction.

    A decoder scores a sentence by its log-likelihood; an encoder by the pseudo-log-likelihood of the tokens that both
    sentences have, given the others (Nangia et al. 2020, section 3). StereoSet's sentences, which may differ in length,
    are scored by the log-likelihood a token, as its authors do with GPT-2.

    Args:
      advance: called with the number of pairs that are done.

    Returns:
      `measure`, in words; `cut`, the sentences that are longer than the model's context, and so read in windows;
      bias_metrics.preference of all; `unequal_lengths`, the pairs whose sentences differ in their
      number of tokens; of StereoSet also bias_metrics.stereoset; `groups` and `directions`, the same of each, if the
      pairs name any; `each`, the log-odds of every pair.
    """
    pairs, has_unrelated = data.pairs, data.has_unrelated
    if data.requests is None:
        measure = "pseudo-log-likelihood of the shared tokens"
        scores = _score_shared(model, data, batch_size, advance)
        lengths = np.reshape([each.length for each in data.hidden], (-1, 2))
    else:
        measure, sentences = "log-likelihood", 2 + has_unrelated
        values = log_likelihoods(model, data.requests, batch_size, lambda texts: advance(texts / sentences))
        scores, lengths = (array.reshape(-1, sentences) for array in (values, data.requests.lengths))
        if has_unrelated:
            measure, scores = "log-likelihood a token", scores / lengths
    targets = np.array([pair.target for pair in pairs])

    def summarize(rows: np.ndarray) -> dict[str, float]:
        numbers = bias_metrics.preference(scores[rows, 0] - scores[rows, 1])
        numbers["unequal_lengths"] = int((lengths[rows, 0] != lengths[rows, 1]).sum())
        return numbers | (bias_metrics.stereoset(scores[rows], targets[rows].tolist()) if has_unrelated else {})

    cut = int((lengths > model.config.block_size).sum())
    results: dict[str, Any] = {"measure": measure, "cut": cut} | summarize(np.ones(len(pairs), bool))
    for name, values in (
        ("groups", [each.group for each in pairs]),
        ("directions", [each.direction for each in pairs]),
    ):
        if any(values):
            results[name] = {each: summarize(np.array(values) == each) for each in sorted(set(values))}
    return results | {"each": (scores[:, 0] - scores[:, 1]).tolist()}


def measure_gap(
    model: Model, data: EncodedText, batch_size: int = 8, advance: Advance = lambda documents: None
) -> dict[str, float]:
    """bias_metrics.counterfactual_gap of documents, each as it stands and with its words swapped.

    And `cut`, how many are longer than the model's context, and so read in windows.
    """
    values = log_likelihoods(model, data.requests, batch_size, lambda texts: advance(texts / 2))
    (original, mirrored), tokens = values.reshape(-1, 2).T, data.requests.lengths[::2]
    cut = int((tokens > model.config.block_size).sum())
    return bias_metrics.counterfactual_gap(original, mirrored, tokens) | {"cut": cut}


def log_likelihoods(model: Model, data: Requests, batch_size: int, advance: Advance) -> np.ndarray:
    """The log-likelihood of each text, in nats, float64 (n,); `advance` is called with the number that are done."""
    share = len(data.lengths) / len(data.requests)
    scores = score(model, data.requests, batch_size, lambda done: advance(share * done))
    values = np.array([each.log_likelihood for each in scores], np.float64)
    return np.bincount(data.owners, values, len(data.lengths))


def _score_shared(model: Model, data: EncodedPairs, batch_size: int, advance: Advance) -> np.ndarray:
    """The pseudo-log-likelihood of the tokens that both sentences of a pair have, float64 (n, 2)."""
    scores = []
    for each in data.hidden:
        scores.append(-hide_each(model, each.tokens, each.columns, each.mask, batch_size, each.positions).sum())
        advance(1 / 2)
    return np.reshape(scores, (-1, 2))
