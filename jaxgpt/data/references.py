"""Prompts and the right answers to them, by which written answers are measured."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgpt.data import chat, completions
from jaxgpt.data.base import Segments
from jaxgpt.data.config import USUAL_FIELDS, FieldNames
from jaxgpt.data.examples import require_suffix
from jaxgpt.data.formats import matching_kinds, rename_fields
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.records import describe_fields, parse_records, read_content, require_unicode
from jaxgpt.data.tokenized import encode_segments
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError, UsageError
from jaxgpt.json_file import replace_nonfinite

KINDS = [*completions.KINDS, *chat.KINDS]
ACCEPTED = '"prompt" with "completion" or "references", "instruction" with "output", or "messages"'


@dataclasses.dataclass(frozen=True)
class AnsweredPrompts:
    """A file's prompts, and the references of each: what a right answer may be.

    Attributes:
      name: the file.
      prompts: their texts; an earlier answer in a conversation ends in the end token.
      tokens: their token ids, those before the answer's as training has them.
      references: one or more of each, without the space that separates an answer from its prompt.
      lines: of the file, on which each begins; of SQuAD's JSON, the number of each question.
      ids: what the records have as "id"; None: nothing.
    """

    name: str
    prompts: tuple[str, ...]
    tokens: tuple[list[int], ...]
    references: tuple[list[str], ...]
    lines: tuple[int, ...]
    ids: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, numbers: Sequence[int] | np.ndarray) -> "AnsweredPrompts":
        """Some of the prompts."""
        columns = ("prompts", "tokens", "references", "lines", "ids")
        taken = {column: tuple(getattr(self, column)[number] for number in numbers) for column in columns}
        return dataclasses.replace(self, **taken)


def load_references(
    path: str, fields: FieldNames = USUAL_FIELDS, tokenizer: Tokenizer = GPT2_TOKENIZER
) -> AnsweredPrompts:
    """Read prompts with references: files of completions or conversations as for training, and SQuAD's JSON.

    The last answer of a conversation is its reference. A record may have several "references", or a list of texts as
    its "completion".

    Args:
      path: .jsonl (or .ndjson), .csv, .tsv, or SQuAD's .json.
      fields: names of fields, where they are other ones.

    Raises:
      DataError: a record has no prompt or no reference; with its line.
      UsageError: the names are of other fields.
    """
    require_suffix(path, ACCEPTED)
    if not fields.renamed.keys() <= {"prompt", "completion", "messages"}:
        raise UsageError(f"{fields}: a prompt with references has prompt, completion or messages; name one of these")
    columns = []
    for line, record in parse_records(path, read_content(path)):
        where = f"{path}, line {line}"
        segments, references = _parse(where, rename_fields(record, fields.renamed))
        *before, (text, _) = segments
        prompt = "".join(text + tokenizer.end_text * (is_learned is not False) for text, is_learned in before)
        try:
            *encoded, _ = encode_segments(segments, tokenizer)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        ids = [token for ids, _ in encoded for token in ids.tolist()]
        references = [strip_separator(each) for each in references or [text]]
        require_unicode(where, json.dumps(record.get("id"), ensure_ascii=False))
        columns.append((prompt, ids, references, line, replace_nonfinite(record.get("id"))))
    return AnsweredPrompts(path, *zip(*columns, strict=True))


def strip_separator(answer: str) -> str:
    """An answer without the space that separates it from its prompt."""
    return answer.removeprefix(" ")


def _parse(where: str, record: dict[str, Any]) -> tuple[Segments, list[str]]:
    """A record's text up to its last answer, and the references, if it has other ones than that."""
    field = "references" if "references" in record else "completion"
    has_several = field == "references" or isinstance(record.get(field), list)
    references = _require_texts(where, field, record[field]) if has_several else []
    if references:
        record = record | {"completion": references[0], "output": references[0]}
        for name in ("messages", "conversations"):
            if isinstance(turns := record.get(name), list) and turns:
                turns = turns[:-1] if chat.is_answer(turns[-1]) else turns  # whose weight may be 0
                record[name] = [*turns, {"role": "assistant", "content": references[0]}]
                if name == "messages" and "prompt" not in record:
                    del record["completion"]  # which would be another answer
    matching = matching_kinds(record, KINDS)
    if len(matching) != 1:
        known = {name for kind in KINDS for name in kind.fields}
        has = describe_fields(where.rpartition(", line ")[0], record, known)
        raise DataError(f"{where}: {has}, and it must have {ACCEPTED}; name them with --prompt-field and the like")
    segments = matching[0].parse(where, record)
    last = max(number for number, (_, is_learned) in enumerate(segments) if is_learned)
    return segments[: last + 1], references


def _require_texts(where: str, field: str, texts: Any) -> list[str]:
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: {field!r} must be a text, or a list of one text or more; mend it")
    require_unicode(where, *texts)
    return texts
