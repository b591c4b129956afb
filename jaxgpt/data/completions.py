"""Prompts with completions as rows of tokens, where the loss counts the completions alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch, ExampleKind, NumberedExamples, Segments
from jaxgpt.data.records import require_text
from jaxgpt.data.tokenizer import END, encode
from jaxgpt.errors import DataError

# Those of Stanford Alpaca (Taori et al., 2023), its train.py's PROMPT_DICT.
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
Document = tuple[list[int], list[bool]]  # tokens, and whether each is learned


def parse_completion(where: str, record: dict[str, Any]) -> Segments:
    """{"prompt", "completion"}, of which the completion is learned; either may be empty."""
    prompt, completion = (require_text(where, record, field, may_be_empty=True) for field in ("prompt", "completion"))
    return [(prompt, False), (completion, True)]


def parse_instruction(where: str, record: dict[str, Any]) -> Segments:
    """{"instruction", "output"} and, where it is not empty, "input", in Alpaca's prompt; the output is learned."""
    fields = ["instruction", "output"] + ["input"] * bool(record.get("input"))
    texts = {field: require_text(where, record, field, may_be_empty=True) for field in fields}
    prompt = (ALPACA_WITH_INPUT if "input" in texts else ALPACA).format_map(texts)
    return [(prompt, False), (texts["output"], True)]


def encode_segments(segments: Segments) -> Document:
    """The tokens of an example. Each segment that is learned ends in <|endoftext|>, which is learned too.

    Where nothing comes before the first of them, <|endoftext|> does, as it comes before every document of a text.
    """
    tokens: list[int] = []
    learned: list[bool] = []
    for text, is_learned in segments:
        ids = encode(text).tolist() + [END] * is_learned
        if is_learned and not tokens:
            tokens, learned = [END], [False]
        tokens += ids
        learned += [is_learned] * len(ids)
    return tokens, learned


def pack_rows(path: str, documents: list[Document], T: int) -> tuple[Batch, list[str]]:
    """Pack documents into rows of T tokens, in their order; one that doesn't fit begins a new row.

    A document longer than a row loses its end; if that leaves nothing to learn, it is skipped.

    Args:
      path: the file, for errors.

    Returns:
      `tokens` uint16, `targets` int32 (-1 where a token is not learned) and `positions` uint16, each (R, T); and notes
      on what was cut and skipped.

    Raises:
      DataError: no document has anything to learn within T tokens.
    """
    num_cut = num_skipped = 0
    rows: list[list[Document]] = []
    room = 0
    for tokens, learned in documents:
        num_cut += len(tokens) > T + 1
        tokens, learned = tokens[: T + 1], learned[: T + 1]
        if not any(learned[1:]):  # the first token is never a target
            num_skipped += 1
            continue
        if len(tokens) - 1 > room:
            rows.append([])
            room = T
        rows[-1].append((tokens, learned))
        room -= len(tokens) - 1
    if not rows:
        raise DataError(f"{path}: the prompts alone fill --T {T} tokens; use a larger --T")
    x, y = np.zeros((len(rows), T), np.uint16), np.full((len(rows), T), -1, np.int32)
    positions = np.zeros((len(rows), T), np.uint16)
    for row, packed in enumerate(rows):
        start = 0
        for tokens, learned in packed:
            columns = slice(start, start + len(tokens) - 1)
            x[row, columns] = tokens[:-1]
            y[row, columns] = np.where(learned[1:], tokens[1:], -1)
            positions[row, columns] = range(len(tokens) - 1)
            start = columns.stop
        positions[row, start:] = range(T - start)  # the rest of the row is a document of its own, not learned
    notes = [f"{num_cut:,} examples are longer than --T {T} and lose their end"] if num_cut else []
    notes += [f"{num_skipped:,} of them are skipped: their prompts alone fill it"] if num_skipped else []
    return {"tokens": x, "targets": y, "positions": positions}, notes


def completion_rows(path: str, examples: NumberedExamples, T: int, labels: Sequence[str]) -> tuple[Batch, list[str]]:
    """Examples of Segments as `pack_rows` packs them; there are no labels. A note counts those that are empty."""
    table, notes = pack_rows(path, [encode_segments(segments) for _, segments in examples], T)
    num_empty = sum(not any(text for text, is_learned in segments if is_learned) for _, segments in examples)
    if num_empty:
        notes.append(f"{num_empty:,} examples have an empty completion: only <|endoftext|> is learned of them")
    return table, notes


KINDS = [
    ExampleKind("completions", ("prompt", "completion"), parse_completion, completion_rows),
    ExampleKind("completions", ("instruction", "output"), parse_instruction, completion_rows),
]
