"""Prompts with completions and conversations as rows of tokens, of which the answers alone are to be learned."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch
from jaxgpt.data.records import encode, text_of
from jaxgpt.data.tokenizer import gpt2
from jaxgpt.errors import DataError

ROLES = ("system", "user", "assistant")
Document = tuple[list[int], list[bool]]  # tokens, and whether each is to be learned


def completion(where: str, record: dict[str, Any]) -> Document:
    prompt, completion = (encode(where, text_of(where, record, field)) for field in ("prompt", "completion"))
    completion = [*completion, gpt2().eot_token]
    return prompt + completion, [False] * len(prompt) + [True] * len(completion)


def conversation(where: str, record: dict[str, Any]) -> Document:
    """The template: "System: ...", "User: ...", "Assistant: ...", with an empty line between the turns.

    What the assistant says, from the blank before it to the <|endoftext|> after it, is to be learned.
    """
    tokens: list[int] = []
    learned: list[bool] = []
    for text, wanted in _turns(where, record.get("messages")):
        ids = [*encode(where, text), gpt2().eot_token] if wanted else encode(where, text)
        tokens += ids
        learned += [wanted] * len(ids)
    if not any(learned):
        raise DataError(f"{where}: no message of the assistant, and only those are learned; remove the line")
    return tokens, learned


def _turns(where: str, messages: Any) -> Iterator[tuple[str, bool]]:
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: 'messages' must be a list of {{'role', 'content'}}")
    for number, message in enumerate(messages, 1):
        here = f"{where}, message {number}"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise DataError(f"{here}: its role must be {', '.join(ROLES)}")
        content, role = text_of(here, message, "content"), message["role"].capitalize()
        before = "\n\n" if number > 1 else ""
        if message["role"] == "assistant":
            yield f"{before}{role}:", False
            yield f" {content.strip()}", True
        else:
            yield f"{before}{role}: {content.strip()}", False


def packed(path: str, documents: list[Document], T: int) -> tuple[Batch, list[str]]:
    """`tokens`, `targets` and `positions`, each (R, T), with the documents one after the other.

    A document that doesn't fit begins a new row.

    Of one that is longer than a row the end is cut; if nothing to be learned is left then, it is left out.
    """
    cut = out = 0
    rows: list[list[Document]] = []
    room = 0
    for tokens, learned in documents:
        cut += len(tokens) > T + 1
        tokens, learned = tokens[: T + 1], learned[: T + 1]
        if not any(learned):
            out += 1
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
    for row, held in enumerate(rows):
        start = 0
        for tokens, learned in held:
            here = slice(start, start + len(tokens) - 1)
            x[row, here] = tokens[:-1]
            y[row, here] = np.where(learned[1:], tokens[1:], -1)
            positions[row, here] = range(len(tokens) - 1)
            start = here.stop
        positions[row, start:] = range(T - start)  # what is left of the row: a document of its own, not learned
    notes = [f"{cut:,} examples are longer than --T {T} and lose their end"] if cut else []
    notes += [f"{out:,} of them are left out: their prompts alone fill it"] if out else []
    return {"tokens": x, "targets": y, "positions": positions}, notes
