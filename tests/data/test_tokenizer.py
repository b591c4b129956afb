"""What all tokenizers have in common, and the formats of Hugging Face's."""

import numpy as np

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, TEMPLATE, encoding
from jaxgpt.data.tokenizer import Tokenizer


class Shifted(Tokenizer):
    """Each byte's id is one more; 0 ends a document."""

    name, sha256, vocab_size, end, end_text = "shifted", "0" * 64, 257, 0, "<end>"

    def encode(self, text):
        return np.frombuffer(text.encode(), np.uint8).astype(self.dtype) + 1

    def token_bytes(self, token):
        return bytes([token - 1]) if token else b"<end>"


def test_what_follows_from_a_tokenizers_own_methods():
    shifted = Shifted()
    assert shifted.encode_prompt("<end>a<end><end>b") == [0, 98, 0, 0, 99]
    assert shifted.decode(shifted.encode_prompt("é<end>")) == "é<end>"
    assert shifted.decode([0xC4, 98]) == "\ufffda" and shifted.escape_token(0xC4) == "\\xc3"
    assert shifted.byte_lengths.tolist() == [0, *[1] * 256]
    assert shifted.template == ((), (11,), (0,))


def test_gpt2s_own_methods_give_what_the_general_ones_do():
    text = "a<|endoftext|> b\n"
    assert Tokenizer.encode_prompt(GPT2_TOKENIZER, text) == encoding().encode(text, allowed_special="all")
    assert Tokenizer.decode_bytes(GPT2_TOKENIZER, [50256, 64]) == GPT2_TOKENIZER.decode_bytes([50256, 64])
    assert Tokenizer.template.fget(GPT2_TOKENIZER) == TEMPLATE
