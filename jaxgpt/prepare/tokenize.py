"""The end of the pipeline: the documents' tokens, split into training and validation, and their shards."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from jaxgpt.data import shards
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.open_tokenizer import open_tokenizer, read_kept
from jaxgpt.data.plain_tokenizers import CODE_POINTS, CharTokenizer
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import JaxgptError
from jaxgpt.json_file import read_json
from jaxgpt.prepare import canaries
from jaxgpt.prepare.drop_log import write_task_json
from jaxgpt.progress_bar import stage

SPLITS = ("train", "val")
KEPT = "tokenizer"  # the folder of the tasks' tokenizer, in that of what they write


def is_validation(text: bytes, share: float) -> bool:
    """Whether a document is for validation: by a hash of its text, so that more data moves no document.

    Args:
      text: in UTF-8.
    """
    if not share:
        return False
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


class Tokenize(PipelineStep):
    """Writes the tokens of a task's documents, and their counts."""

    type, name = "TOKENISE", "tokenise"

    def __init__(self, work: Path, val: float, sha256: str = GPT2_TOKENIZER.sha256):
        super().__init__()
        self.work, self.val, self.sha256 = work, val, sha256  # not a vocabulary, which every task would be sent

    def run(self, data: Iterator[Document], rank: int = 0, world_size: int = 1) -> None:
        folder = self.work / "tokens"
        folder.mkdir(parents=True, exist_ok=True)
        counts = {split: {"documents": 0, "tokens": 0, "text_bytes": 0} for split in SPLITS}
        tokenizer = CODE_POINTS if self.sha256 == CODE_POINTS.sha256 else read_kept(self.work / KEPT, self.sha256)
        begin = _begin(tokenizer).tobytes()
        with contextlib.ExitStack() as opened:
            files = {split: opened.enter_context((folder / f"{rank:05d}.{split}.bin").open("wb")) for split in SPLITS}
            for document in data:
                ids, text = tokenizer.encode(document.text), document.text.encode()
                split = "val" if is_validation(text, self.val) else "train"
                files[split].write(begin)
                files[split].write(ids.tobytes())
                count = counts[split]
                count["documents"] += 1
                count["tokens"] += len(ids) + 1
                count["text_bytes"] += len(text)
        write_task_json(folder / f"{rank:05d}.json", counts)


def open_source(name: str) -> Tokenizer:
    """The tokenizer that the tasks have, for the name of one; of `chars`, whose characters they find, code points."""
    return CODE_POINTS if name == CODE_POINTS.name else open_tokenizer(name)


def finish_tokenizer(source: Tokenizer, work: Path, tasks: int, planted: list[canaries.Canary]) -> Tokenizer:
    """The tokenizer of the shards: that of the tasks, or the characters that they found."""
    if source != CODE_POINTS:
        return source
    codes = np.unique(np.concatenate([source.encode(canary.text) for canary in planted] or [source.encode("")]))
    for rank in range(tasks):
        for split in SPLITS:
            codes = np.union1d(codes, _read(work / "tokens" / f"{rank:05d}.{split}.bin", source.dtype))
    return CharTokenizer("".join(map(chr, codes[codes != source.end])), has_end=True)


def _read(path: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


def _begin(tokenizer: Tokenizer) -> np.ndarray:
    """What each document begins with, as in llm.c: the token that ends one."""
    return np.array([tokenizer.require_end("documents")], tokenizer.dtype)


def collect(
    work: Path,
    folder: Path,
    tasks: int,
    planted: list[canaries.Canary],
    per_shard: int,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> dict[str, Any]:
    """Write the shards from all tasks' tokens, in the tasks' order.

    Args:
      tokenizer: as finish_tokenizer gives it.
      planted: canaries, inserted between training documents at places drawn with a fixed seed.
      per_shard: tokens in each shard but the last.

    Returns:
      The splits' entries in meta.json.
    """
    counts = [read_json(work / "tokens" / f"{rank:05d}.json") for rank in range(tasks)]
    splits = {}
    source = CODE_POINTS if isinstance(tokenizer, CharTokenizer) else tokenizer
    for split in SPLITS:
        total = {name: sum(count[split][name] for count in counts) for name in counts[0][split]}
        extra = _place_canaries(planted, total["documents"], source) if split == "train" else []
        parts = _interleave(work, split, [count[split]["documents"] for count in counts], extra, _begin(source))
        if source != tokenizer:
            parts = map(tokenizer.from_code_points, parts)
        total["documents"] += len(extra)
        total["tokens"] += sum(1 + len(ids) for _, ids in extra)
        total["text_bytes"] += sum(len(source.decode_bytes(ids.tolist())) for _, ids in extra)
        with stage(f"tokens of {split}", total["tokens"]) as advance:
            written = shards.write(folder, split, _count(parts, advance), per_shard, tokenizer.dtype)
            splits[split] = total | {"shards": written}
    return splits


def _count(parts: Iterator[np.ndarray], advance: Callable[[int], None]) -> Iterator[np.ndarray]:
    for part in parts:
        yield part
        advance(len(part))


def _place_canaries(
    planted: list[canaries.Canary], documents: int, tokenizer: Tokenizer
) -> list[tuple[int, np.ndarray]]:
    """Each copy of each canary, with the number of the document that it precedes, in that order."""
    texts = [canary.text for canary in planted for _ in range(canary.repeats)]
    places = np.sort(np.random.default_rng(0).integers(0, documents + 1, len(texts)))
    order = np.random.default_rng(1).permutation(len(texts))
    return [(int(place), tokenizer.encode(texts[which])) for place, which in zip(places, order, strict=True)]


def _interleave(
    work: Path, split: str, documents: list[int], extra: list[tuple[int, np.ndarray]], begin: np.ndarray
) -> Iterator[np.ndarray]:
    """A split's tokens, task by task, with the extra documents in their places; each begins with `begin`."""
    first, waiting = 0, list(reversed(extra))
    for rank, count in enumerate(documents):
        path = work / "tokens" / f"{rank:05d}.{split}.bin"
        tokens = _read(path, begin.dtype)
        chunks = (tokens[start : start + (1 << 24)] for start in range(0, len(tokens), 1 << 24))
        if sum(np.count_nonzero(chunk == begin[0]) for chunk in chunks) != count:
            raise JaxgptError(f"{path} is not what its task wrote: start over with --fresh")
        start = 0
        if waiting and waiting[-1][0] < first + count:
            starts = np.flatnonzero(tokens == begin[0])
            while waiting and waiting[-1][0] < first + count:
                place, ids = waiting.pop()
                yield tokens[start : starts[place - first]]
                yield np.concatenate([begin, ids])
                start = starts[place - first]
        yield tokens[start:]
        first += count
    for _, ids in reversed(waiting):
        yield np.concatenate([begin, ids])
