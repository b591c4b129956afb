"""The first step of a preparation: the documents of a piece of the input, each with its location."""

import ctypes
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from jaxgpt.prepare.drop_log import DropLog, report_corruption, write_task_json
from jaxgpt.prepare.readers import READERS, Broken, LineCounter
from jaxgpt.prepare.sources import Unit

M_MMAP_THRESHOLD = -3  # in glibc's malloc.h
DOCUMENT_CHARS = 1_000_000  # filters hold all words of a document, and their n-grams, at once


class Read(PipelineStep):
    """The first step of the pipeline: reads a piece's documents, in the input's order.

    A document's metadata is its location: `file`, `unit` (its number in the piece) and `line`, from 1 in the unit.
    A text longer than DOCUMENT_CHARS is cut at a line end into several documents.
    """

    type, name = "READER", "read"

    def __init__(self, field: str, work: Path):
        super().__init__()
        self.field, self.work, self.drop_log = field, work, DropLog(work, self.name)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        records = size = 0
        lines = []
        limit_malloc_caching()
        with self.drop_log:
            for number, unit in enumerate(read_piece(self.work, rank)):
                counter = LineCounter()
                for line, text_or_broken in READERS[unit.kind](unit, self.field, counter):
                    location = {"file": unit.name, "unit": number, "line": line}
                    if isinstance(text_or_broken, str) and not text_or_broken.strip():
                        text_or_broken = Broken("empty")
                    if isinstance(text_or_broken, Broken):
                        records += 1
                        self.drop_log.add(rank, location, *text_or_broken)
                        continue
                    for text in split_long_text(text_or_broken):
                        records, size = records + 1, size + len(text)
                        yield Document(text, "", metadata=dict(location))
                        location["line"] += text.count("\n") if unit.kind == "text" else 0
                lines.append(counter.count)
        write_task_json(self.work / "read" / f"{rank:05d}.json", {"records": records, "chars": size, "lines": lines})


def limit_malloc_caching() -> None:
    """Have malloc give back what a large record took, of which it else keeps blocks of up to 32 MiB, in pieces."""
    mallopt = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, 1 << 20)


def write_pieces(pieces: list[list[Unit]], work: Path) -> None:
    """Write a file for each task: a step with a million file names would be sent to every worker with every task."""
    (work / "pieces").mkdir(exist_ok=True)
    for rank, piece in enumerate(pieces):
        (work / "pieces" / f"{rank:05d}.json").write_text(json.dumps(piece))


def read_piece(work: Path, rank: int) -> list[Unit]:
    with report_corruption(work):
        return [Unit(*unit) for unit in orjson.loads((work / "pieces" / f"{rank:05d}.json").read_bytes())]


def split_long_text(text: str, chars: int = DOCUMENT_CHARS) -> Iterator[str]:
    """A text in parts of at most `chars` characters, cut behind a line end, else behind a blank, else anywhere."""
    start = 0
    while len(text) - start > chars:
        cut = max(text.rfind("\n", start, start + chars), 0) or text.rfind(" ", start, start + chars)
        end = cut + 1 if cut > start else start + chars
        yield text[start:end]
        start = end
    yield text[start:]
