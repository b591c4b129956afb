"""Prompts with completions and conversations as rows of tokens, where the loss counts the answers alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch, ExampleKind, NumberedExamples
from jaxgpt.data.records import encode, require_text
from jaxgpt.data.tokenizer import gpt2
from jaxgpt.errors import DataError

ROLES = ("system", "user", "assistant")
Segments = list[tuple[str, bool]]  # the pieces of an example's text, and whether each is learned
Document = tuple[list[int], list[bool]]  # tokens, and whether each is learned


def parse_completion(where: str, record: dict[str, Any]) -> Segments:
    """{"prompt", "completion"}, of which the completion is learned."""
    prompt, completion = (require_text(where, record, field) for field in ("prompt", "completion"))
    return [(prompt, False), (completion, True)]


def parse_conversation(where: str, record: dict[str, Any]) -> Segments:
    """{"messages"} by the template "System: ...", "User: ...", "Assistant: ...", with an empty line between the turns.

    The assistant's text, from the blank before it, is learned.
    """
    segments = list(_turns(where, record["messages"]))
    if not any(is_answer for _, is_answer in segments):
        raise DataError(f"{where}: no message of the assistant, and only those are learned; remove the line")
    return segments


def encode_segments(where: str, segments: Segments) -> Document:
    """The tokens of an example. Each segment that is learned ends in <|endoftext|>, which is learned too."""
    tokens: list[int] = []
    learned: list[bool] = []
    for text, is_learned in segments:
        ids = [*encode(where, text), gpt2().eot_token] if is_learned else encode(where, text)
        tokens += ids
        learned += [is_learned] * len(ids)
    return tokens, learned


def _turns(where: str, messages: Any) -> Iterator[tuple[str, bool]]:
    """Pieces of the conversation's text, and whether the assistant says them."""
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: 'messages' must be a list of {{'role', 'content'}}")
    for number, message in enumerate(messages, 1):
        which = f"{where}, message {number}"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise DataError(f"{which}: its role must be {', '.join(ROLES)}")
        content, role = require_text(which, message, "content"), message["role"].capitalize()
        separator = "\n\n" if number > 1 else ""
        if message["role"] == "assistant":
            yield f"{separator}{role}:", False
            yield f" {content.strip()}", True
        else:
            yield f"{separator}{role}: {content.strip()}", False


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
        if not any(learned):
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
    """Examples of Segments as `pack_rows` packs them; there are no labels."""
    return pack_rows(path, [encode_segments(f"{path}, line {line}", segments) for line, segments in examples], T)


KINDS = [
    ExampleKind("completions", ("messages",), parse_conversation, completion_rows),
    ExampleKind("completions", ("prompt", "completion"), parse_completion, completion_rows),
]
