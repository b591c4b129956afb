"""Tokenizers without merges: the bytes of a text's UTF-8, and its characters."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxgpt.data.tokenizer import ENDOFTEXT, Tokenizer, byte_characters, byte_level_json, special_token
from jaxgpt.errors import DataError, UsageError

END_CODE = 0x110000  # above all code points


@dataclasses.dataclass(frozen=True)
class ByteTokenizer(Tokenizer):
    """Each byte of UTF-8 is its own id; 256 ends a document."""

    name = "bytes"
    vocab_size, end = 257, 256
    pad = 255  # which UTF-8 doesn't have

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(self.dtype)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else ENDOFTEXT.encode()

    def split(self, text: str, piece_chars: int) -> Iterator[str]:
        return _cut(text, piece_chars)

    def definition(self) -> dict[str, Any]:
        vocabulary = {character: byte for byte, character in sorted(byte_characters().items())}
        return byte_level_json(vocabulary, [], self.end, use_regex=False)


@dataclasses.dataclass(frozen=True)
class CharTokenizer(Tokenizer):
    """Each character of a text is an id, by its code point's rank, as in nanoGPT's data/shakespeare_char.

    Attributes:
      characters: sorted, none twice.
      has_end: whether the next id ends a document; a single text needs none.
    """

    characters: str
    has_end: bool = False

    name = "chars"

    @classmethod
    def of(cls, texts: Iterable[str], has_end: bool) -> "CharTokenizer":
        """The tokenizer of these texts."""
        return cls("".join(sorted(set().union(*texts))), has_end)

    @property
    def vocab_size(self) -> int:
        return len(self.characters) + self.has_end

    @property
    def end(self) -> int | None:
        return len(self.characters) if self.has_end else None

    def encode(self, text: str) -> np.ndarray:
        codes = _code_points(text)
        if unknown := self._unknown(codes):
            raise DataError(unknown)
        return self.from_code_points(codes)

    def encode_prompt(self, text: str) -> list[int]:
        without_end = text.replace(self.end_text, "") if self.has_end else text
        if unknown := self._unknown(_code_points(without_end)):
            raise UsageError(unknown)
        return super().encode_prompt(text)

    def from_code_points(self, codes: np.ndarray) -> np.ndarray:
        """The ids of known characters' code points; END_CODE is the end."""
        ids = np.searchsorted(_code_points(self.characters), codes)  # for END_CODE, which is above all, the last id
        return ids.astype(self.dtype)

    def _unknown(self, codes: np.ndarray) -> str:
        """What is wrong with a text whose characters are not all known; "" if nothing."""
        unknown = np.flatnonzero(~np.isin(codes, _code_points(self.characters)))
        if not len(unknown):
            return ""
        at, character = int(unknown[0]), chr(codes[unknown[0]])
        known = f"none of the {len(self.characters):,} characters of the training text"
        remedy = "leave it out, or train with --tokenizer bytes"
        return f"character {at + 1:,} is {character!r} (U+{ord(character):04X}), {known}; {remedy}"

    def token_bytes(self, token: int) -> bytes:
        return (self.characters[token] if token < len(self.characters) else self.end_text).encode()

    def split(self, text: str, piece_chars: int) -> Iterator[str]:
        return _cut(text, piece_chars)

    def encoder_ids(self) -> tuple[int, int, int, int | None]:
        raise DataError("the tokenizer chars has no token that hides another, which encoders need; use bytes")

    def definition(self) -> dict[str, Any]:
        vocabulary = {character: id for id, character in enumerate(self.characters)}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [special_token(self.end, ENDOFTEXT)] if self.has_end else [],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": r"[\s\S]"},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        }


@dataclasses.dataclass(frozen=True)
class CodePointTokenizer(Tokenizer):
    """Code points: what `chars` has while a text is read for the first time, and its characters are not known."""

    name = sha256 = "chars"
    vocab_size, end = END_CODE + 1, END_CODE

    def encode(self, text: str) -> np.ndarray:
        return _code_points(text)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return "".join(map(chr, ids)).encode()


CODE_POINTS = CodePointTokenizer()


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "replace"), "<u4")


def _cut(text: str, piece_chars: int) -> Iterator[str]:
    return (text[start : start + piece_chars] for start in range(0, len(text), piece_chars))
