"""Answers that a trained model judges: pairs, rated ones, and texts that a reward model scores. Nothing is learned."""

import dataclasses
from typing import Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data import chat, completions, preferences
from jaxgpt.data.base import Batch, ExampleKind, Segments, TokenizedExamples
from jaxgpt.data.config import USUAL_FIELDS, FieldNames
from jaxgpt.data.examples import Examples, read_examples, require_suffix, tabulate, without_padding
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.records import require_text
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError

MULTIPLE = 32  # rows are padded to one, so that most files of a kind are served by the same program


def parse_text(where: str, record: dict[str, Any]) -> Segments:
    """{"text"}, which is all answer."""
    return [(require_text(where, record, "text"), True)]


def answer_rows(path: str, examples: TokenizedExamples, T: int, labels: object = ()) -> tuple[Batch, list[str]]:
    """A row for each text, up to the end of its last answer; one that is longer than T loses its end.

    Returns:
      As preferences.rated_rows `tokens` (R, T), `start` and `last` (R,); int32 `line` (R,), the line of the file; and
      notes on what was cut and skipped.

    Raises:
      DataError: the prompts alone fill all rows.
    """
    answers, ends = np.flatnonzero(examples.learned), examples.end
    answer = answers[np.searchsorted(answers, ends) - 1]
    begin = examples.starts[examples.first]
    start, length = examples.starts[answer] - begin, examples.starts[answer + 1] - begin
    fits = start < T  # some of the answer is left
    if not fits.any():
        raise DataError(f"{path}: the prompts alone fill --T {T} tokens; use a larger --T")
    num_cut, num_skipped = (fits & (length > T)).sum(), (~fits).sum()
    begin, start, length = begin[fits], start[fits], np.minimum(length[fits], T)
    pieces = [examples.tokens[a : a + n] for a, n in zip(begin.tolist(), length.tolist(), strict=True)]
    rows = preferences.PaddedRows(np.concatenate(pieces), np.append(0, np.cumsum(length)), T)
    table: Batch = {"tokens": rows, "start": start.astype(np.int32), "last": (length - 1).astype(np.int32)}
    notes = [f"{plural(num_cut, 'text')} cut at the end, to --T {T}"] if num_cut else []
    notes += [f"{plural(num_skipped, 'text')} skipped: the prompt alone fills --T {T}"] if num_skipped else []
    return table | {"line": examples.lines[fits].astype(np.int32)}, notes


def _scored(kind: ExampleKind) -> ExampleKind:
    return dataclasses.replace(kind, name="texts", tabulate=answer_rows)


TEXTS = [*map(_scored, (*completions.KINDS, *chat.KINDS)), ExampleKind("texts", ("text",), parse_text, answer_rows)]


def load_judged(
    path: str, B: int, T: int, fields: FieldNames = USUAL_FIELDS, tokenizer: Tokenizer = GPT2_TOKENIZER
) -> tuple[Examples, tuple[str, ...]]:
    """Pairs of answers or rated ones, in rows as long as the longest, and the names of the groups in `group`.

    Arguments and errors as for examples.load.
    """
    require_suffix(path, '"prompt", "chosen" and "rejected"')
    kind, examples = read_examples(path, preferences.KINDS, fields, tokenizer)
    return without_padding(tabulate(path, kind, examples, B, T), MULTIPLE), examples.labels


def load_scored(
    path: str, B: int, T: int, fields: FieldNames = USUAL_FIELDS, tokenizer: Tokenizer = GPT2_TOKENIZER
) -> Examples:
    """Texts that a reward model scores: "prompt" and "completion", "messages", or "text"; else as load_judged."""
    require_suffix(path, '"prompt" and "completion", of "messages" or of "text"')
    kind, examples = read_examples(path, TEXTS, fields, tokenizer)
    return without_padding(tabulate(path, kind, examples, B, T), MULTIPLE)
