"""Leaks: documents that hold what a model will be evaluated on."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.utils.hashing import create_hash_func
from datatrove.utils.text import ngrams, simplify_text

from jaxgpt.data import records
from jaxgpt.errors import DataError
from jaxgpt.prepare import documents, sources
from jaxgpt.prepare.drop_log import Journal
from jaxgpt.prepare.words import SIMPLE, WORDS

LEAK_WORDS = 13  # as in Brown et al. (2020), appendix C


def decontaminate(index: Path, work: Path) -> PipelineStep:
    """Drops what shares 13 words in a row with the texts of which `index` made the index."""
    config = NGramsDecontConfig(n_grams=LEAK_WORDS, norm_config=SIMPLE)
    step = NGramsDecontFilter(str(index), config, exclusion_writer=Journal(work, "decontaminate"), language=WORDS)
    step.name = "decontaminate"
    return step


def index(files: tuple[Path, ...], folder: Path) -> int:
    """Write the index of the word sequences of evaluation files: JSONL, of which every text counts, or plain text.

    Returns:
      How many sequences of 13 words there are.

    Raises:
      DataError: a file can't be read, or has none.
    """
    config = NGramsDecontConfig(n_grams=LEAK_WORDS, norm_config=SIMPLE)
    hashed = create_hash_func(config.hash_config)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    total = 0
    for number, file in enumerate(files):
        hashes = set()
        for text in _texts(file):
            simple = WORDS.word_tokenize(simplify_text(text, config.norm_config))
            hashes.update(hashed(" ".join(each)) for each in ngrams(simple, LEAK_WORDS))
        if not hashes:
            raise DataError(f"{file}: no text of {LEAK_WORDS} words in it, so that no leak of it could be found")
        np.array(sorted(hashes), config.hash_config.np_dtype).tofile(folder / f"{number} {file.name}.index.hashes")
        total += len(hashes)
    return total


def _texts(file: Path) -> Iterator[str]:
    if sources.kind(file) == "jsonl" and not file.name.lower().endswith(sources.PACKED):
        for _, record in records.read_jsonl(file):
            yield " ".join(_strings(record))
        return
    for unit in (unit for piece in sources.plan([str(file)]) for unit in piece):
        for line, found in documents.READERS[unit.kind](unit, "text", documents.Lines()):
            if isinstance(found, documents.Broken):
                raise DataError(f"{file}: {found.reason} near line {line} {found.detail}; its leaks could not be found")
            yield found


def _strings(value: Any) -> Iterator[str]:
    """Every text in a record, however deep, in its order: a question and its answer may leak together."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
