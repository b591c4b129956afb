"""When a run reads which tokens: the inverse of the loader, by arithmetic, without a log and without a scan."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxgpt.data.masking import Masked
from jaxgpt.data.order import count_windows, find_windows, unpermute
from jaxgpt.data.text import Text, Windows
from jaxgpt.data.windows import order_key


class Stretch(NamedTuple):
    """What a start of a run trains in batches of one size.

    Attributes:
      step: its first.
      B, T: a batch has B sequences of T tokens, those of `accumulate` together.
      position: of the batch of its first step.
    """

    step: int
    B: int
    T: int
    position: int = 0


def position_at(data: Text | Windows | Masked, stretch: Stretch, step: int) -> int:
    """The position of a later step's batch, as the batches of a stretch lead to it."""
    count, stride = step - stretch.step, stretch.B * stretch.T
    if not isinstance(data, Text):
        return stretch.position + count * stride
    for first, place, batches in _epochs(data, stretch, count):
        if count < first + batches:
            return place + (count - first) * stride
    raise AssertionError("no epoch has this batch")


def first_read(data: Text | Windows | Masked, ranges: Sequence[np.ndarray], stretch: Stretch, end: int) -> int | None:
    """The first step of a stretch whose batch holds a token of some ranges, as an input or as a target.

    Args:
      data: what the run trains on; its own B and T don't count.
      ranges: int64 (R, 2) for each text of the data: first tokens, and those after the last.
      end: the step at which the stretch ends, which it does not have.

    Returns:
      None: no step has one.
    """
    if isinstance(data, Masked):  # whose windows have no target after their last token
        return first_read_of_windows(data.windows, ranges, stretch, end, ahead=0)
    if isinstance(data, Windows):
        return first_read_of_windows(data, ranges, stretch, end, ahead=data.horizon)
    (ranges,), stride, count = ranges, stretch.B * stretch.T, end - stretch.step
    for first, place, batches in _epochs(data, stretch, 0):
        lowest = np.maximum((ranges[:, 0] - data.horizon - place) // stride, 0)  # in the epoch
        highest = np.minimum((ranges[:, 1] - 1 - place) // stride, batches - 1)
        found = lowest[lowest <= highest]
        if len(found):
            number = first + int(found.min())
            return stretch.step + number if number < count else None
        if first:  # a whole epoch has none
            break
    return None


def first_read_of_windows(
    data: Windows, ranges: Sequence[np.ndarray], stretch: Stretch, end: int, ahead: int
) -> int | None:
    """As `first_read`; `ahead`: how many tokens behind a window's last one are read with it."""
    T, done = stretch.T, stretch.position // stretch.T
    first_windows = []
    for i, (text, of_text) in enumerate(zip(data.texts, ranges, strict=True)):
        count = (len(text.tokens) - data.horizon) // T
        numbers = [
            np.arange(max((first - ahead) // T, 0), min((last - 1) // T + 1, count)) for first, last in of_text.tolist()
        ]
        numbers = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
        if not len(numbers):
            continue
        seen = count_windows(i, done, data.weights)
        for epoch in (seen // count, seen // count + 1):
            key = None if data.seed is None else order_key(data.seed, epoch, i)
            places = epoch * count + (numbers if key is None else unpermute(numbers, count, key))
            if (places >= seen).any():
                first_windows.append(int(find_windows(i, places[places >= seen].min(), data.weights)))
                break
    step = stretch.step + (min(first_windows) - done) // stretch.B if first_windows else end
    return step if step < end else None


def _epochs(data: Text, stretch: Stretch, skipped: int) -> Iterator[tuple[int, int, int]]:
    """The epochs of a stretch, from that of batch `skipped` on: its first batch, that one's position, and how many."""
    stride, window = stretch.B * stretch.T, stretch.B * stretch.T + data.horizon
    place = stretch.position if stretch.position + window <= len(data.tokens) else 0  # as in Text.resume_position
    left, whole = ((len(data.tokens) - window - first) // stride + 1 for first in (place, 0))
    if skipped < left:
        yield 0, place, left
    first = left + max(0, skipped - left) // whole * whole
    while True:
        yield first, 0, whole
        first += whole
