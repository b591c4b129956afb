"""Byte-pair encodings of Hugging Face's format tokenizer.json: read and trained, by the library `tokenizers`."""

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.tokenizer import ENDOFTEXT, Tokenizer, byte_characters, byte_level_json, special_token
from jaxgpt.errors import DataError

MAX_VOCAB = 2**24  # ids
MIN_VOCAB = 257  # the bytes, and the token that ends a document
GPT2_WORDS = byte_level_json({}, [], 0, use_regex=True)["pre_tokenizer"]  # which cuts a text as GPT-2's own does


@dataclasses.dataclass(frozen=True)
class BPETokenizer(Tokenizer):
    """A byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019, section 2.2).

    Attributes:
      content: its tokenizer.json without a post-processor, as `read` has checked it.
      end_text: how the token that ends a document is spelled.
    """

    content: str = dataclasses.field(repr=False)
    end_text: str = ENDOFTEXT

    name = "bpe"

    @classmethod
    def read(cls, where: Path, content: dict[str, Any], end_text: str | None) -> "BPETokenizer":
        """The tokenizer of a tokenizer.json.

        Args:
          where: the file, for errors.
          content: of the file.
          end_text: how the end token is spelled; None: it must be <|endoftext|>.

        Raises:
          DataError: it is no byte-level byte-pair encoding, or has no end token.
        """
        if problem := _find_problem(content):
            raise DataError(f"{where}: {problem}; give the tokenizer.json of a byte-level byte-pair encoding")
        content = content | {"post_processor": None, "truncation": None, "padding": None}
        tokenizer = cls(json.dumps(content, ensure_ascii=False), end_text or ENDOFTEXT)
        try:
            vocabulary = _load(tokenizer.content).get_vocab(with_added_tokens=True)
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:  # the library's PanicException is no Exception
            raise DataError(f"{where}: the library tokenizers can't read it ({_describe(error)})") from None
        if not vocabulary or max(vocabulary.values()) >= MAX_VOCAB:
            raise DataError(f"{where}: its ids must be below {MAX_VOCAB:,}, and there must be some")
        end = vocabulary.get(tokenizer.end_text)
        if end is None:
            config = where.with_name("tokenizer_config.json")
            line = json.dumps({"eos_token": end_text or "TOKEN"}, ensure_ascii=False)
            missing = f", {end_text!r}, is none of its tokens" if end_text else " is not named"
            raise DataError(f"{where}: the token that ends a document{missing}; name it in {config}: {line}")
        if end in tokenizer.special_tokens:
            return tokenizer
        added = [*content.get("added_tokens", []), special_token(end, tokenizer.end_text)]
        return cls(json.dumps(content | {"added_tokens": added}, ensure_ascii=False), tokenizer.end_text)

    @property
    def _vocabulary(self) -> dict[str, int]:
        return _vocabulary(self.content)

    @functools.cached_property
    def vocab_size(self) -> int:
        return max(self._vocabulary.values()) + 1

    @functools.cached_property
    def end(self) -> int:
        return self._vocabulary[self.end_text]

    @functools.cached_property
    def pad(self) -> int | None:
        """The byte 0xFF, which UTF-8 doesn't have."""
        return self._vocabulary.get(byte_characters()[255])

    @functools.cached_property
    def special_tokens(self) -> tuple[int, ...]:
        added = _load(self.content).get_added_tokens_decoder()
        return tuple(id for id, token in added.items() if token.special)

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._encode(text, special=False), self.dtype)

    def encode_prompt(self, text: str) -> list[int]:
        """As `encode`, but special tokens in the text are tokens, as they are for `transformers`."""
        return self._encode(text, special=True)

    def _encode(self, text: str, special: bool) -> list[int]:
        try:
            return _load(self.content, special).encode(text, add_special_tokens=False).ids
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:  # as in `read`: such as a pattern that takes too long
            raise DataError(f"the library tokenizers can't encode the text ({_describe(error)})") from None

    def split(self, text: str, piece_chars: int) -> Iterator[str]:
        content = self.definition()
        if content.get("normalizer") is None and content["pre_tokenizer"] == GPT2_WORDS:
            return GPT2_TOKENIZER.split(text, piece_chars)
        return iter([text])

    def token_bytes(self, token: int) -> bytes:
        return _token_bytes(self.content)[token] if token < self.vocab_size else b""

    def definition(self) -> dict[str, Any]:
        return json.loads(self.content)


def _find_problem(content: dict[str, Any]) -> str:
    """What makes a tokenizer.json another kind of tokenizer; "" if nothing."""
    model, added = content.get("model"), content.get("added_tokens", [])
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return "no tokenizer: it has no model with a vocabulary"
    if (kind := model.get("type", "BPE")) != "BPE":
        return f"its model is {kind!r:.40}"
    # By the first a text has other ids each time; with the others the library may abort the process.
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            return f"its {name} is {model[name]!r:.40}"
    if not isinstance(added, list) or not all(isinstance(each, dict) and type(each.get("id")) is int for each in added):
        return "its added_tokens are no list of tokens with ids"
    for name in ("pre_tokenizer", "decoder"):
        if "ByteLevel" not in _types(content.get(name)):
            return f"its {name} is not ByteLevel"
    return ""


def _types(part: Any) -> set[str]:
    """The types of a pre-tokenizer or decoder, and of those that it is a sequence of."""
    if not isinstance(part, dict):
        return set()
    pieces = part.get("pretokenizers", part.get("decoders"))
    nested = map(_types, pieces if isinstance(pieces, list) else [])
    return {str(part.get("type"))}.union(*nested)


def _describe(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


@functools.lru_cache(maxsize=8)
def _load(content: str, special: bool = False) -> tokenizers.Tokenizer:
    """The library's tokenizer; `special`: special tokens in a text are tokens."""
    tokenizer = tokenizers.Tokenizer.from_str(content)
    tokenizer.encode_special_tokens = not special
    return tokenizer


@functools.lru_cache(maxsize=8)
def _vocabulary(content: str) -> dict[str, int]:
    return _load(content).get_vocab(with_added_tokens=True)


@functools.lru_cache(maxsize=8)
def _token_bytes(content: str) -> list[bytes]:
    """Each token's text in UTF-8; an id without a token has none."""
    bytes_of = {character: byte for byte, character in byte_characters().items()}
    added = {token.content for token in _load(content).get_added_tokens_decoder().values()}
    vocabulary = _vocabulary(content)
    texts = [b""] * (max(vocabulary.values()) + 1)
    for token, id in vocabulary.items():
        is_spelled = token not in added and all(character in bytes_of for character in token)
        texts[id] = bytes(map(bytes_of.__getitem__, token)) if is_spelled else token.encode()
    return texts


def train(texts: Iterable[str], vocab_size: int, workers: int | None = None) -> BPETokenizer:
    """A byte-level byte-pair encoding of at most `vocab_size` ids for texts like these, after GPT-2's pattern of words.

    Its first ids are <|endoftext|> and the bytes; the others are merges, fewer if the texts have no more pairs. It
    depends on the texts' words alone, and on no number of threads.

    Args:
      workers: threads, at the first call of the library in this process; None: as many as there are cores.
    """
    if workers:
        os.environ["RAYON_NUM_THREADS"] = str(workers)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[ENDOFTEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BPETokenizer(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False))
