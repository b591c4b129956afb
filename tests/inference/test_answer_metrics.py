"""Metrics of answers: SQuAD's by its published rules, the others by their libraries called directly."""

import re
import string
import sys

import numpy as np
import pytest

from jaxgpt.errors import UsageError
from jaxgpt.inference import answer_metrics
from jaxgpt.inference.answer_metrics import score_answers

NEEDS_METRICS = "needs the metrics' libraries: pip install -r requirements-metrics.txt"

# An answer, its references, and SQuAD's exact match and F1 by hand.
NASTY = [
    ("the Seine", ["Seine"], 1, 1),
    ("A  cat,\n sat!", ["the cat sat"], 1, 1),
    ("", [""], 1, 1),
    ("", ["Paris"], 0, 0),
    ("Paris", [""], 0, 0),
    ("the", [""], 1, 1),
    ("an a The", ["..."], 1, 1),
    ("the", ["the", "Paris"], 0, 0),  # a reference without words does not count beside one with words
    ("", ["", "Paris"], 0, 0),
    ("Paris", ["the", "paris"], 1, 1),
    ("?!", ["the"], 1, 1),
    ("U.S.A.", ["USA"], 1, 1),
    ("U. S. A.", ["USA"], 0, 0),
    ("u s a", ["U. S. A."], 1, 1),  # "u s": the article goes from both
    ("don't", ["dont"], 1, 1),
    ("don\u2019t", ["don't"], 0, 0),  # a curly apostrophe is no ASCII punctuation
    ("\u201cParis\u201d", ["Paris"], 0, 0),
    ("caf\u00e9", ["cafe"], 0, 0),
    ("cafe\u0301", ["caf\u00e9"], 0, 0),  # composed and decomposed are not the same
    ("CAF\u00c9", ["caf\u00e9"], 1, 1),
    ("STRASSE", ["stra\u00dfe"], 0, 0),  # lower() does not fold
    ("\u0130stanbul", ["i\u0307stanbul"], 1, 1),  # but makes two characters of one here
    ("\u6771\u4eac", ["\u6771\u4eac"], 1, 1),
    ("\u6771\u4eac \u90fd", ["\u6771\u4eac"], 0, 2 / 3),
    ("a\u00a0cat", ["cat"], 1, 1),  # a no-break space separates words
    ("the\u2003cat", ["cat"], 1, 1),
    ("cat\u200b", ["cat"], 0, 0),  # a zero-width space does not
    ("anthem", ["them"], 0, 0),
    ("the-end", ["theend"], 1, 1),  # punctuation goes first, so "the" is no word here
    ("the_end", ["theend"], 1, 1),
    ("a/b", ["ab"], 1, 1),
    ("3.14", ["314"], 1, 1),
    ("$1,000", ["1000 dollars", "1000"], 1, 1),
    ("1000", ["1,000 dollars"], 0, 2 / 3),
    ("5%", ["5 %"], 1, 1),
    ("-5", ["5"], 1, 1),
    ("one two three", ["three two one"], 0, 1),
    ("one one", ["one"], 0, 2 / 3),
    ("one", ["one one one"], 0, 1 / 2),
    ("one one two", ["one two two"], 0, 2 / 3),
    ("one two", ["two three", "one two three"], 0, 4 / 5),
    ("one two", ["three", "four"], 0, 0),
    ("Denver Broncos", ["Denver Broncos", "Denver Broncos", "Broncos"], 1, 1),
    ("the Denver", ["Denver Broncos"], 0, 2 / 3),
    ("a b c d", ["b"], 0, 1 / 2),  # "a" is an article: three words
    ("\t\n ", [" "], 1, 1),
    ("\x1fcat", ["cat"], 1, 1),  # Python takes a unit separator for whitespace
    ("<|endoftext|>", ["endoftext"], 1, 1),
    ("`cat`", ["cat"], 1, 1),
    ("\U0001f642", ["\U0001f642 ."], 1, 1),
    ("an\u0303o", ["o"], 0, 0),  # a combining tilde is no word character, and "an" is followed by it
    ("the" * 3, ["the"], 0, 0),
]


def published(answer, references):
    """compute_exact and compute_f1 of SQuAD's evaluate-v2.0.py, step by step, and their maximum over the answers."""

    def words(text):
        text = "".join(character for character in text.lower() if character not in set(string.punctuation))
        return re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", text).split()

    def word_f1(gold, predicted):
        left, same = list(gold), 0
        for word in predicted:
            if word in left:
                left.remove(word)
                same += 1
        if not gold or not predicted:
            return int(gold == predicted)
        if same == 0:
            return 0
        precision, recall = same / len(predicted), same / len(gold)
        return 2 * precision * recall / (precision + recall)

    golds = [each for each in references if " ".join(words(each))] or [""]
    exact = max(int(" ".join(words(gold)) == " ".join(words(answer))) for gold in golds)
    return exact, max(word_f1(words(gold), words(answer)) for gold in golds)


@pytest.mark.parametrize("answer, references, exact, f1", NASTY)
def test_exact_match_and_f1_are_squads(answer, references, exact, f1):
    found = answer_metrics.exact_match(answer, references), answer_metrics.f1(answer, references)
    assert found == pytest.approx((exact, f1)) and found == pytest.approx(published(answer, references))


def draw_answers(n=40):
    """Sentences of few words, some empty, with one to three references, some of them right."""
    rng = np.random.default_rng(0)
    words = ["the", "cat", "Sat", "on", "mats.", "1984", "caf\u00e9", "\u6771\u4eac", "it's"]

    def sentence():
        return " ".join(rng.choice(words, rng.integers(0, 9)).tolist())

    references = [[sentence() for _ in range(rng.integers(1, 4))] for _ in range(n)]
    answers = [rights[-1] if rng.random() < 0.3 else sentence() for rights in references]
    return answers, references


ANSWERS, REFERENCES = draw_answers()


def test_rouge_is_the_librarys():
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason=NEEDS_METRICS)
    found = score_answers(["rouge"], ANSWERS, REFERENCES)
    for name, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        one = scorer.RougeScorer([theirs])
        expected = [
            max(one.score(right, answer)[theirs].fmeasure for right in rights)
            for answer, rights in zip(ANSWERS, REFERENCES, strict=True)
        ]
        assert found[name].items.tolist() == expected and found[name].value == pytest.approx(np.mean(expected))
        assert len(set(expected)) > 5 and found[name].signature.startswith("F|stemmer:no|rouge-score:0.")


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_bleu_and_chrf_are_sacrebleus(name, monkeypatch):
    sacrebleu = pytest.importorskip("sacrebleu", reason=NEEDS_METRICS)
    found = score_answers([name], ANSWERS, REFERENCES, seed=3)[name]
    streams = [[rights[k] if k < len(rights) else None for rights in REFERENCES] for k in range(3)]
    metric = {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF}[name]()
    assert found.value == metric.corpus_score(ANSWERS, streams).score > 1
    assert found.signature == str(metric.get_signature()) and "nrefs:var|" in found.signature
    one = sacrebleu.sentence_bleu if name == "bleu" else sacrebleu.sentence_chrf
    expected = [one(answer, rights).score for answer, rights in zip(ANSWERS, REFERENCES, strict=True)]
    assert found.items.tolist() == pytest.approx(expected)
    # The interval, from the library's score of each resample, drawn one by one.
    rng, scores = np.random.default_rng(3), []
    monkeypatch.setattr(answer_metrics, "RESAMPLES", 50)
    for _ in range(50):
        drawn = rng.integers(40, size=40)
        taken = [ANSWERS[i] for i in drawn], [[stream[i] for i in drawn] for stream in streams]
        scores.append(metric.corpus_score(*taken).score)
    found = score_answers([name], ANSWERS, REFERENCES, seed=3)[name]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])))


def test_the_interval_of_a_mean_is_the_bootstraps_and_depends_on_the_seed_alone():
    answers, references = ["yes"] * 30 + ["no"] * 70, [["yes"]] * 100
    first, again, other = (score_answers(["exact", "f1"], answers, references, seed)["exact"] for seed in (0, 0, 1))
    assert (first.low, first.high) == (again.low, again.high) != (other.low, other.high)
    spread = 1.96 * (0.3 * 0.7 / 100) ** 0.5
    assert first.value == pytest.approx(0.3) and first.items.tolist() == [1] * 30 + [0] * 70
    assert (first.low, first.high) == pytest.approx((0.3 - spread, 0.3 + spread), abs=0.015)


@pytest.mark.parametrize("name, library", [("rouge", "rouge_score"), ("bleu", "sacrebleu"), ("chrf", "sacrebleu")])
def test_a_library_that_is_missing_is_one_line(name, library, monkeypatch):
    for cached in (answer_metrics._rouge_scorer, answer_metrics._sacrebleu):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, f"{library}.rouge_scorer" if name == "rouge" else library, None)
    with pytest.raises(UsageError, match=f"^{name} needs .*: pip install -r requirements-metrics.txt$"):
        answer_metrics.require_metrics(["exact", name])
    answer_metrics.require_metrics(["exact", "f1"])
