"""What a text was before parts of it were erased: its earlier fingerprints, and what each still had."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from jaxgpt.data.masking import Masked
from jaxgpt.data.redaction import merge
from jaxgpt.data.shards import Tokens
from jaxgpt.data.text import Text, Windows

MOST = 10_000  # versions of a mixture whose texts were erased from at different times


def texts_of(data: Text | Windows | Masked) -> tuple[Text, ...]:
    """The texts of a run's data, in the order of its mixture."""
    if isinstance(data, Masked):
        return texts_of(data.windows)
    return (data,) if isinstance(data, Text) else data.texts


def versions(data: Text | Windows | Masked) -> dict[str, list[np.ndarray]]:
    """The fingerprints that the data has and had, each with the ranges of every text that were erased since.

    Fewer than all where a mixture has more than 10,000 of them.
    """
    if isinstance(data, Masked):
        return versions(data.windows)
    choices = [list(_versions_of(text)) for text in texts_of(data)]
    found: dict[str, list[np.ndarray]] = {}
    for combination in itertools.islice(itertools.product(*choices), MOST):
        texts, ranges = zip(*combination, strict=True)
        version = texts[0] if isinstance(data, Text) else dataclasses.replace(data, texts=texts)
        found[version.fingerprint] = list(ranges)
    return found


def _versions_of(text: Text) -> Iterator[tuple[Text, np.ndarray]]:
    """A text with each fingerprint that it has or had, the newest first, and what was erased since."""
    erasures = text.tokens.erasures if isinstance(text.tokens, Tokens) else ()
    yield text, merge([])
    for i in reversed(range(len(erasures))):
        since = merge(pair for each in erasures[i:] for pair in each.ranges)
        yield dataclasses.replace(text, fingerprint=erasures[i].fingerprint), since
