import hashlib
import inspect
import itertools
import pydoc_data.topics
import re

import numpy as np
import pytest
import regex
import tiktoken_ext.openai_public
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.data import gpt2_tokenizer
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, VOCAB_SIZE, encoding
from tests.support import golden


def test_ids_that_openai_has_published():
    assert encoding().encode_ordinary("hello world") == [31373, 995]
    assert encoding().encode_ordinary("Hello, I'm a language model,") == [15496, 11, 314, 1101, 257, 3303, 2746, 11]
    assert encoding().n_vocab == VOCAB_SIZE == 50257
    assert encoding().eot_token == 50256


# Everything that Python or Unicode calls white space, or is near it; and what begins or ends a word in its own way.
BLANKS = [chr(i) for i in range(0x110000) if chr(i).isspace()] + ["\u180e", "\u200b", "\u2060", "\ufeff"]
WORDS = ["a", "'", "s", "7", ".", "\u4e2d", "<|endoftext|>"]


@given(st.lists(st.sampled_from(BLANKS) | st.sampled_from([" ", "\n", *WORDS])).map("".join) | st.text())
def test_every_text_has_tiktokens_ids_wherever_its_whitespace_is_split(text):
    with pytest.MonkeyPatch.context() as patch:
        pattern = gpt2_tokenizer.LONG_WHITESPACE.pattern.replace("100000", "2")
        patch.setattr(gpt2_tokenizer, "LONG_WHITESPACE", re.compile(pattern))
        ids, prompt = GPT2_TOKENIZER.encode(text), GPT2_TOKENIZER.encode_prompt(text)
    assert ids.dtype == np.uint16 and ids.tolist() == encoding().encode_ordinary(text)
    assert prompt == encoding().encode(text, allowed_special="all")
    assert encoding().decode(prompt) == text


@pytest.mark.parametrize("blank", [" ", "\n", "\t"])
def test_a_blank_of_any_length_is_tokenized(blank):
    """tiktoken panics at it. GPT-2's pattern, with Python's `regex`, says which words the text has."""
    text = f"It is{blank * 1_050_000}far<|endoftext|>."
    words = regex.findall(tiktoken_ext.openai_public.r50k_pat_str, text)
    assert max(map(len, words)) == 1_049_999
    ids = [encoding().encode_ordinary(word) for word in words]  # each is a text of one word
    assert GPT2_TOKENIZER.encode(text).tolist() == list(itertools.chain(*ids))
    assert GPT2_TOKENIZER.encode_prompt(text) == list(itertools.chain(*ids[: words.index("<|")], [50256, 13]))


def test_neither_network_nor_a_writable_cache_is_needed(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(blocked / "cache"))  # can't be made: its parent is a file
    monkeypatch.setattr("requests.get", lambda *_: pytest.fail("downloads"))
    encoding.cache_clear()
    assert encoding().encode_ordinary(" the") == [262]


def test_the_files_for_transformers_are_those_of_openai():
    """To the byte: tiktoken knows the hashes of vocab.json (encoder.json) and merges.txt (vocab.bpe)."""
    tiktoken_source = inspect.getsource(tiktoken_ext.openai_public.gpt2)
    for name in ("vocab.json", "merges.txt"):
        assert hashlib.sha256(GPT2_TOKENIZER.hugging_face_files(1024)[name].encode()).hexdigest() in tiktoken_source


def test_transformers_reads_the_same_tokens(tmp_path):
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    for name, content in GPT2_TOKENIZER.hugging_face_files(1024).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    topics = "\n".join(pydoc_data.topics.topics.values())[:200_000]
    for text in (
        topics,
        " na\u00efve \U0001f642\U0001f680 \u65e5\u672c\u8a9e\n\n\t  x 12345 don't I'LL",
        "a<|endoftext|>b",
    ):
        ids = encoding().encode(text, allowed_special="all")
        assert reference(text)["input_ids"] == ids and reference.decode(ids) == text
    assert (reference.eos_token_id, reference.pad_token_id, reference.model_max_length) == (50256, 50256, 1024)
