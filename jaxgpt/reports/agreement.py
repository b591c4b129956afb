"""Statistics on judgments of two answers: how far annotators agree, which model wins, what else their choices follow.

No JAX. All intervals are Wilson's, of 95 %. That of a number which is no share itself, such as kappa, follows from the
interval of a share. Unlike a multiple of the standard error, such an interval holds for few items, and where all agree.
"""

import collections
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.reports.judgments import TIE, Judgment

Z = statistics.NormalDist().inv_cdf(0.975)


class Estimate(NamedTuple):
    """A number with its interval; not a number where it is undefined."""

    value: float
    low: float
    high: float


UNDEFINED = Estimate(math.nan, math.nan, math.nan)


# ---- Shares


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """The score interval of a share in n independent draws (Wilson, 1927)."""
    center, width = share + Z * Z / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    return min(share, max(0.0, (center - width) / scale)), max(share, min(1.0, (center + width) / scale))


def estimate_share(hits: Iterable[float], sizes: Iterable[float], max_n: float = math.inf) -> Estimate:
    """The share of hits, where draws of one group depend on each other: several annotators' of one item, say.

    Args:
      hits: of each group, from 0 to its size.
      sizes: of each group. If all are 1, the interval is Wilson's own.
      max_n: the most independent draws that this may count as.

    Returns:
      All hits in all sizes. In the interval, n is as many draws as would vary as much as the groups do (Kish's
      effective sample size), or the number of groups where they don't vary.
    """
    hits, sizes = np.asarray([*hits], np.float64), np.asarray([*sizes], np.float64)
    if not sizes.sum():
        return UNDEFINED
    share = float(hits.sum() / sizes.sum())
    variance = float(np.square(hits - share * sizes).sum()) / float(sizes.sum()) ** 2
    n = share * (1 - share) / variance if variance > 0 else len(sizes)
    return Estimate(share, *wilson_interval(share, min(n, max_n)))


# ---- Kappa


def cohen_kappa(first: Sequence[int], second: Sequence[int]) -> Estimate:
    """How far two annotators agree beyond chance (Cohen, 1960): 1 always, 0 as often as chance.

    Args:
      first, second: their votes on the same items, from 0, at least one.
    """
    counts = np.zeros((max(*first, *second) + 1,) * 2)
    np.add.at(counts, (np.asarray(first), np.asarray(second)), 1)
    shares = counts / len(first)
    chance = float(shares.sum(0) @ shares.sum(1))
    agreeing = np.equal(first, second)
    return beyond_chance(estimate_share(agreeing, np.ones(len(first))), chance)


def fleiss_kappa(counts: np.ndarray) -> Estimate:
    """How far any number of annotators agree beyond chance (Fleiss, 1971).

    Args:
      counts: how many gave each item each vote, (items, votes). Items may have different numbers of votes, which
        Fleiss did not have; those with fewer than two are left out.
    """
    counts = np.asarray(counts, np.float64)
    counts = counts[counts.sum(1) >= 2]
    if not len(counts):
        return UNDEFINED
    raters = counts.sum(1)
    chance = float(np.square(counts.sum(0) / counts.sum()).sum())
    pairs = raters * (raters - 1)
    agreeing = (counts * (counts - 1)).sum(1) / pairs  # the share of an item's pairs of annotators
    return beyond_chance(estimate_share(agreeing, np.ones(len(counts)), max_n=float(pairs.sum() / 2)), chance)


def beyond_chance(agreement: Estimate, chance: float) -> Estimate:
    """The share that agrees as kappa; the chance agreement counts as known."""
    if chance >= 1:
        return UNDEFINED  # all votes are one and the same, which says nothing
    return Estimate(*(max(-1.0, (share - chance) / (1 - chance)) for share in agreement))


# ---- All of it


def summarize(judgments: Sequence[Judgment]) -> dict[str, Any]:
    """All statistics, as JSON has them, but for numbers that are undefined and not a number."""
    return {
        "counts": count(judgments),
        "kappa": compare_pairs(judgments),
        "fleiss": compare_all(judgments),
        "win_rate": rate_models(judgments),
        "position": measure_position(judgments),
        "time": measure_time(judgments),
        "disputes": find_disputes(judgments),
    }


def count(judgments: Sequence[Judgment]) -> dict[str, int]:
    votes = collections.Counter(judgment.vote for judgment in judgments)
    return {
        "judgments": len(judgments),
        "annotators": len({judgment.annotator for judgment in judgments}),
        "items": len({judgment.item for judgment in judgments}),
        "decided": votes[0] + votes[1],
        "ties": votes[TIE],
        "skips": votes[None],
        "edited": sum(judgment.is_edited for judgment in judgments),
    }


def votes_by_item(judgments: Iterable[Judgment]) -> dict[Any, dict[str, int]]:
    """Each item's votes, by annotator; what was skipped is none, and nobody can disagree without a name."""
    votes: dict[Any, dict[str, int]] = collections.defaultdict(dict)
    for judgment in judgments:
        if judgment.vote is not None and judgment.annotator:
            votes[judgment.item][judgment.annotator] = judgment.vote
    return votes


def compare_pairs(judgments: Sequence[Judgment]) -> list[dict[str, Any]]:
    """Cohen's kappa of each two annotators who have voted on a common item; a tie is a vote like the two others."""
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = collections.defaultdict(list)
    for votes in votes_by_item(judgments).values():
        for first, second in itertools.combinations(sorted(votes), 2):
            pairs[first, second].append((votes[first], votes[second]))
    rows = []
    for names, both in sorted(pairs.items()):
        first, second = zip(*both, strict=True)
        alike = sum(a == b for a, b in both)
        rows.append(
            {"annotators": [*names], "items": len(both), "alike": alike} | _fields("kappa", cohen_kappa(first, second))
        )
    return rows


def compare_all(judgments: Sequence[Judgment]) -> dict[str, Any]:
    """Fleiss' kappa of all annotators, over the items that two or more have voted on."""
    shared = [votes for votes in votes_by_item(judgments).values() if len(votes) > 1]
    counts = np.array([np.bincount([*votes.values()], minlength=TIE + 1) for votes in shared]).reshape(-1, TIE + 1)
    annotators = {name for votes in shared for name in votes}
    return {"items": len(shared), "annotators": len(annotators)} | _fields("kappa", fleiss_kappa(counts))


def rate_models(judgments: Sequence[Judgment]) -> list[dict[str, Any]]:
    """How often each model's answer was chosen among the decided, over all topics and in each.

    Two answers of one model tell nothing about it. The topic of a row is None for all, and "" for those without one.
    """
    decided = [each for each in judgments if each.vote in (0, 1) and each.models and len({*each.models}) == 2]
    names = sorted({name for each in decided for name in each.models})
    topics: list[str | None] = [None]
    if any(each.topic for each in decided):
        topics += sorted({each.topic for each in decided})
    rows = []
    for topic in topics:
        in_topic = [each for each in decided if topic in (None, each.topic)]
        for name in names:
            judged = [each for each in in_topic if name in each.models]
            if judged:
                wins = sum(_is_win(each, name) for each in judged)
                share = _share_by_item(judged, lambda each, name=name: _is_win(each, name))
                rows.append(
                    {"model": name, "topic": topic, "decided": len(judged), "wins": wins} | _fields("share", share)
                )
    return rows


def _is_win(judgment: Judgment, model: str) -> bool:
    return judgment.models[judgment.vote] == model


def _share_by_item(judgments: Sequence[Judgment], is_hit: Callable[[Judgment], bool]) -> Estimate:
    """The share of hits among judgments, of which those of one item count as dependent."""
    hits, sizes = collections.Counter(), collections.Counter()
    for judgment in judgments:
        hits[judgment.item] += is_hit(judgment)
        sizes[judgment.item] += 1
    return estimate_share([hits[item] for item in sizes], sizes.values(), max_n=len(judgments))


def measure_position(judgments: Sequence[Judgment]) -> list[dict[str, Any]]:
    """The share of choices that fell on the first place, less a half: each annotator's, and, named None, that of all.

    Places are drawn for each annotator and item, so choices that follow the texts alone don't depend on each other.
    """
    placed = [each for each in judgments if each.place]
    names: list[str | None] = sorted({each.annotator for each in placed})
    rows = []
    for name in [None, *names] if len(names) > 1 else names:
        first = [each.place == 1 for each in placed if name in (None, each.annotator)]
        share = estimate_share(first, np.ones(len(first)))
        bias = {key: number - 0.5 for key, number in _fields("bias", share).items()}
        rows.append({"annotator": name, "decided": len(first), "first": sum(first)} | bias)
    return rows


def measure_time(judgments: Sequence[Judgment]) -> list[dict[str, Any]]:
    """Each annotator's median time for an item, in seconds, of those for which it is known."""
    times: dict[str, list[float]] = collections.defaultdict(list)
    for judgment in judgments:
        times[judgment.annotator] += [] if judgment.seconds is None else [judgment.seconds]
    return [
        {"annotator": name, "timed": len(each), "median_s": statistics.median(each) if each else math.nan}
        for name, each in sorted(times.items())
    ]


def find_disputes(judgments: Sequence[Judgment]) -> list[dict[str, Any]]:
    """The items on which votes differ, first those on which fewest agree; with what was remarked."""
    of_item = collections.defaultdict(list)
    for judgment in judgments:
        of_item[judgment.item].append(judgment)
    disputes = []
    for item, votes in votes_by_item(judgments).items():
        if len({*votes.values()}) > 1:
            most = max(collections.Counter(votes.values()).values())
            disputes.append((most / len(votes), -len(votes), _describe_dispute(of_item[item], votes)))
    return [dispute for *_, dispute in sorted(disputes, key=lambda each: each[:2])]


def _describe_dispute(judgments: Sequence[Judgment], votes: dict[str, int]) -> dict[str, Any]:
    first = judgments[0]
    remarks = {each.annotator: each.remark for each in judgments if each.remark}
    words = {name: "tie" if vote == TIE else vote for name, vote in votes.items()}
    models = [*first.models] if first.models else None
    return {"item": first.name, "prompt": first.prompt, "models": models, "votes": words, "remarks": remarks}


def _fields(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, "low": estimate.low, "high": estimate.high}
