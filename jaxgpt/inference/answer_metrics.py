"""How good written answers are, by references: SQuAD's exact match and F1, ROUGE, BLEU and chrF. No JAX.

Each has an interval by the bootstrap: the items are drawn again, with replacement, and the score of all computed anew.
"""

import collections
import dataclasses
import functools
import importlib.metadata
import itertools
import re
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxgpt.errors import UsageError

RESAMPLES = 1000
INSTALL = "pip install -r requirements-metrics.txt"

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclasses.dataclass(frozen=True)
class Score:
    """One metric of n answers.

    Attributes:
      value: of all answers. exact, f1 and ROUGE's F are shares, 0 to 1; bleu and chrf are sacrebleu's, 0 to 100.
      low, high: the interval of 95 %.
      items: float64 (n,), each answer's own.
      signature: how it was computed; "" where there is one way.
    """

    value: float
    low: float
    high: float
    items: np.ndarray
    signature: str = ""


def require_metrics(names: Sequence[str]) -> None:
    """Refuse metrics whose libraries are not installed.

    Raises:
      UsageError: it says how to install them.
    """
    if "rouge" in names:
        _rouge_scorer()
    for name in OF_CORPUS:
        if name in names:
            _sacrebleu(name)


def score_answers(
    names: Sequence[str], answers: Sequence[str], references: Sequence[Sequence[str]], seed: int = 0
) -> dict[str, Score]:
    """Each metric of the answers, by the names of SCORES.

    Args:
      names: of METRICS.
      references: one or more of each answer, of which the best counts.
      seed: of the bootstrap.
    """
    scores = {}
    for name in names:
        if name in OF_CORPUS:
            scores[name] = _score_corpus(name, answers, references, seed)
            continue
        items = [OF_ANSWER[name](answer, rights) for answer, rights in zip(answers, references, strict=True)]
        columns = np.reshape(np.array(items, np.float64), (len(items), -1)).T.copy()
        signature = _rouge_signature() if name == "rouge" else ""
        for score, column in zip(SCORES[name], columns, strict=True):
            scores[score] = _score_mean(column, signature, seed)
    return scores


# ---- SQuAD: Rajpurkar et al. (2016) and (2018), by the rules of its evaluate-v2.0.py


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if the answer is one of the references, as `normalize` has them; else 0."""
    return float(normalize(answer) in map(normalize, _with_words(references)))


def f1(answer: str, references: Sequence[str]) -> float:
    """The highest harmonic mean of the precision and recall of an answer's words, with any reference."""
    return max(_word_f1(normalize(answer).split(), normalize(each).split()) for each in _with_words(references))


def normalize(text: str) -> str:
    """SQuAD's: lower case, no ASCII punctuation, no articles, single spaces."""
    without_articles = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION))
    return " ".join(without_articles.split())


def _with_words(references: Sequence[str]) -> Sequence[str]:
    """The references that have a word; if none has, the right answer is none, as in SQuAD 2.0."""
    return [each for each in references if normalize(each)] or [""]


def _word_f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    common = (collections.Counter(answer) & collections.Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference))


# ---- ROUGE: Lin (2004)


def rouge(answer: str, references: Sequence[str]) -> tuple[float, ...]:
    """F of ROUGE-1, ROUGE-2 and ROUGE-L, each with the reference that makes it highest."""
    scores = _rouge_scorer().score_multi(references, answer)
    return tuple(scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeL"))


@functools.cache
def _rouge_scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise UsageError(f"rouge needs rouge-score, which is not installed ({error}): {INSTALL}") from None
    return RougeScorer(["rouge1", "rouge2", "rougeL"])


def _rouge_signature() -> str:
    return f"F|stemmer:no|rouge-score:{importlib.metadata.version('rouge-score')}"


# ---- BLEU: Papineni et al. (2002); chrF: Popović (2015); as Post (2018) has them


@functools.cache
def _sacrebleu(name: str, **options: Any) -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise UsageError(f"{name} needs sacrebleu, which is not installed ({error}): {INSTALL}") from None
    return {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF}[name](**options)


def _score_corpus(name: str, answers: Sequence[str], references: Sequence[Sequence[str]], seed: int) -> Score:
    metric = _sacrebleu(name)
    by_sentence = _sacrebleu(name, effective_order=True) if name == "bleu" else metric
    items = [by_sentence.sentence_score(*each).score for each in zip(answers, references, strict=True)]
    streams = [*itertools.zip_longest(*references)]  # as sacrebleu wants them: None where an item has fewer
    # As sacrebleu's own bootstrap: the sums of the sentences' statistics decide the score.
    statistics = np.array(metric._extract_corpus_statistics(answers, streams), np.int64)

    def score(sums: np.ndarray) -> float:
        return metric._compute_score_from_stats(sums.tolist()).score

    interval = _bootstrap(statistics, score, seed)
    return Score(score(statistics.sum(0)), *interval, np.array(items), str(metric.get_signature()))


# ---- Intervals


def _score_mean(items: np.ndarray, signature: str, seed: int) -> Score:
    n = len(items)
    return Score(items.mean(), *_bootstrap(items[:, None], lambda sums: sums[0] / n, seed), items, signature)


def _bootstrap(statistics: np.ndarray, score: Callable[[np.ndarray], float], seed: int) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile of a score, over resamples of its items.

    Efron (1979), "Bootstrap Methods: Another Look at the Jackknife"; Koehn (2004) for BLEU.

    Args:
      statistics: (n, K), of each item.
      score: of their sums, (K,).
      seed: of what is drawn: the same items for each metric.
    """
    scores = [score(counts @ statistics) for counts in _draw(len(statistics), seed)]
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def _draw(n: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n items is in a resample of n, int64 (n,)."""
    generator = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        yield np.bincount(generator.integers(n, size=n), minlength=n)


OF_ANSWER = {"exact": exact_match, "f1": f1, "rouge": rouge}  # of an answer and its references; all have the mean
OF_CORPUS = ("bleu", "chrf")  # of all answers at once
METRICS = (*OF_ANSWER, *OF_CORPUS)
SCORES = {name: (name,) for name in METRICS} | {"rouge": ("rouge_1", "rouge_2", "rouge_l")}
SCORE_NAMES = tuple(name for names in SCORES.values() for name in names)
