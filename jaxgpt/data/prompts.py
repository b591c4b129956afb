"""Prompts without answers, for a model that learns from what its own answers are worth."""

import dataclasses
import functools
import hashlib
import json
from typing import Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data import chat
from jaxgpt.data.config import USUAL_FIELDS, FieldNames
from jaxgpt.data.examples import epoch_order, require_suffix
from jaxgpt.data.formats import rename_fields
from jaxgpt.data.records import describe_fields, parse_records, read_content, require_text
from jaxgpt.data.tokenizer import ENDOFTEXT
from jaxgpt.errors import DataError, UsageError
from jaxgpt.json_file import TOO_DEEP, is_too_deep

FIELDS = ("prompt", "messages", "conversations")  # a record has one of them


@dataclasses.dataclass(frozen=True)
class Prompts:
    """A file of prompts.

    Attributes:
      name: the file.
      prompts: their texts, for Tokenizer.encode_prompt: an earlier answer in a conversation ends in the end token.
      records: what the file has of each, every field by its own name.
      lines: of the file, on which each begins.
      is_chat: whether they are conversations, which chat.CHAT_TEMPLATE makes a text.
    """

    name: str
    prompts: tuple[str, ...]
    records: tuple[dict[str, Any], ...]
    lines: tuple[int, ...]
    is_chat: bool = False

    def __len__(self) -> int:
        return len(self.prompts)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the prompts and their records; the same ones on other lines are the same data."""
        return hashlib.sha256(json.dumps([self.prompts, self.records], sort_keys=True).encode()).hexdigest()

    def where(self, number: int) -> str:
        """The file and the line of a prompt."""
        return f"{self.name}, line {self.lines[number]}"

    def split(self, fraction: float, seed: int = 0) -> tuple["Prompts", "Prompts"]:
        """The prompts for training and those for validation, as many as the fraction says, drawn with the seed.

        Raises:
          DataError: one of the two has none.
        """
        num_val = round(fraction * len(self))
        if not 0 < num_val < len(self):
            what = f"--val {fraction:g} of {plural(len(self), 'prompt')} is {num_val:,}"
            raise DataError(f"{self.name}: {what}; both sides need some")
        order = epoch_order(len(self), seed, epoch=0)
        return self._take(np.sort(order[num_val:])), self._take(np.sort(order[:num_val]))

    def _take(self, numbers: np.ndarray) -> "Prompts":
        columns = {name: getattr(self, name) for name in ("prompts", "records", "lines")}
        return dataclasses.replace(
            self, **{name: tuple(map(column.__getitem__, numbers)) for name, column in columns.items()}
        )


def load_prompts(path: str, fields: FieldNames = USUAL_FIELDS, end_text: str = ENDOFTEXT) -> Prompts:
    """Read a file of prompts: of texts, or of conversations that end before an answer of the assistant.

    Args:
      path: .jsonl (or .ndjson), .csv or .tsv.
      fields: the names of "prompt" and "messages", where they are other ones.
      end_text: how the tokenizer spells the token that ends a document, and an answer in a conversation.

    Raises:
      DataError: a record has no prompt; with its line.
      UsageError: the names are of fields that no prompt has.
    """
    require_suffix(path, '"prompt" or "messages"')
    renamed = fields.renamed
    if not renamed.keys() <= set(FIELDS):
        raise UsageError(f"{fields}: a prompt has prompt, or messages; give the name of one of these")
    prompts, records, lines, kind = [], [], [], None
    for line, record in parse_records(path, read_content(path)):
        where, renamed_record = f"{path}, line {line}", rename_fields(record, renamed)
        field = _prompt_field(where, record, renamed_record)
        kind = kind or field
        if field != kind:
            raise DataError(f"{where}: has {field!r}, and the first record {kind!r}; a file has one of them")
        if field == "prompt":
            prompts.append(_parse_prompt(where, renamed_record))
        else:
            prompts.append(_parse_conversation(where, renamed_record, field, end_text))
        if is_too_deep(record):  # it is written as JSON again, for the reward's process
            raise DataError(f"{where}: {TOO_DEEP}; remove what the reward doesn't read")
        records.append(record)
        lines.append(line)
    return Prompts(path, tuple(prompts), tuple(records), tuple(lines), is_chat=kind != "prompt")


def _prompt_field(where: str, record: dict[str, Any], renamed_record: dict[str, Any]) -> str:
    """Which of FIELDS a record has."""
    present = [field for field in FIELDS if field in renamed_record]
    if len(present) == 1:
        return present[0]
    start = f"{where}: {describe_fields(where.rpartition(', line ')[0], record, FIELDS)}"
    if present:
        raise DataError(f"{start}, and a prompt is {' or '.join(present)}, not both; remove one")
    raise DataError(f"{start}, and none is a prompt or messages; name it with --prompt-field or --messages-field")


def _parse_prompt(where: str, record: dict[str, Any]) -> str:
    if isinstance(record["prompt"], list):
        convert = "jq -c '.messages = .prompt | del(.prompt)' FILE > NEW.jsonl"
        raise DataError(
            f"{where}: 'prompt' is a list of messages, and must be a text; make it a conversation: {convert}"
        )
    return require_text(where, record, "prompt")


def _parse_conversation(where: str, record: dict[str, Any], field: str, end_text: str) -> str:
    """The text of a conversation up to the "Assistant:" of the next answer."""
    messages = record[field]
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: {field!r} must be a list of {{'role', 'content'}} or {{'from', 'value'}}")
    answer = {"role": "assistant", "content": ""}
    *segments, (before, _), _, _ = chat.parse_conversation(where, record | {field: [*messages, answer]}, field)
    if before == "\n\nAssistant:" and segments:
        shorten = f"jq -c '.{field} |= .[:-1]' FILE > NEW.jsonl"
        raise DataError(f"{where}: ends in an answer of the assistant, which the model is to write: {shorten}")
    return "".join(text + end_text * (is_learned is not False) for text, is_learned in segments) + before
