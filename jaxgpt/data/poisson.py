"""Poisson sampling: each unit of the data is in a step's batch with the same probability, whatever the others are.

Whether unit i is in step k depends only on (key, k, i): word i of a counter-based random generator whose key is the
run's secret and whose counter has k. No order is kept, and the position counts steps.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch, Dataset, all_rows
from jaxgpt.data.examples import Examples, as_batch
from jaxgpt.data.masking import Masked, frame, mask_row
from jaxgpt.data.redaction import mask_targets
from jaxgpt.data.text import Text, erased_ranges
from jaxgpt.data.units import Units, single_rows
from jaxgpt.errors import DataError

CHUNK = 1 << 20  # words at a time: 8 MB
OVERFLOW = 1e-12  # the probability that any step of a run draws more than its batches hold


def draw(key: bytes, step: int, n: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Which of n units are in a step's batch, each with probability `rate`.

    A word of Philox (Salmon et al., 2011, "Parallel Random Numbers: As Easy as 1, 2, 3") for each unit, and a
    comparison.

    Args:
      key: 16 bytes.

    Returns:
      The units' numbers, int64; and for each one a second random number, float64, from 0 to 1.
    """
    highest = min(int(rate * 2.0**64), 2**64) - 1  # of the words that are drawn
    units, words = [], []
    for first in range(0, n, CHUNK):
        counter = np.array([first // 4, 0, 0, step], np.uint64)  # a block of the generator has four words
        generator = np.random.Philox(counter=counter, key=np.frombuffer(key, "<u8").astype(np.uint64))
        word = generator.random_raw(min(CHUNK, n - first))
        drawn = np.flatnonzero(word <= np.uint64(highest))
        units.append(first + drawn)
        words.append(word[drawn])
    return np.concatenate(units), np.concatenate(words) / (highest + 1)


def largest_draw(expected: float, n: int, steps: int) -> int:
    """How many of n units no step of a run draws more than, but with a probability below OVERFLOW.

    By Chernoff's bound of a sum of independent draws: P(X >= a) <= exp(a - m - a ln(a/m)) for a mean m.
    """
    a = math.ceil(expected) + 1
    while a < n and a - expected - a * math.log(a / expected) > math.log(OVERFLOW / steps):
        a += 1
    return min(a, n)


@dataclasses.dataclass(frozen=True)
class Poisson:
    """Batches that are drawn, as base.Dataset; each is filled up to `capacity` rows.

    A batch has a column more, `slot`, int32: the row's number among those that were drawn, -1 for filling. Each of
    `shares` equal parts of a batch has as many of them, to within one, before its filling.

    Attributes:
      data: what is drawn from: rows of T tokens, or a text's pieces of them with the tokens that they predict, which
        do not overlap.
      key: 16 bytes, which nobody else may know.
      units: the rows that are drawn together; of each unit that is drawn, one of its rows comes, by chance.
      steps: of the run.
      multiple: of which each share of a batch is.
      B: the expected number of units of a batch.
    """

    data: Text | Masked | Examples
    key: bytes
    units: Units
    steps: int
    shares: int = 1
    multiple: int = 1
    B: int = dataclasses.field(kw_only=True)
    rows: slice = dataclasses.field(default_factory=all_rows, kw_only=True)

    name = property(lambda self: self.data.name)
    kind = property(lambda self: self.data.kind)
    fingerprint = property(lambda self: self.data.fingerprint)
    notes = property(lambda self: self.data.notes)
    labels = property(lambda self: self.data.labels)
    is_chat = property(lambda self: self.data.is_chat)
    tokenizer = property(lambda self: self.data.tokenizer)
    T = property(lambda self: self.data.T)

    @property
    def rate(self) -> float:
        """The probability of each unit."""
        return self.B / len(self.units)

    @functools.cached_property
    def capacity(self) -> int:
        """Rows of a batch."""
        most = largest_draw(self.B, len(self.units), self.steps)
        return self.shares * self.multiple * -(-most // (self.shares * self.multiple))

    def batch(self, position: int, model: Any = None) -> tuple[Batch, int]:
        """The rows that the step at this position draws. DataError: they are more than `capacity`."""
        step = position // (self.B * self.T)
        units, chance = draw(self.key, step, len(self.units), self.rate)
        if len(units) > self.capacity:
            problem = f"step {step:,} draws {len(units):,} rows, and {self.capacity:,} have room"
            raise DataError(f"{self.name}: {problem}, which has a probability below {OVERFLOW:g}; use --fresh")
        slot = np.full(self.capacity, -1, np.int32)
        number = np.arange(len(units))
        slot[number % self.shares * (self.capacity // self.shares) + number // self.shares] = number
        slot = slot[self.rows]
        chosen = np.append(self.units.choose(units, chance), 0)[slot]  # filling is row 0, which nobody looks at
        return take(self.data, chosen, step) | {"slot": slot}, position + self.B * self.T

    def one_pass(self, model: Any = None) -> Iterator[Batch]:
        return self.data.one_pass(model)

    def num_rows(self) -> int:
        return self.data.num_rows()

    def batches_per_epoch(self) -> float:
        return self.data.batches_per_epoch()

    def resume_position(self, saved: int) -> int:
        return saved  # B and T stay as they were: see order_facts

    def num_bytes(self) -> int | None:
        return self.data.num_bytes()

    def order_facts(self) -> dict[str, Any]:
        """With another B or T, or other units, the noise would be another."""
        facts = {name: value for name, value in self.data.order_facts().items() if name not in ("order", "packing")}
        return facts | {"T": self.T, "sampling": f"Poisson, {self.B} of {len(self.units)}"}

    def __str__(self) -> str:
        return str(self.data)


def num_batch_rows(data: Dataset) -> int:
    """Rows of a batch, filling included."""
    return data.capacity if isinstance(data, Poisson) else data.B


def count_rows(data: Text | Masked | Examples) -> int:
    """How many rows there are to be drawn."""
    if isinstance(data, Examples):
        return data.num_rows()
    return len(_tokens(data)) // _stride(data)


def row_units(data: Text | Masked | Examples) -> Units:
    """Each row as a unit.

    Raises:
      DataError: there is none.
    """
    if not (count := count_rows(data)):
        raise DataError(f"{data.name}: no row of {_stride(data):,} tokens in it; use a smaller --T")
    return single_rows(count)


def take(data: Text | Masked | Examples, rows: np.ndarray, step: int) -> Batch:
    """Some rows as a batch; an encoder's masks depend on the row and the step."""
    if isinstance(data, Examples):
        return {name: as_batch(array[rows]) for name, array in data.table.items()}
    tokens, T, stride = _tokens(data), data.T, _stride(data)
    ids = np.empty((len(rows), stride), np.int32)
    for i, row in enumerate(rows.tolist()):
        ids[i] = tokens[row * stride : (row + 1) * stride]
    if isinstance(data, Masked):
        count, framed, ordinary = count_rows(data), frame(ids, data.tokenizer), data.ordinary
        numbers = (step * count + rows).tolist()
        pairs = [
            mask_row(each, data.seed, number, data.ratio, data.tokenizer.mask, ordinary)
            for each, number in zip(framed, numbers, strict=True)
        ]
        tokens, targets = (np.stack(each) for each in zip(*pairs, strict=True))
        return {"tokens": tokens, "targets": targets}
    x, *y = (ids[:, i : i + T] for i in range(data.horizon + 1))
    targets = y[0] if data.horizon == 1 else np.stack(y, axis=1)
    if len(erased := erased_ranges(data)):  # an encoder hides no end token, and erased ones are these
        targets = mask_targets(targets, rows * stride, erased, data.tokenizer.end)
    return {"tokens": x, "targets": targets}


def _tokens(data: Text | Masked) -> Any:
    return data.windows.texts[0].tokens if isinstance(data, Masked) else data.tokens


def _stride(data: Text | Masked) -> int:
    """Tokens of a row, with those that it predicts: no token is in two rows."""
    return data.T + (0 if isinstance(data, Masked) else data.horizon)
