"""Delete what has read erased tokens, so that after a kill at any moment the same command deletes the rest."""

import contextlib
import mmap
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxgpt.commands.erase.readers import Reader
from jaxgpt.data.cache import cache_folder
from jaxgpt.data.shards import Tokens
from jaxgpt.data.token_file import HEADER_BYTES
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import RetryableError
from jaxgpt.files import open_nofollow, report_write_errors
from jaxgpt.locks import hold, is_held
from jaxgpt.runs import provenance
from jaxgpt.runs.folder import LEFTOVER, LINEAGE, ROWS, TMP
from jaxgpt.runs.rows import complete_lines, parse_row
from jaxgpt.runs.tensors import INDEX

SHORTEST = 4  # tokens that are looked for in the cache: fewer are in any text


def require_idle(readers: Sequence[Reader]) -> None:
    """Refuse to change what a run reads, or has, that is at work."""
    for reader in readers:
        if is_held(reader.run.folder):
            raise RetryableError(f"{reader.run.folder}: in use by another command; stop it first: Ctrl-C saves")


def rewind(reader: Reader) -> None:
    """Delete a run's checkpoints that have read it, and the rows after its newest clean one.

    lineage.json goes too, so that `jaxgpt update` judges the run anew. The checkpoints get a name first that the run's
    next start deletes too.
    """
    folder = reader.run.folder
    with hold(folder), report_write_errors(folder):
        if reader.first is not None:  # what it has measured was of these weights
            (folder / LINEAGE).unlink(missing_ok=True)
        named = [path for path in reader.tainted if not LEFTOVER.fullmatch(path.name)]
        doomed = [path.rename(path.with_name(f"{path.name}{TMP}-old")) for path in named]
        for name in ROWS if reader.first is not None else ():
            # A row of samples.jsonl has the steps done, the others the step that they are of.
            _cut_rows(folder / name, reader.clean + (name == "samples.jsonl"))
        for path in [*doomed, *(path for path in reader.tainted if LEFTOVER.fullmatch(path.name))]:
            shutil.rmtree(path)


def _cut_rows(path: Path, step: int) -> None:
    """Cut a file of rows at the first row of this step or a later one."""
    with contextlib.suppress(FileNotFoundError), open_nofollow(path, "r+b") as file:
        kept = 0
        for line in complete_lines(file):
            row = parse_row(line)
            if row and row["step"] >= step:
                break
            kept += len(line)
        file.truncate(kept)


def delete_export(folder: Path) -> None:
    """Delete the weights of an export, and then what says where they are from; other files stay."""
    with report_write_errors(folder):
        for path in [*folder.glob("*.safetensors"), *folder.glob(INDEX)]:
            path.unlink()
        (folder / provenance.FILE).unlink()


def cached_copies(
    splits: Mapping[str, np.ndarray | Tokens], ranges: Mapping[str, np.ndarray], tokenizer: Tokenizer
) -> list[Path]:
    """The files of the cache that have the tokens of one of some ranges, without those at its borders."""
    needles = []
    for split, pairs in ranges.items():
        for first, end in pairs.tolist():
            inner = slice(first + 1, end - 1) if end - first >= SHORTEST + 2 else slice(first, end)
            needles.append(np.asarray(splits[split][inner]).astype(tokenizer.dtype).tobytes())
    needles = [needle for needle in needles if len(needle) >= SHORTEST * tokenizer.dtype.itemsize]
    files = sorted(cache_folder().glob(f"tokens/{tokenizer.cache_name}-*.bin"))
    return [path for path in files if any(_has(path, needle, tokenizer.dtype.itemsize) for needle in needles)]


def _has(path: Path, needle: bytes, size: int) -> bool:
    if path.stat().st_size <= HEADER_BYTES:  # an empty file can't be mapped
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any((place - HEADER_BYTES) % size == 0 for place in _places(content, needle))


def _places(content: mmap.mmap, needle: bytes) -> Iterator[int]:
    place = content.find(needle)
    while place >= 0:
        yield place
        place = content.find(needle, place + 1)
