import hashlib
import inspect
import pydoc_data.topics

import pytest
import tiktoken_ext.openai_public
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.data.tokenizer import VOCAB_SIZE, gpt2, hugging_face_files
from tests.support import golden


def test_ids_that_openai_has_published():
    assert gpt2().encode_ordinary("hello world") == [31373, 995]
    assert gpt2().encode_ordinary("Hello, I'm a language model,") == [15496, 11, 314, 1101, 257, 3303, 2746, 11]
    assert gpt2().n_vocab == VOCAB_SIZE == 50257
    assert gpt2().eot_token == 50256


def test_a_literal_end_of_text_is_ordinary_text():
    ids = gpt2().encode_ordinary("a<|endoftext|>b")
    assert 50256 not in ids
    assert gpt2().decode(ids) == "a<|endoftext|>b"


@given(st.text())
def test_every_text_comes_back(text):
    assert gpt2().decode(gpt2().encode_ordinary(text)) == text


def test_neither_network_nor_a_writable_cache_is_needed(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(blocked / "cache"))  # can't be made: its parent is a file
    monkeypatch.setattr("requests.get", lambda *_: pytest.fail("downloads"))
    gpt2.cache_clear()
    assert gpt2().encode_ordinary(" the") == [262]


def test_the_files_for_transformers_are_those_of_openai():
    """To the byte: tiktoken knows the hashes of vocab.json (encoder.json) and merges.txt (vocab.bpe)."""
    tiktoken_source = inspect.getsource(tiktoken_ext.openai_public.gpt2)
    for name in ("vocab.json", "merges.txt"):
        assert hashlib.sha256(hugging_face_files()[name].encode()).hexdigest() in tiktoken_source


def test_transformers_reads_the_same_tokens(tmp_path):
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    for name, content in hugging_face_files().items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    topics = "\n".join(pydoc_data.topics.topics.values())[:200_000]
    for text in (
        topics,
        " na\u00efve \U0001f642\U0001f680 \u65e5\u672c\u8a9e\n\n\t  x 12345 don't I'LL",
        "a<|endoftext|>b",
    ):
        ids = gpt2().encode(text, allowed_special="all")
        assert reference(text)["input_ids"] == ids and reference.decode(ids) == text
    assert reference.eos_token_id == 50256
