import collections
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxgpt.data import json_tokenizers
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.data.json_tokenizers import read_json_tokenizer
from jaxgpt.data.tokenizer import byte_level_json, special_token
from tests.support import round_trips


@pytest.fixture(scope="module")
def trained():
    return round_trips.train_tokenizer()


def test_any_text_comes_back_and_hugging_face_gives_the_same_ids(trained):
    round_trips.check(trained, list(round_trips.nasty_strings(150, seed=2)))
    assert (trained.end, trained.end_text, trained.dtype) == (0, "<|endoftext|>", np.uint16)
    assert trained.token_bytes(trained.pad) == b"\xff" and trained.token_bytes(10**6) == b""


def test_pieces_have_the_ids_of_the_whole(trained):
    text = "\n".join(round_trips.nasty_strings(100, seed=3))
    pieces = list(trained.split(text, 20))
    assert len(pieces) > 20 and np.concatenate([*map(trained.encode, pieces)]).tolist() == trained.encode(text).tolist()


def test_the_merges_are_the_most_frequent_pairs():
    """Sennrich et al., algorithm 1, by hand, where of equals the library's own choice is taken."""
    text = " low" * 5 + " lower" * 2 + " newest" * 6 + " widest" * 3
    tokenizer = json_tokenizers.train([text], 264)
    words = collections.Counter(tuple(f" {word}") for word in text.split())
    for token in map(tokenizer.token_bytes, range(257, 264)):
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        (merged,) = [pair for pair in pairs if "".join(pair) == token.decode()]
        assert pairs[merged] == max(pairs.values())
        words = collections.Counter({_merge(word, merged): count for word, count in words.items()})


def _merge(word, pair):
    parts = list(word)
    for i in range(len(parts) - 1, 0, -1):
        if (parts[i - 1], parts[i]) == pair:
            parts[i - 1 : i + 1] = ["".join(pair)]
    return tuple(parts)


@pytest.mark.slow
def test_any_number_of_threads_trains_the_same_bytes():
    code = "from tests.support.round_trips import train_tokenizer as t; print(t().sha256)"
    hashes = {
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"RAYON_NUM_THREADS": n}, **RUN).stdout
        for n in ("1", "2", "7")
    }
    assert hashes == {round_trips.train_tokenizer().sha256 + "\n"}


RUN = {"stdout": subprocess.PIPE, "text": True, "check": True}


@pytest.mark.slow
def test_gpt2s_own_file_gives_gpt2s_ids(tmp_path):
    """Read as a stranger's, not recognized: the library's implementation against tiktoken's."""
    content = json.loads(GPT2_TOKENIZER.hugging_face_files()["tokenizer.json"])
    tokenizer = read_json_tokenizer(tmp_path / "tokenizer.json", content, None)
    for text in round_trips.nasty_strings(100, seed=4):
        assert tokenizer.encode(text).tolist() == encoding().encode_ordinary(text)
        assert tokenizer.encode_prompt(text) == encoding().encode(text, allowed_special="all")
    assert (tokenizer.byte_lengths == GPT2_TOKENIZER.byte_lengths).all()
    assert (tokenizer.end, tokenizer.pad) == (50256, GPT2_TOKENIZER.pad)


def test_more_than_65536_ids_take_four_bytes(tmp_path):
    vocabulary = {chr(0x4E00 + i // 300) + chr(0x100 + i % 300): i for i in range(65_540)}
    content = byte_level_json(vocabulary, [], 65_540, use_regex=True)
    content["added_tokens"] = [special_token(65_540, "<end>")]
    tokenizer = read_json_tokenizer(tmp_path / "tokenizer.json", content, "<end>")
    assert (tokenizer.vocab_size, tokenizer.dtype) == (65_541, np.uint32)
    assert tokenizer.encode_prompt("<end>") == [65_540]
