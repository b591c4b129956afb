"""The records that tasks write: which documents were dropped, where and why, and which survived."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import orjson
import zstandard
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from jaxgpt.errors import JaxgptError
from jaxgpt.files import new_file

# What reading other files than ours raises.
CORRUPTION = (AttributeError, EOFError, LookupError, OverflowError, TypeError, ValueError)
LOCATION = ("file", "unit", "line")  # a document's; documents.Read explains them


class DropLog:
    """Logs the documents that a step drops: one file a task, one line a document. datatrove's filters write to it.

    A task that was killed and starts again overwrites the file with the same lines.
    """

    def __init__(self, work: Path, step: str, reason: str = "dropped"):
        self.work, self.step, self.reason = Path(work), step, reason
        self._file: TextIO | None = None

    def __enter__(self) -> "DropLog":
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def write(self, document: Any, rank: int = 0) -> None:
        """Log a document that a datatrove filter drops, with the filter's reason if it has one."""
        reason = document.metadata.pop("filter_reason", self.reason)
        self.add(rank, document.metadata, reason, document.metadata.pop("contaminated_task", ""))

    def add(self, rank: int, location: dict[str, Any], reason: str, detail: str = "") -> None:
        """Log the document at a location."""
        if not self._file:
            folder = self.work / "dropped" / f"{rank:05d}"
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / f"{self.step}.jsonl").open("w")
        record = {name: location[name] for name in LOCATION} | {"step": self.step, "reason": reason}
        self._file.write(json.dumps(record | ({"detail": detail} if detail else {})) + "\n")


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write a file such that no process ever reads a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + "\n")


def write_task_json(path: Path, content: Any) -> None:
    """Write a file of a task. It may be cut short by a kill: it counts when the task is marked as done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) + "\n")


@contextlib.contextmanager
def report_corruption(work: Path) -> Iterator[None]:
    """A context that reads what tasks wrote.

    Raises:
      JaxgptError: it is missing or corrupt, as a power cut may leave it.
    """
    try:
        yield
    except (*CORRUPTION, FileNotFoundError, zstandard.ZstdError) as error:
        reason = " ".join(str(error).split())[:200]
        raise JaxgptError(f"{work}: corrupt: not what the tasks wrote ({reason}); start over with --fresh") from None


class WriteSurvivors(PipelineStep):
    """Writes a task's documents for a later stage, and passes them on."""

    type, name = "SURVIVORS", "write-survivors"

    def __init__(self, work: Path):
        super().__init__()
        self.folder = Path(work) / "documents"

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with zstandard.open(self.folder / f"{rank:05d}.zst", "wb") as file:
            for document in data:
                location = {name: document.metadata[name] for name in LOCATION}
                file.write(orjson.dumps(location | {"text": document.text}) + b"\n")
                yield document


class ReadSurvivors(PipelineStep):
    """Reads the documents that `WriteSurvivors` wrote in the same task."""

    type, name = "SURVIVORS", "read-survivors"

    def __init__(self, work: Path):
        super().__init__()
        self.folder = Path(work) / "documents"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        with (
            report_corruption(self.folder.parent),
            zstandard.open(self.folder / f"{rank:05d}.zst", "rb") as file,
        ):
            for line in io.BufferedReader(file):
                location = orjson.loads(line)
                yield Document(location.pop("text"), "", metadata=location)
