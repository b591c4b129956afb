"""Prepared folders for tests of erasing, without preparing anything."""

import random

import numpy as np

from jaxgpt.commands import erase
from jaxgpt.data import shards
from jaxgpt.data.plain_tokenizers import ByteTokenizer

BYTES = ByteTokenizer()


def make_texts(count, seed=0, words=12):
    """Documents of random words, no two alike."""
    draw = random.Random(seed)
    return [f"{number} " + " ".join(f"{draw.randrange(9999)}" for _ in range(words)) for number in range(count)]


def make_folder(folder, per_shard=500, **splits):
    """Write documents, by split, as a prepared folder of bytes; returns it."""
    folder.mkdir(parents=True)
    described = {}
    for split, texts in splits.items():
        parts = (np.array([BYTES.end, *text.encode()]) for text in texts)
        described[split] = {"documents": len(texts), "text_bytes": sum(len(text.encode()) for text in texts)}
        described[split]["shards"] = shards.write(folder, split, parts, per_shard, BYTES.dtype)
    shards.write_meta(folder, described, BYTES)
    return folder


def read_tokens(folder, split):
    """All tokens of a split, int64, read from the files themselves."""
    files = sorted(folder.glob(f"{split}_*.bin"))
    return np.concatenate([np.frombuffer(file.read_bytes()[1024:], BYTES.dtype) for file in files]).astype(np.int64)


def places_of(folder, split, text):
    """The tokens of a text that stands in a split once, as a range, by a search for its bytes."""
    tokens = read_tokens(folder, split)
    content = "".join(map(chr, tokens.tolist()))
    first = content.index(text)
    assert content.find(text, first + 1) < 0
    return first, first + len(text)


def run_erase(*words):
    """Run the command, whose errors are raised."""
    return erase.main([str(word) for word in words])
