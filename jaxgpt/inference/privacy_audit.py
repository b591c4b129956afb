"""What a run gave away at least: a lower bound of epsilon, from canaries that a coin put into the data or left out.

Steinke, Nasr and Jagielski (2023), "Privacy Auditing with One (1) Training Run", theorem 5.2 and its appendix D. Who
sees the trained model guesses which canaries were in the data; a private run bounds how often that can be right. A
bound above the promised epsilon proves that the promise is broken. One below it proves nothing.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
SHARE = 0.5  # of the canaries, about which a guess is made: those whose scores are the highest and the lowest


@dataclasses.dataclass(frozen=True)
class Audit:
    """Guesses, and what they prove.

    Attributes:
      canaries, guesses, correct: how many there were.
      epsilon: the lower bound.
      largest: the bound if all guesses were correct: no audit of so few canaries can prove more.
    """

    canaries: int
    guesses: int
    correct: int
    epsilon: float
    largest: float


def audit(scores: Sequence[float], included: Sequence[bool], delta: float, share: float = SHARE) -> Audit:
    """Guess by scores which canaries were in the data, and bound epsilon from below.

    Args:
      scores: of each canary, by the model: higher if it looks as if it was in the data.
      included: whether it was, by an independent fair coin.
      delta: that of the promise.
      share: of the canaries to guess about; it must not depend on the results.
    """
    scores, included = np.asarray(scores, np.float64), np.asarray(included, bool)
    each = max(1, int(len(scores) * share) // 2)
    order = np.argsort(scores, kind="stable")
    correct = int(included[order[-each:]].sum() + (~included[order[:each]]).sum())
    bounds = (epsilon_lower_bound(right, 2 * each, len(scores), delta) for right in (correct, 2 * each))
    return Audit(len(scores), 2 * each, correct, *bounds)


def epsilon_lower_bound(correct: int, guesses: int, canaries: int, delta: float) -> float:
    """The largest epsilon, to 0.001, that so many correct guesses rule out; 0 if they rule out none."""

    def is_ruled_out(epsilon: float) -> bool:
        return p_value(correct, guesses, canaries, epsilon, delta) < 1 - CONFIDENCE

    if not is_ruled_out(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while is_ruled_out(high):
        low, high = high, 2 * high
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if is_ruled_out(middle) else (low, middle)
    return low


def p_value(correct: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """The most probability with which a run of this epsilon and delta lets so many guesses be correct.

    With delta 0 the number of correct ones is at most binomial, each with probability e^epsilon / (1 + e^epsilon).
    """
    right = 1 / (1 + math.exp(-epsilon))
    k = np.arange(guesses + 1)
    log_choose = math.lgamma(guesses + 1) - np.array([math.lgamma(i + 1) + math.lgamma(guesses - i + 1) for i in k])
    log_wrong = -epsilon + math.log(right)
    pmf = np.exp(log_choose + k * math.log(right) + (guesses - k) * log_wrong)
    tail = pmf[correct:].sum()
    before = np.cumsum(pmf[:correct][::-1])  # P(correct - i <= W < correct) for i = 1, 2, ...
    slope = (before / np.arange(1, correct + 1)).max() if correct else 0.0
    return min(1.0, float(tail + 2 * canaries * delta * slope))
