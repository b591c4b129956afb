"""SQuAD's JSON: questions about passages, as records of a prompt, a completion and references.

Rajpurkar et al. (2016), "SQuAD: 100,000+ Questions for Machine Comprehension of Text", and (2018), "Know What You Don't
Know: Unanswerable Questions for SQuAD", whose version 2.0 has questions that the passage does not answer.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from jaxgpt.errors import DataError
from jaxgpt.json_file import parse_json

SUFFIX = ".json"
PROMPT = "{context}\n\nQuestion: {question}\nAnswer:"
MAX_BYTES = 256 << 20  # SQuAD 2.0 has 42 MB


def is_squad(path: str) -> bool:
    """Whether a file is JSON that begins as SQuAD does: an object with "data"."""
    if path.lower().endswith(SUFFIX):
        with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
            start = file.read(1 << 10).removeprefix(b"\xef\xbb\xbf").lstrip()
            return start.startswith(b"{") and b'"data"' in start
    return False


def parse_squad(path: str, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The questions of a file, each with its number, from 1.

    Returns:
      Records of "id", "prompt", "completion", which is the first answer after a space, and "references", all answers.
      Of a question that the passage does not answer, the completion is empty, and so is the one reference: the right
      answer is to end at once.

    Raises:
      DataError: it is not SQuAD's JSON; with the question's number.
    """
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: more than {MAX_BYTES >> 20} MiB; write its questions as JSON lines")
    try:
        data = parse_json(content)["data"]
        passages = [passage for article in data for passage in article["paragraphs"]]
        questions = [(passage["context"], question) for passage in passages for question in passage["qas"]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        layout = '{"data": [{"paragraphs": [{"context", "qas": [{"question", "answers"}]}]}]}'
        raise DataError(f"{path}: not SQuAD's JSON ({reason}), which is {layout}; mend it, or use JSONL") from None
    if not questions:
        raise DataError(f"{path}: no question in it; give a file with some")
    for number, (context, question) in enumerate(questions, 1):
        yield number, _parse_question(f"{path}, question {number}", context, question)


def _parse_question(where: str, context: Any, question: Any) -> dict[str, Any]:
    try:
        answers = [_require_text(where, "text", answer["text"]) for answer in question["answers"]]
        asked = _require_text(where, "question", question["question"])
    except (KeyError, TypeError):
        raise DataError(f'{where}: it must have "question" and "answers", each with "text"; mend it') from None
    if not answers and question.get("is_impossible") is not True:
        raise DataError(f'{where}: no answer, and it is not marked "is_impossible": true; add one, or the mark')
    return {
        "id": question.get("id"),
        "prompt": PROMPT.format(context=_require_text(where, "context", context), question=asked),
        "completion": f" {answers[0]}" if answers else "",
        "references": answers or [""],
    }


def _require_text(where: str, name: str, value: Any) -> str:
    try:
        value.encode()
    except (AttributeError, UnicodeEncodeError):
        raise DataError(f"{where}: its {name!r} must be a text of whole characters; mend it") from None
    return value
