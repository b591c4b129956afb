"""Which window of which text comes when: an order that is computed, never stored. Pure, numpy only."""

import functools
import hashlib
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from jaxgpt.errors import UsageError

# ---- One text: a permutation

# A chi-square test over positions and pairs tells 40,000 permutations of 50 windows from random ones with 6 rounds, and
# hardly those of 100; 20,000 of 5 to 7 windows with 12 rounds, and not with 16. So few windows may take more time.
ROUNDS, FEW_WINDOWS, ROUNDS_FOR_FEW = 6, 1000, 24
WORD = np.dtype(np.uint64)
# The mixer's multipliers: odd numbers whose bits have no pattern, the golden ratio's and one of SplitMix's authors.
MULTIPLIER_1, MULTIPLIER_2 = np.array(0x9E3779B97F4A7C15, WORD), np.array(0xD1342543DE82EF95, WORD)
HALF_WORD = np.array(32, WORD)


def permute(index: np.ndarray, n: int, key: Sequence[int]) -> np.ndarray:
    """Map indices by a keyed permutation of range(n), in memory that does not grow with n.

    A generalised Feistel network over Z_a x Z_b, where a*b is just above n; results beyond n go through it again until
    they are below (Black and Rogaway, 2002, "Ciphers with arbitrary finite domains", sections 4 and 5).

    Args:
      index: integers from 0 to n - 1, of any shape.
      n: from 1 to 2**62.
      key: whole numbers; another key gives another permutation.

    Returns:
      int64, of index's shape. The images of range(n) are every value once.
    """
    return _walk(_feistel, index, n, key)


def unpermute(image: np.ndarray, n: int, key: Sequence[int]) -> np.ndarray:
    """The inverse of `permute`: the indices that it maps to these images."""
    return _walk(_inverse_feistel, image, n, key)


def _walk(network: Callable[..., np.ndarray], values: np.ndarray, n: int, key: Sequence[int]) -> np.ndarray:
    """The values through the network, once more where the result is beyond n, until all are below."""
    a, b = _sides(n)
    keys = _round_keys(tuple(key), ROUNDS if n >= FEW_WINDOWS else ROUNDS_FOR_FEW)
    values = np.asarray(values)
    result = network(values.reshape(-1).astype(WORD), a, b, keys)
    while (beyond := result >= n).any():
        result[beyond] = network(result[beyond], a, b, keys)
    return result.astype(np.int64).reshape(values.shape)


def _feistel(index: np.ndarray, a: np.ndarray, b: np.ndarray, keys: Sequence[np.ndarray]) -> np.ndarray:
    right, left = index // a, index % a  # faster than divmod
    for key in keys:  # left is in Z_a; then the two change places, and so do a and b
        mixed = _mix(right, key)
        mixed += left
        mixed %= a
        left, right, a, b = right, mixed, b, a
    return left + right * a


def _inverse_feistel(image: np.ndarray, a: np.ndarray, b: np.ndarray, keys: Sequence[np.ndarray]) -> np.ndarray:
    right, left = image // a, image % a  # the rounds are even in number, so that a and b are in their places again
    for key in reversed(keys):
        a, b = b, a
        left, right = (right + a - _mix(left, key) % a) % a, left
    return left + right * a


def _mix(half: np.ndarray, key: np.ndarray) -> np.ndarray:
    """A hash of each number with a round's key, below 2**32."""
    mixed = half ^ key
    mixed *= MULTIPLIER_1
    mixed ^= mixed >> HALF_WORD
    mixed *= MULTIPLIER_2
    mixed >>= HALF_WORD
    return mixed


@functools.lru_cache(maxsize=64)
def _sides(n: int) -> tuple[np.ndarray, np.ndarray]:
    """a and b near the root of n, a*b >= n. a is even: else all permutations of a*b would have one sign."""
    root = math.isqrt(n - 1) + 1
    candidates = range(root + root % 2, root + root // 4 + 2, 2)[:64]
    a = min(candidates, key=lambda a: -n % a)  # this is a*b - n, the number of values that go through twice
    return np.array(a, WORD), np.array(-(-n // a), WORD)


@functools.lru_cache(maxsize=64)
def _round_keys(key: tuple[int, ...], rounds: int) -> list[np.ndarray]:
    digest = hashlib.shake_256(repr(key).encode()).digest(rounds * WORD.itemsize)
    return [np.array(word, WORD) for word in np.frombuffer(digest, "<u8")]  # arrays: numpy is slower with its scalars


# ---- Several texts: a schedule

MAX_PERIOD = 100_000  # windows after which a schedule repeats: they are computed one by one


def mixture_schedule(window: np.ndarray, weights: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The source of each window of a run, and the window's number within its source.

    After k windows each source's count is within less than 1 of its weight's share of k, for every k, and equals it
    whenever sum(weights) divides k. Nothing is random.

    Args:
      window: numbers from 0, of any shape.
      weights: whole numbers above 0, one for each source; their sum is at most MAX_PERIOD.

    Returns:
      The source and the number within the source, int64, of window's shape.
    """
    window = np.asarray(window, np.int64)
    if len(weights) == 1:
        return np.zeros(window.shape, np.int64), window
    source, number = _period(weights)
    period, at = np.divmod(window, len(source))
    return source[at], period * np.array(weights, np.int64)[source[at]] + number[at]


def find_windows(source: int, number: np.ndarray, weights: tuple[int, ...]) -> np.ndarray:
    """The inverse of `mixture_schedule`: which windows of a run are a source's windows of these numbers, int64."""
    number = np.asarray(number, np.int64)
    if len(weights) == 1:
        return number
    places = np.flatnonzero(_period(weights)[0] == source)  # of the source's windows in a period
    period, at = np.divmod(number, weights[source])
    return period * sum(weights) + places[at]


def count_windows(source: int, window: int, weights: tuple[int, ...]) -> int:
    """How many of a run's first `window` windows are a source's."""
    if len(weights) == 1:
        return window
    period, at = divmod(window, sum(weights))
    return period * weights[source] + int(np.count_nonzero(_period(weights)[0][:at] == source))


@functools.lru_cache(maxsize=8)
def _period(weights: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One period of the schedule, sum(weights) windows: the source of each, and its number within the source.

    Among the sources that lag behind enough, the one whose deadline is earliest comes next (Tijdeman, 1980, "The
    chairman assignment problem"): no count is ever off by more than 1 - 1/(2*sources - 2).
    """
    m, total = len(weights), sum(weights)
    counts, sources, numbers = [0] * m, [], []
    for k in range(1, total + 1):
        lags = [k * weight - count * total for weight, count in zip(weights, counts, strict=True)]  # times total
        eligible = [i for i in range(m) if lags[i] * (2 * m - 2) >= total]
        source = min(eligible, key=lambda i: Fraction((2 * m - 3) * total - (2 * m - 2) * lags[i], weights[i]))
        sources.append(source)
        numbers.append(counts[source])
        counts[source] += 1
    return np.array(sources, np.int64), np.array(numbers, np.int64)


def parse_mixture(mix: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names and the weights of --mix NAME=WEIGHT,NAME=WEIGHT; 0.7 and 0.3 become 7 and 3.

    A comma separates only behind a weight, since a name may contain one; blanks around names and weights don't count.

    Raises:
      UsageError: it is not of that form, or its schedule would be too long.
    """
    names, weights = [], []
    for part in re.sub("(=[^,]*),", "\\1\0", mix).split("\0"):
        name, _, weight = map(str.strip, part.rpartition("="))  # a name may contain one too
        if not name or not re.fullmatch(r"\d{1,9}(\.\d{1,9})?|\.\d{1,9}", weight) or not Fraction(weight):
            raise UsageError(
                f"--mix {mix}: {part!r} is no text with its weight; give a.txt=0.7,b.txt=0.3, each weight above 0"
            )
        if name in names:
            raise UsageError(f"--mix {mix}: {name} is named twice; give it once, with the sum of its weights")
        names.append(name)
        weights.append(Fraction(weight))
    integers = [int(weight * math.lcm(*(each.denominator for each in weights))) for weight in weights]
    integers = [integer // math.gcd(*integers) for integer in integers]
    if sum(integers) > MAX_PERIOD:
        raise UsageError(
            f"--mix {mix}: the weights are {', '.join(map(str, integers))} parts of {sum(integers):,}, and "
            f"{MAX_PERIOD:,} parts are the most; round them"
        )
    return tuple(names), tuple(integers)
