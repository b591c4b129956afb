"""Text <-> GPT-2 token ids, with no network: the ranks are in this package."""

import functools
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tiktoken
import tiktoken.load
from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

RANKS = Path(__file__).with_name("r50k_base.tiktoken")
RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"  # as tiktoken publishes it
VOCAB_SIZE = 50257
END = VOCAB_SIZE - 1  # <|endoftext|>
LONG_WHITESPACE = re.compile(r"[^\S\x1c-\x1f]{100000,}")  # Unicode's, as for tiktoken; Python has 4 more
PAD, PAD_ID = "\u00ff", 187  # the byte 0xFF, as `transformers` spells it: no text has it, since UTF-8 doesn't


@functools.cache
def gpt2() -> tiktoken.Encoding:
    """GPT-2's byte-pair encoding, 50,257 ids, `<|endoftext|>` = 50256 (Radford et al., 2019, section 2.2).

    Its own methods panic at a million spaces in a row: use `encode` and `encode_prompt`.
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


def encode(text: str) -> np.ndarray:
    """A text's GPT-2 ids, uint16 (N,): those of tiktoken, for any text. A literal `<|endoftext|>` is text."""
    ids = [gpt2().encode_to_numpy(part, disallowed_special=()) for part in _split_at_long_whitespace(text)]
    return np.concatenate(ids).astype(np.uint16)


def encode_prompt(text: str) -> list[int]:
    """As `encode`, but `<|endoftext|>` in the text is the token, as it is for `transformers`."""
    ids = []
    for number, document in enumerate(text.split(ENDOFTEXT)):
        ids += [END] * (number > 0)
        for part in _split_at_long_whitespace(document):
            ids += gpt2().encode_ordinary(part)  # which takes lone surrogates too
    return ids


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


class Template(NamedTuple):
    """The token ids around a text that gets a label, and between the two texts of a pair."""

    begin: tuple[int, ...]
    between: tuple[int, ...]
    end: tuple[int, ...]


TEMPLATE = Template(begin=(), between=(198,), end=(END,))  # ours; 198 is a new line
PLAIN = Template((), (), ())  # GPT-2's own tokenizer inserts nothing


def hugging_face_files(
    max_length: int, template: Template | None = None, chat_template: str | None = None
) -> dict[str, str]:
    """The same encoding as the files of `transformers`' GPT2Tokenizer, by name.

    Args:
      max_length: the most tokens of a text, to which `truncation=True` cuts it.
      template: for a model with a head for labels. Its files put this around texts and pairs, and take <|endoftext|> in
        a text for text. Their padding is another token: the head reads the last one that is no padding.
      chat_template: Jinja of `transformers`, for a model that answers messages.
    """
    vocabulary, merges = _spell_vocabulary()
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": ENDOFTEXT,
        "eos_token": ENDOFTEXT,
        "unk_token": ENDOFTEXT,
        "model_max_length": max_length,
    }
    if template:
        settings |= {"pad_token": PAD, "padding_side": "right", "split_special_tokens": True}
    else:  # texts of a batch that are continued must all end in the last column
        settings |= {"pad_token": ENDOFTEXT, "padding_side": "left"}
    if chat_template is not None:
        settings |= {"chat_template": chat_template}
    return {
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "tokenizer.json": json.dumps(_tokenizer_json(vocabulary, merges, template)),
        "tokenizer_config.json": json.dumps(settings),
    }


def _tokenizer_json(vocabulary: dict[str, int], merges: list[str], template: Template | None) -> dict[str, Any]:
    """The format of Hugging Face's library `tokenizers`."""
    verbatim = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": END, "content": ENDOFTEXT, **verbatim}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": template and _post_processor(vocabulary, template),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocabulary, "merges": merges},
    }


def _post_processor(vocabulary: dict[str, int], template: Template) -> dict[str, Any]:
    spelling = {number: token for token, number in vocabulary.items()}
    a, b = ([{"Sequence": {"id": name, "type_id": 0}}] for name in "AB")
    begin, between, end = ([{"SpecialToken": {"id": spelling[i], "type_id": 0}} for i in ids] for ids in template)
    inserted = {spelling[i]: {"id": spelling[i], "ids": [i], "tokens": [spelling[i]]} for ids in template for i in ids}
    pieces = {"single": begin + a + end, "pair": begin + a + between + b + end}
    return {"type": "TemplateProcessing", **pieces, "special_tokens": inserted}


@functools.cache
def _spell_vocabulary() -> tuple[dict[str, int], list[str]]:
    """OpenAI's two files: the ids by the tokens' spelling, and the merges.

    These write each byte as a printable character, and the ranks as a list of merges: the two tokens that a longer one
    is merged from (Sennrich et al., 2016).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}

    def spell(token: bytes) -> str:
        return "".join(characters[byte] for byte in token)

    ranks = {gpt2().decode_single_token_bytes(i): i for i in range(VOCAB_SIZE - 1)}
    merges = [" ".join(map(spell, _halves(token, ranks))) for token in ranks if len(token) > 1]
    return {spell(token): rank for token, rank in ranks.items()} | {ENDOFTEXT: END}, merges


def _halves(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that a token is merged from: its byte-pair encoding without its own rank."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, VOCAB_SIZE) for a, b in itertools.pairwise(parts)]
        i = min(range(len(pairs)), key=pairs.__getitem__)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


@functools.cache
def byte_lengths() -> np.ndarray:
    """Each token's length in bytes of text, int32 (50257,); 0 for <|endoftext|>."""
    lengths = [len(gpt2().decode_single_token_bytes(token)) for token in range(VOCAB_SIZE - 1)]
    return np.array([*lengths, 0], np.int32)
