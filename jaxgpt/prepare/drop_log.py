"""What the tasks of a preparation write down: which documents were dropped, where and why, and those that go on."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import orjson
import zstandard
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

PLACE = ("file", "unit", "line")  # of a document; documents.Read says what they are


class Journal:
    """The documents that a step drops, a line each, one file a task; datatrove's filters take it for a writer.

    A task that was killed and begins again writes the same lines over those of its first try.
    """

    def __init__(self, work: Path, step: str, reason: str = "dropped"):
        self.work, self.step, self.reason = Path(work), step, reason
        self._file: TextIO | None = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def write(self, document: Any, rank: int = 0) -> None:
        """Of a document that a filter drops; the filter's own reason, if it gives one."""
        reason = document.metadata.pop("filter_reason", self.reason)
        self.line(rank, document.metadata, reason, document.metadata.pop("contaminated_task", ""))

    def line(self, rank: int, place: dict[str, Any], reason: str, detail: str = "") -> None:
        """Of a document that stood there."""
        if not self._file:
            folder = self.work / "dropped" / f"{rank:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / f"{self.step}.jsonl").open("w")
        record = {name: place[name] for name in PLACE} | {"step": self.step, "reason": reason}
        self._file.write(json.dumps(record | ({"detail": detail} if detail else {})) + "\n")


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write a file such that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=indent) + "\n")
    temporary.replace(path)


class Keep(PipelineStep):
    """Writes the documents of a task down for a later stage, and passes them on."""

    type, name = "KEEP", "keep"

    def __init__(self, work: Path):
        super().__init__()
        self.folder = Path(work) / "documents"

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with zstandard.open(self.folder / f"{rank:05d}.zst", "wb") as file:
            for document in data:
                place = {name: document.metadata[name] for name in PLACE}
                file.write(orjson.dumps(place | {"text": document.text}) + b"\n")
                yield document


class Kept(PipelineStep):
    """Reads them again."""

    type, name = "KEPT", "kept"

    def __init__(self, work: Path):
        super().__init__()
        self.folder = Path(work) / "documents"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        with zstandard.open(self.folder / f"{rank:05d}.zst", "rb") as packed:
            for line in io.BufferedReader(packed):
                place = orjson.loads(line)
                yield Document(place.pop("text"), "", metadata=place)
