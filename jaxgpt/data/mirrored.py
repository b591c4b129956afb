"""A text and its mirror image: each document as it stands, and with its words swapped."""

import dataclasses
import re
from pathlib import Path

from jaxgpt.data import records
from jaxgpt.data.documents import split_documents
from jaxgpt.data.word_swaps import WordSwaps
from jaxgpt.errors import DataError

_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


@dataclasses.dataclass(frozen=True)
class MirroredText:
    """Documents in which a word is swapped.

    Attributes:
      name: of the file.
      unit: what a document is: a document or a paragraph.
      documents: each as it stands and with its words swapped.
      swapped: how many words were.
      without: the number of documents in which none was; they are left out.
    """

    name: str
    unit: str
    documents: list[tuple[str, str]]
    swapped: int
    without: int


def read_mirrored(path: str | Path, swaps: WordSwaps) -> MirroredText:
    """The documents of a .jsonl file of {"text"} or of a text; of a text without separators its paragraphs.

    Raises:
      DataError: the file can't be read, or no word of the list is in it.
    """
    path = str(path)
    texts, unit = _read_texts(path, records.read_content(path, 'give a UTF-8 text, or .jsonl of {"text"}'))
    documents, swapped = [], 0
    for text in texts:
        mirror, count = swaps.swap(text)
        if mirror != text:
            documents.append((text, mirror))
            swapped += count
    if not documents:
        raise DataError(f"{path}: no word of the list {swaps.name} is in it; use another text or another --swaps")
    return MirroredText(path, unit, documents, swapped, len(texts) - len(documents))


def _read_texts(path: str, content: bytes) -> tuple[list[str], str]:
    if path.lower().endswith(records.JSON_LINES):
        parsed = records.parse_jsonl(path, content)
        texts = [records.require_text(f"{path}, line {line}", each, "text", may_be_empty=True) for line, each in parsed]
        return [text for text in texts if text.strip()], "document"
    try:
        texts, unit = split_documents(content.decode()), "document"
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; convert it first, for example: iconv -f latin1 -t utf-8") from None
    if len(texts) == 1:
        texts, unit = _BLANK_LINES.split(texts[0]), "paragraph"
    return [text for text in map(str.strip, texts) if text], unit
