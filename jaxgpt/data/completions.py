"""Prompts with completions as rows of tokens, where the loss counts the completions alone."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data.base import Batch, ExampleKind, Segments, TokenizedExamples
from jaxgpt.data.packing import best_fit_decreasing, enumerate_spans, one_a_row
from jaxgpt.data.records import require_text
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


def parse_completion(where: str, record: dict[str, Any]) -> Segments:
    """{"prompt", "completion"}, of which the completion is learned; either may be empty."""
    if isinstance(record["prompt"], list) or isinstance(record["completion"], list):
        join = "jq -c '{messages: (.prompt + .completion)}'"
        raise DataError(
            f"{where}: a list of messages, and must be a text; make it a conversation: {join} FILE > NEW.jsonl"
        )
    prompt, completion = (require_text(where, record, field, may_be_empty=True) for field in ("prompt", "completion"))
    return [(prompt, False), (completion, True)]


def parse_instruction(where: str, record: dict[str, Any]) -> Segments:
    """{"instruction", "output"} and, where it is not empty, "input", in Alpaca's prompt; the output is learned."""
    fields = ["instruction", "output"] + ["input"] * bool(record.get("input"))
    texts = {field: require_text(where, record, field, may_be_empty=True) for field in fields}
    prompt = (ALPACA_WITH_INPUT if "input" in texts else ALPACA).format_map(texts)
    return [(prompt, False), (texts["output"], True)]


def pack_rows(
    path: str,
    examples: TokenizedExamples,
    T: int,
    labels: Sequence[str] = (),
    place: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]] = best_fit_decreasing,
) -> tuple[Batch, list[str]]:
    """Pack examples into rows of T tokens.

    An example longer than a row loses its end; if that leaves nothing to learn, it is skipped.

    Args:
      path: the file, for errors.
      place: which row each example goes to, and where in it, as packing.best_fit_decreasing says; or one_a_row.

    Returns:
      `tokens` uint16 or uint32, `targets` int32 (-1 where a token is not learned) and `positions` uint16, each (R, T),
      and with one example a row `line` (R,), that of the file; and notes on what was cut and skipped.

    Raises:
      DataError: no example has anything to learn within T tokens.
    """
    start = examples.starts[examples.first]
    length = examples.starts[examples.end] - start
    answers = np.flatnonzero(examples.learned)
    first_answer = answers[np.searchsorted(answers, examples.first)]
    fits = examples.starts[first_answer] - start <= T  # some of the answer is left
    num_cut, num_skipped = (fits & (length > T + 1)).sum(), (~fits).sum()
    if not fits.any():
        raise DataError(f"{path}: the prompts alone fill --T {T} tokens; use a larger --T")
    start, length = start[fits], np.minimum(length[fits] - 1, T)  # each token but the last predicts the next
    row, column = place(length, T)
    table = _fill_rows(examples, T, start, length, row, column)
    if place is one_a_row:
        table["line"] = examples.lines[fits]
    notes = [f"{plural(num_cut, 'example')} cut at the end, to --T {T}"] if num_cut else []
    notes += [f"{plural(num_skipped, 'example')} skipped: the prompt alone fills --T {T}"] if num_skipped else []
    written = np.cumsum(np.where(examples.learned, np.diff(examples.starts) - 1, 0))  # tokens before <|endoftext|>
    if num_empty := (written[examples.end - 1] == np.append(0, written)[examples.first]).sum():
        notes.append(f"{plural(num_empty, 'example')} with an empty completion: only <|endoftext|> is learned")
    return table, notes


def _fill_rows(
    examples: TokenizedExamples, T: int, start: np.ndarray, length: np.ndarray, row: np.ndarray, column: np.ndarray
) -> Batch:
    """Rows of T tokens, with `length` of them, from `start` on, in each row from the column on."""
    R = row.max() + 1
    x, y = np.zeros(R * T, examples.tokens.dtype), np.full(R * T, -1, np.int32)
    used = np.bincount(row, length).astype(np.uint16)
    # What is left of a row is a document of its own, not learned; before it the numbers wrap around, and are replaced.
    positions = (np.arange(T, dtype=np.uint16) - used[:, None]).reshape(-1)
    learned = np.repeat(examples.learned, np.diff(examples.starts))  # by token
    for span, offset in enumerate_spans(length):
        source, target = start[span] + offset, row[span] * T + column[span] + offset
        x[target], positions[target] = examples.tokens[source], offset
        y[target] = np.where(learned[source + 1], examples.tokens[source + 1].astype(np.int32), -1)
    return {"tokens": x.reshape(R, T), "targets": y.reshape(R, T), "positions": positions.reshape(R, T)}


KINDS = [
    ExampleKind("completions", ("prompt", "completion"), parse_completion, pack_rows),
    ExampleKind("completions", ("instruction", "output"), parse_instruction, pack_rows),
]
