"""GPT-2's tokenizer, by tiktoken, with no network: the ranks are in this package."""

import dataclasses
import functools
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
import tiktoken.load
from tiktoken_ext.openai_public import r50k_pat_str

from jaxgpt.data.tokenizer import (
    ENDOFTEXT,
    Template,
    Tokenizer,
    byte_characters,
    byte_level_json,
    post_processor,
    tokenizer_config,
)

RANKS = Path(__file__).with_name("r50k_base.tiktoken")
RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"  # as tiktoken publishes it
VOCAB_SIZE = 50257
END = VOCAB_SIZE - 1  # <|endoftext|>
LONG_WHITESPACE = re.compile(r"[^\S\x1c-\x1f]{100000,}")  # Unicode's, as for tiktoken; Python has 4 more
PAD, PAD_ID = "\u00ff", 187  # the byte 0xFF, as `transformers` spells it: no text has it, since UTF-8 doesn't
TEMPLATE = Template(begin=(), between=(198,), end=(END,))  # ours; 198 is a new line


@functools.cache
def encoding() -> tiktoken.Encoding:
    """GPT-2's byte-pair encoding, 50,257 ids, `<|endoftext|>` = 50256 (Radford et al., 2019, section 2.2).

    Its own methods panic at a million spaces in a row: use those of GPT2Tokenizer.
    """
    # tiktoken copies what it loads, local files too, into TIKTOKEN_CACHE_DIR, which may be read-only; "" is no copy.
    users_cache = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = ""
    try:
        ranks = tiktoken.load.load_tiktoken_bpe(str(RANKS), RANKS_SHA256)
    finally:
        if users_cache is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = users_cache
    return tiktoken.Encoding(
        name="gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={ENDOFTEXT: END},
        explicit_n_vocab=VOCAB_SIZE,
    )


@dataclasses.dataclass(frozen=True)
class GPT2Tokenizer(Tokenizer):
    """GPT-2's tokenizer, as a value: tiktoken is loaded when the first text is encoded."""

    name = cache_name = "gpt2"
    sha256 = RANKS_SHA256
    vocab_size = VOCAB_SIZE
    end, pad = END, PAD_ID
    template = TEMPLATE

    def encode(self, text: str) -> np.ndarray:
        """A text's GPT-2 ids, uint16 (N,): those of tiktoken, for any text. A literal `<|endoftext|>` is text."""
        ids = [encoding().encode_to_numpy(part, disallowed_special=()) for part in _split_at_long_whitespace(text)]
        return np.concatenate(ids).astype(np.uint16)

    def encode_prompt(self, text: str) -> list[int]:
        ids = []
        for number, document in enumerate(text.split(ENDOFTEXT)):
            ids += [END] * (number > 0)
            for part in _split_at_long_whitespace(document):
                ids += encoding().encode_ordinary(part)  # which takes lone surrogates too
        return ids

    def token_bytes(self, token: int) -> bytes:
        return encoding().decode_single_token_bytes(token)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return encoding().decode_bytes(ids)

    def split(self, text: str, piece_chars: int) -> Iterator[str]:
        # GPT-2's pattern always makes a word of a lone newline between two visible characters, so a cut behind it
        # changes no token. A cut at a space would: " word" is one word.
        start, newline = 0, re.compile(r"(?<=\S)\n(?=\S)")
        while start < len(text):
            match = newline.search(text, start + piece_chars)
            end = match.end() if match else len(text)
            yield text[start:end]
            start = end

    def definition(self) -> dict[str, Any]:
        return byte_level_json(*_spell_vocabulary(), END, use_regex=True)

    def hugging_face_files(
        self, max_length: int | None = None, template: Template | None = None, chat_template: str | None = None
    ) -> dict[str, str]:
        """The files of `transformers`' GPT2Tokenizer; a template's padding is a byte that no text has."""
        vocabulary, merges = _spell_vocabulary()
        content = self.definition()
        if template:
            content |= {"post_processor": post_processor({id: token for token, id in vocabulary.items()}, template)}
        special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), ENDOFTEXT)
        settings = {"tokenizer_class": "GPT2Tokenizer", **special}
        return {
            "vocab.json": json.dumps(vocabulary),
            "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
            "tokenizer.json": json.dumps(content),
        } | tokenizer_config(settings, max_length, template, chat_template, PAD)


GPT2_TOKENIZER = GPT2Tokenizer()


def _split_at_long_whitespace(text: str) -> Iterator[str]:
    # GPT-2's pattern makes a word of whitespace up to its last character, which begins the next word, or up to the
    # text's end. It looks for that by going back from the whitespace's end, with a stack that has no room for a million
    # characters; in whitespace that ends its text it never goes back.
    start = 0
    for space in LONG_WHITESPACE.finditer(text):
        end = space.end() - (space.end() < len(text))
        yield text[start : space.start()]
        yield text[space.start() : end]
        start = end
    yield text[start:]


@functools.cache
def _spell_vocabulary() -> tuple[dict[str, int], list[str]]:
    """OpenAI's two files: the ids by the tokens' spelling, and the merges.

    These write each byte as a printable character, and the ranks as a list of merges: the two tokens that a longer one
    is merged from (Sennrich et al., 2016).
    """
    ranks = {encoding().decode_single_token_bytes(i): i for i in range(VOCAB_SIZE - 1)}
    merges = [" ".join(map(_spell, _halves(token, ranks))) for token in ranks if len(token) > 1]
    return {_spell(token): rank for token, rank in ranks.items()} | {ENDOFTEXT: END}, merges


def _spell(token: bytes) -> str:
    return "".join(map(_characters().__getitem__, token))


_characters = functools.cache(byte_characters)


def is_gpt2(content: dict[str, Any]) -> bool:
    """Whether a tokenizer.json has GPT-2's tokens, and no others."""
    model, added = content.get("model"), content.get("added_tokens", [])
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or len(vocabulary) != VOCAB_SIZE or not isinstance(added, list):
        return False
    if not all(isinstance(each, dict) and each.get("id") == END for each in added):
        return False
    return all(vocabulary.get(_spell(encoding().decode_single_token_bytes(i))) == i for i in range(VOCAB_SIZE - 1))


def _halves(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that a token is merged from: its byte-pair encoding without its own rank."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, VOCAB_SIZE) for a, b in itertools.pairwise(parts)]
        i = min(range(len(pairs)), key=pairs.__getitem__)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts
