"""Examples as tokens: the texts of a file's records, tokenized on all cores, once: the cache keeps the tokens."""

import array
import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import inspect
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxgpt.data.base import Example, ExampleKind, Segments, TokenizedExamples
from jaxgpt.data.cache import cache_folder, make_private, write_atomically
from jaxgpt.data.config import FieldNames
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError
from jaxgpt.json_file import parse_json
from jaxgpt.progress_bar import stage

CHUNK = 64  # examples that a thread tokenizes at a time
DIGEST_BYTES = 32
TokenizedSegments = list[tuple[np.ndarray, bool]]  # base.Segments, with tokens for each text


def open_examples(
    path: str,
    content: bytes,
    kind: ExampleKind,
    fields: FieldNames,
    examples: Iterable[Example],
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> TokenizedExamples:
    """The examples of a file as tokens, from the cache if they are there.

    Args:
      path, content, kind, fields: what decides the examples; of the path only the suffix does.
      examples: them, of which nothing is read if their tokens are in the cache.

    Raises:
      DataError: what `examples` raises.
    """
    cached = None
    with contextlib.suppress(OSError, ValueError, EOFError):  # missing or corrupt: tokenize again
        name = f"{tokenizer.cache_name}-examples-{_key(path, content, kind, fields)}"
        cached = cache_folder() / "tokens" / name
        make_private(cached.parent)
        return _read(cached, tokenizer)
    tokenized = tokenize(examples, path, content.count(b"\n"), tokenizer)
    if cached:
        with contextlib.suppress(OSError):  # a cache that can't be written costs the next start some time, nothing else
            _write(cached, tokenized)
    return tokenized


def _key(path: str, content: bytes, kind: ExampleKind, fields: FieldNames) -> str:
    """A hash of all that decides the tokens: the code of this folder and of the kind, and the arguments.

    Raises:
      OSError: the code is in no file.
    """
    parse = getattr(kind.parse, "func", kind.parse)  # without the arguments that functools.partial has bound
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(inspect.getfile(parse))]
    facts = repr((path.lower().rpartition(".")[2], kind.name, kind.fields, fields.renamed))
    parts = [*(source.read_bytes() for source in sources), facts.encode(), content]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _write(cached: Path, examples: TokenizedExamples) -> None:
    """A SHA-256 of all that follows, then the fields as .npy, one after the other."""
    file = io.BytesIO(bytes(DIGEST_BYTES))
    file.seek(DIGEST_BYTES)
    *arrays, names, _ = vars(examples).values()
    for field in (*arrays, np.frombuffer(json.dumps(names).encode(), np.uint8)):
        np.save(file, field)
    with file.getbuffer() as view:
        view[:DIGEST_BYTES] = hashlib.sha256(view[DIGEST_BYTES:]).digest()
        write_atomically(cached, view)


def _read(cached: Path, tokenizer: Tokenizer) -> TokenizedExamples:
    """What _write wrote. OSError: it can't be read; ValueError or EOFError: it is corrupt."""
    with cached.open("rb") as file:
        digest = file.read(DIGEST_BYTES)
        if hashlib.file_digest(file, "sha256").digest() != digest:
            raise ValueError(f"{cached} is corrupt")
        file.seek(DIGEST_BYTES)
        *arrays, names = (np.load(file, allow_pickle=False) for _ in dataclasses.fields(TokenizedExamples)[:-1])
    return TokenizedExamples(*arrays, tuple(parse_json(names.tobytes())), tokenizer)


def tokenize(
    examples: Iterable[Example],
    path: str = "examples",
    num_lines: int | None = None,
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> TokenizedExamples:
    """Examples as tokens. Only the tokens are kept, and the texts of a few hundred examples.

    Args:
      path, num_lines: of their file, for showing how far this is.
    """
    with stage(f"tokenizing the lines of {path}", num_lines) as advance:
        return _tokenize(examples, advance, tokenizer, path)


def _tokenize(
    examples: Iterable[Example], advance: Callable[[int], None], tokenizer: Tokenizer, path: str
) -> TokenizedExamples:
    tokens, lengths, learned = array.array(tokenizer.dtype.char), array.array("q"), array.array("b")
    counts, label, lines = array.array("q"), array.array("i"), array.array("q")
    numbers: list[tuple[float, ...]] = []
    names: dict[str, int] = {}
    for chunk, encoded in _encode_in_threads(iter(examples), tokenizer, path):
        for example, segments in zip(chunk, encoded, strict=True):
            for ids, is_learned in segments:
                tokens.frombytes(ids.tobytes())
                lengths.append(len(ids))
                learned.append(is_learned)
            counts.append(len(segments))
            label.append(names.setdefault(example.label, len(names)))
            numbers.append(example.numbers)
            advance(example.line - (lines[-1] if lines else 0))
            lines.append(example.line)
    end = np.cumsum(counts)
    return TokenizedExamples(
        tokens=np.frombuffer(tokens, tokenizer.dtype),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        learned=np.frombuffer(learned, bool),
        first=end - counts,
        end=end,
        label=np.array(label, np.int32),
        lines=np.array(lines, np.int64),
        numbers=np.array(numbers, np.float32).reshape(len(lines), len(numbers[0]) if numbers else 0),
        labels=tuple(names),
        tokenizer=tokenizer,
    )


def _encode_in_threads(
    examples: Iterator[Example], tokenizer: Tokenizer, path: str
) -> Iterator[tuple[list[Example], list[TokenizedSegments]]]:
    """Chunks of the examples, in their order, and their segments; at most two a core ahead of what is taken."""
    threads, pending = os.cpu_count() or 1, collections.deque()

    def encode_chunk(chunk: list[Example]) -> tuple[list[Example], list[TokenizedSegments]]:
        return chunk, [*map(encode_example, chunk)]

    def encode_example(example: Example) -> TokenizedSegments:
        try:
            return encode_segments(example.segments, tokenizer)
        except DataError as error:
            raise DataError(f"{path}, line {example.line}: {error}") from None

    with concurrent.futures.ThreadPoolExecutor(threads) as executor:
        while chunk := list(itertools.islice(examples, CHUNK)):
            pending.append(executor.submit(encode_chunk, chunk))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def encode_segments(segments: Segments, tokenizer: Tokenizer = GPT2_TOKENIZER) -> TokenizedSegments:
    """The tokens of each segment. An answer ends in the tokenizer's end token, which is learned if it is.

    Where nothing comes before the first of these, that token does, as it comes before every document of a text.
    """
    tokenized: TokenizedSegments = []
    for text, is_learned in segments:
        ids = tokenizer.encode(text)
        if is_learned is not False:
            end = np.array([tokenizer.require_end("examples with answers")], tokenizer.dtype)
            ids = np.append(ids, end)
            if not any(len(before) for before, _ in tokenized):
                tokenized.append((end, False))
        tokenized.append((ids, bool(is_learned)))
    return tokenized
