import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.tokenizer import VOCAB_SIZE, gpt2


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
