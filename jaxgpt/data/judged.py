"""Answers that a trained model judges: pairs, rated ones, and texts that a reward model scores. Nothing is learned."""

import dataclasses
from typing import Any

from jaxgpt.data import chat, completions, preferences
from jaxgpt.data.base import Batch, ExampleKind, Segments, TokenizedExamples
from jaxgpt.data.config import USUAL_FIELDS, FieldNames
from jaxgpt.data.examples import Examples, read_examples, require_suffix, tabulate, without_padding
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.records import require_text
from jaxgpt.data.tokenizer import Tokenizer

MULTIPLE = 32  # rows are padded to one, so that most files of a kind are served by the same program


def parse_text(where: str, record: dict[str, Any]) -> Segments:
    """{"text"}, which is all answer."""
    return [(require_text(where, record, "text"), True)]


def text_rows(path: str, examples: TokenizedExamples, T: int, labels: object = ()) -> tuple[Batch, list[str]]:
    """As preferences.answer_rows, of the last answer of each text."""
    table, _, notes = preferences.answer_rows(path, examples, T, "text")
    return table, notes


TEXTS = [
    dataclasses.replace(kind, name="texts", tabulate=text_rows)
    for kind in (*completions.KINDS, *chat.KINDS, ExampleKind("texts", ("text",), parse_text, text_rows))
]


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
