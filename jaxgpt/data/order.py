"""Which window of which text comes when: an order that is computed, never stored. Pure, numpy only."""

import functools
import hashlib
import math
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from jaxgpt.errors import UsageError

# ---- One text: a permutation

# By chi-square over places and pairs, 40,000 permutations of 50 can be told from drawn ones with 6 rounds, and of 100
# not clearly; 20,000 of 5 to 7 could with 12 rounds, and not with 16. A text of so few windows may take its time.
ROUNDS, FEW, ROUNDS_OF_FEW = 6, 1000, 24
WORD = np.dtype(np.uint64)
# Of the mixer: odd numbers with bits in no pattern, the golden ratio's and the one that SplitMix's authors took.
FIRST, SECOND = np.array(0x9E3779B97F4A7C15, WORD), np.array(0xD1342543DE82EF95, WORD)
HALF = np.array(32, WORD)


def permuted(index: np.ndarray, n: int, key: Sequence[int]) -> np.ndarray:
    """Where a keyed permutation of range(n) takes these indices, in memory that does not grow with n.

    A generalised Feistel network over Z_a x Z_b, of which a*b is just above n; what lands beyond n goes through it
    again until it does not (Black and Rogaway, 2002, "Ciphers with arbitrary finite domains", sections 4 and 5).

    Args:
      index: integers from 0 to n - 1, of any shape.
      n: from 1 to 2**62.
      key: whole numbers; another key is another permutation.

    Returns:
      int64, of the shape of index. Of range(n) every value once.
    """
    a, b = _sides(n)
    keys = _round_keys(tuple(key), ROUNDS if n >= FEW else ROUNDS_OF_FEW)
    index = np.asarray(index)
    found = _network(index.reshape(-1).astype(WORD), a, b, keys)
    while (beyond := found >= n).any():
        found[beyond] = _network(found[beyond], a, b, keys)
    return found.astype(np.int64).reshape(index.shape)


def _network(index: np.ndarray, a: np.ndarray, b: np.ndarray, keys: Sequence[np.ndarray]) -> np.ndarray:
    right, left = index // a, index % a  # faster than divmod
    for key in keys:  # left is of Z_a; then the two change places, and so do a and b
        mixed = right ^ key
        mixed *= FIRST
        mixed ^= mixed >> HALF
        mixed *= SECOND
        mixed >>= HALF
        mixed += left
        mixed %= a
        left, right, a, b = right, mixed, b, a
    return left + right * a


@functools.lru_cache(maxsize=64)
def _sides(n: int) -> tuple[np.ndarray, np.ndarray]:
    """a and b near the root of n, a*b >= n. a is even: else all permutations of a*b would have one sign."""
    root = math.isqrt(n - 1) + 1
    candidates = range(root + root % 2, root + root // 4 + 2, 2)[:64]
    a = min(candidates, key=lambda a: -n % a)  # a*b - n is this, the share that goes through again
    return np.array(a, WORD), np.array(-(-n // a), WORD)


@functools.lru_cache(maxsize=64)
def _round_keys(key: tuple[int, ...], rounds: int) -> list[np.ndarray]:
    digest = hashlib.shake_256(repr(key).encode()).digest(rounds * WORD.itemsize)
    return [np.array(word, WORD) for word in np.frombuffer(digest, "<u8")]  # arrays: numpy is slower with its scalars


# ---- Several texts: a schedule

LONGEST = 100_000  # windows after which a schedule begins anew: they are computed one by one


def mixed(window: np.ndarray, weights: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which of several sources each window of a run comes from, and the how manieth of that source it is.

    After k windows each source has had its weight's share of k to within less than 1, for every k, and exactly its
    share whenever the sum of the weights divides k. Nothing is drawn.

    Args:
      window: numbers from 0, of any shape.
      weights: whole numbers above 0, one for each source, with a sum of at most LONGEST.

    Returns:
      The source and the number within the source, int64, of the shape of window.
    """
    window = np.asarray(window, np.int64)
    if len(weights) == 1:
        return np.zeros(window.shape, np.int64), window
    source, number = _turn(weights)
    turn, at = np.divmod(window, len(source))
    return source[at], turn * np.array(weights, np.int64)[source[at]] + number[at]


@functools.lru_cache(maxsize=8)
def _turn(weights: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A turn of the schedule, of as many windows as the sum of the weights: the source of each, its number there.

    Of the sources that lag behind enough the one goes first that will be latest first (Tijdeman, 1980, "The chairman
    assignment problem"): no count is ever off by more than 1 - 1/(2*sources - 2).
    """
    m, total = len(weights), sum(weights)
    counts, sources, numbers = [0] * m, [], []
    for k in range(1, total + 1):
        lags = [k * weight - count * total for weight, count in zip(weights, counts, strict=True)]  # times total
        able = [i for i in range(m) if lags[i] * (2 * m - 2) >= total]
        first = min(able, key=lambda i: Fraction((2 * m - 3) * total - (2 * m - 2) * lags[i], weights[i]))
        sources.append(first)
        numbers.append(counts[first])
        counts[first] += 1
    return np.array(sources, np.int64), np.array(numbers, np.int64)


def shares(mix: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names and the weights of --mix NAME=WEIGHT,NAME=WEIGHT; 0.7 and 0.3 are 7 and 3.

    Raises:
      UsageError: it is not of that form, or its schedule would be too long.
    """
    names, weights = [], []
    for part in mix.split(","):
        name, _, weight = part.rpartition("=")  # a name may have one too
        if not name or not re.fullmatch(r"\d{1,9}(\.\d{1,9})?|\.\d{1,9}", weight) or not Fraction(weight):
            raise UsageError(
                f"--mix {mix}: {part!r} is no text with its weight; give a.txt=0.7,b.txt=0.3, each weight above 0"
            )
        if name in names:
            raise UsageError(f"--mix {mix}: {name} is named twice; give it once, with the sum of its weights")
        names.append(name)
        weights.append(Fraction(weight))
    whole = [int(weight * math.lcm(*(each.denominator for each in weights))) for weight in weights]
    whole = [weight // math.gcd(*whole) for weight in whole]
    if sum(whole) > LONGEST:
        raise UsageError(
            f"--mix {mix}: the weights are {', '.join(map(str, whole))} parts of {sum(whole):,}, and {LONGEST:,} parts "
            "are the most; round them"
        )
    return tuple(names), tuple(whole)
