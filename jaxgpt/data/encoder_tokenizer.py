"""The tokenizer of an encoder: another one's ids, with a mask, and with what begins and ends a text."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxgpt.data.tokenizer import Roles, Template, Tokenizer, post_processor, special_token

MASK = "<mask>"
SPACE = r"[^\S\x1c-\x1f]*"  # Unicode's, as for the library tokenizers; Python has 4 more


@dataclasses.dataclass(frozen=True)
class EncoderTokenizer(Tokenizer):
    """Another tokenizer with the roles that an encoder needs (Devlin et al., 2019, section 3; Liu et al., 2019).

    Attributes:
      inner: the tokenizer of texts. The mask is one of its ids or, spelled <mask>, the next one.
      token_types: of the model: 2, with which the second text of a pair has type 1 in the files of `transformers`; 1.
    """

    inner: Tokenizer
    mask: int
    cls: int
    sep: int
    pad: int | None
    token_types: int = dataclasses.field(default=2, compare=False)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def dtype(self) -> np.dtype:
        """Of the ids of texts, of which a new mask is none."""
        return self.inner.dtype

    @property
    def cache_name(self) -> str:
        return self.inner.cache_name

    @property
    def text_sha256(self) -> str:
        return self.inner.sha256

    @functools.cached_property
    def sha256(self) -> str:
        facts = [self.inner.sha256, self.mask, self.cls, self.sep]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size + self._has_new_mask

    @property
    def _has_new_mask(self) -> bool:
        return self.mask == self.inner.vocab_size

    @property
    def end(self) -> int:
        return self.inner.end

    @property
    def end_text(self) -> str:
        return self.inner.end_text

    @property
    def template(self) -> Template:
        return Template((self.cls,), (self.sep,) * self.inner.separators, (self.sep,))

    @functools.cached_property
    def special_tokens(self) -> Sequence[int]:
        return tuple(sorted({*self.inner.special_tokens, self.mask, self.cls, self.sep}))

    @property
    def byte_lengths(self) -> np.ndarray:
        lengths = np.append(self.inner.byte_lengths, [0] * self._has_new_mask).astype(np.int32)
        lengths[[*self.special_tokens]] = 0
        return lengths

    def encode(self, text: str) -> np.ndarray:
        return self.inner.encode(text)

    def encode_prompt(self, text: str) -> list[int]:
        if not self._has_new_mask:
            return self.inner.encode_prompt(text)
        first, *others = map(self.inner.encode_prompt, re.split(SPACE + MASK, text))
        return [*first, *(token for part in others for token in (self.mask, *part))]

    def token_bytes(self, token: int) -> bytes:
        return MASK.encode() if token == self.inner.vocab_size else self.inner.token_bytes(token)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return super().decode_bytes(ids) if self._has_new_mask else self.inner.decode_bytes(ids)

    def split(self, text: str, piece_chars: int) -> Iterator[str]:
        return self.inner.split(text, piece_chars)

    def definition(self) -> dict[str, Any]:
        content = self.inner.definition()
        if self._has_new_mask:
            content["added_tokens"].append(mask_token(self.mask))
        return content

    def hugging_face_files(
        self, max_length: int | None = None, template: Template | None = None, chat_template: str | None = None
    ) -> dict[str, str]:
        """As for other tokenizers, with the encoder's own template, which its files always put around texts."""
        del chat_template  # an encoder answers no messages
        content = self.definition()
        spelling = {id: token for token, id in content["model"]["vocab"].items()}
        spelling |= {token["id"]: token["content"] for token in content["added_tokens"]}
        content["post_processor"] = post_processor(spelling, template or self.template, self.token_types - 1)
        is_padding = self.pad is not None and (template or self.pad in self.special_tokens)
        pad = spelling[self.pad] if is_padding else self.end_text  # in texts, the other's spelling is text
        settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "right"}
        settings |= {"bos_token": self.end_text, "eos_token": self.end_text}
        settings |= Roles(spelling[self.mask], spelling[self.cls], spelling[self.sep], pad).settings()
        settings |= {} if max_length is None else {"model_max_length": max_length}
        settings |= {"split_special_tokens": True} if template else {}
        if self.token_types > 1:
            settings |= {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
        files = {"tokenizer.json": json.dumps(content, ensure_ascii=False)}
        return files | {"tokenizer_config.json": json.dumps(settings)}


def for_encoder(tokenizer: Tokenizer) -> EncoderTokenizer:
    """The same ids of texts, with those that an encoder needs.

    Raises:
      DataError: the tokenizer can't have them.
    """
    if isinstance(tokenizer, EncoderTokenizer):
        return tokenizer
    return EncoderTokenizer(tokenizer, *tokenizer.encoder_ids())


def mask_token(token: int) -> dict[str, Any]:
    """An entry of "added_tokens": a mask that takes the space before it, as RoBERTa's does."""
    return special_token(token, MASK) | {"lstrip": True}


def without_new_mask(content: dict[str, Any], roles: Roles) -> dict[str, Any]:
    """The tokenizer.json of `inner`, for one that an EncoderTokenizer with a new mask has written; or any other."""
    model, added = content.get("model"), content.get("added_tokens")
    if roles.mask != MASK or not isinstance(model, dict) or not isinstance(added, list) or not added:
        return content
    vocabulary, last = model.get("vocab"), added[-1]
    is_new = isinstance(vocabulary, dict) and MASK not in vocabulary and isinstance(last, dict)
    return content | {"added_tokens": added[:-1]} if is_new and last == mask_token(last.get("id")) else content
