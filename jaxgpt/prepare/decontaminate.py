"""Decontamination: drops documents that contain text of an evaluation."""

import dataclasses
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.utils.hashing import create_hash_func
from datatrove.utils.text import ngrams

from jaxgpt.data import records
from jaxgpt.errors import DataError
from jaxgpt.prepare import readers, sources
from jaxgpt.prepare.drop_log import DropLog
from jaxgpt.prepare.words import SIMPLIFIED, WORDS, simplify

LEAK_WORDS = 13  # as in Brown et al. (2020), appendix C


class DropLeaks(NGramsDecontFilter):
    """datatrove's step, in linear time and little memory whatever the marks of a text."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return super().filter(dataclasses.replace(doc, text=simplify(doc.text)))  # with the same metadata


def decontaminate(index: Path, work: Path) -> PipelineStep:
    """A step that drops documents which share 13 words in a row with the texts that `write_index` has indexed."""
    config = NGramsDecontConfig(n_grams=LEAK_WORDS, norm_config=SIMPLIFIED)
    step = DropLeaks(str(index), config, exclusion_writer=DropLog(work, "decontaminate"), language=WORDS)
    step.name = "decontaminate"
    return step


def find_sequences(files: Iterable[Path]) -> dict[str, np.ndarray]:
    """Hash the sequences of 13 words in evaluation files: JSONL, where every string counts, or plain text.

    Returns:
      The sorted hashes of each file, by a name for it.

    Raises:
      DataError: a file can't be read, or has no such sequence.
    """
    config, found = NGramsDecontConfig(n_grams=LEAK_WORDS, norm_config=SIMPLIFIED), {}
    hash_words = create_hash_func(config.hash_config)
    for number, file in enumerate(files):
        hashes = set()
        for text in _texts(file):
            words = WORDS.word_tokenize(simplify(text))
            hashes.update(hash_words(" ".join(each)) for each in ngrams(words, LEAK_WORDS))
        if not hashes:
            raise DataError(f"{file}: no text of {LEAK_WORDS} words in it, so that no leak of it could be found")
        found[f"{number} {file.name}"] = np.array(sorted(hashes), config.hash_config.np_dtype)
    return found


def write_index(sequences: dict[str, np.ndarray], folder: Path) -> None:
    """Write what `find_sequences` has found as the index that `decontaminate` reads."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, hashes in sequences.items():
        hashes.tofile(folder / f"{name}.index.hashes")


def _texts(file: Path) -> Iterator[str]:
    if sources.detect_kind(file) == "jsonl" and not file.name.lower().endswith(sources.COMPRESSED):
        for line, record in records.read_jsonl(file):
            text = " ".join(_strings(record))
            records.require_unicode(f"{file}, line {line}", text)
            yield text
        return
    for unit in (unit for piece in sources.plan_pieces([str(file)]) for unit in piece):
        for line, text in readers.READERS[unit.kind](unit, "text", readers.LineCounter()):
            if isinstance(text, readers.Broken):
                raise DataError(f"{file}: {text.reason} near line {line} {text.detail}; its leaks could not be found")
            yield text


def _strings(value: Any) -> Iterator[str]:
    """All strings in a record, at any depth, in order: a question and its answer may leak together."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            rest += reversed(value.values() if isinstance(value, dict) else value)
