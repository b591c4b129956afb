"""Tokenizers of Hugging Face's format tokenizer.json, by the library `tokenizers`: read, and byte-pair ones trained."""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.tokenizer import (
    ENDOFTEXT,
    Roles,
    Template,
    Tokenizer,
    byte_characters,
    byte_level_json,
    special_token,
)
from jaxgpt.errors import DataError

MAX_VOCAB = 2**24  # ids
MIN_VOCAB = 257  # the bytes, and the token that ends a document
UNNAMED = Roles()
USUAL_ROLES = Roles("[MASK]", "[CLS]", "[SEP]", "[PAD]"), Roles("<mask>", "<s>", "</s>", "<pad>")
GPT2_WORDS = byte_level_json({}, [], 0, use_regex=True)["pre_tokenizer"]  # which cuts a text as GPT-2's own does


@dataclasses.dataclass(frozen=True)
class JSONTokenizer(Tokenizer):
    """A tokenizer.json that the library encodes with.

    Attributes:
      content: the file without a post-processor, as `read_json_tokenizer` has checked it.
      end_text: how the token that ends a document is spelled.
      roles: of tokenizer_config.json, for an encoder.
    """

    content: str = dataclasses.field(repr=False)
    end_text: str = ENDOFTEXT
    roles: Roles = dataclasses.field(default=UNNAMED, compare=False)

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
        except BaseException as error:  # as in `read_json_tokenizer`: such as a pattern that takes too long
            raise DataError(f"the library tokenizers can't encode the text ({_describe(error)})") from None

    def find_role(self, role: str) -> int | None:
        """The id of a role of an encoder: named, or spelled as BERT or RoBERTa spells it; None: there is none."""
        if (named := getattr(self.roles, role)) in self._vocabulary:
            return self._vocabulary[named]
        ids = (self._vocabulary.get(getattr(usual, role)) for usual in USUAL_ROLES)
        return next((id for id in ids if id in self.special_tokens), None)

    def encoder_ids(self) -> tuple[int, int, int, int | None]:
        mask, cls, sep, pad = map(self.find_role, Roles._fields)
        mask = self.vocab_size if mask is None else mask
        cls, sep = (self.end if id is None else id for id in (cls, sep))
        return mask, cls, sep, self.pad if pad in (None, self.end) else pad

    def definition(self) -> dict[str, Any]:
        return json.loads(self.content)

    def hugging_face_files(
        self, max_length: int | None = None, template: Template | None = None, chat_template: str | None = None
    ) -> dict[str, str]:
        files = super().hugging_face_files(max_length, template, chat_template)
        named = self.roles._replace(pad=None).settings()  # which that of a batch is
        settings = json.loads(files["tokenizer_config.json"]) | named
        return files | {"tokenizer_config.json": json.dumps(settings)}


class BPETokenizer(JSONTokenizer):
    """A byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019, section 2.2)."""

    name = "bpe"

    @functools.cached_property
    def pad(self) -> int | None:
        """The byte 0xFF, which UTF-8 doesn't have."""
        return self._vocabulary.get(byte_characters()[255])

    def split(self, text: str, piece_chars: int) -> Iterator[str]:
        content = self.definition()
        if content.get("normalizer") is None and content["pre_tokenizer"] == GPT2_WORDS:
            return GPT2_TOKENIZER.split(text, piece_chars)
        return iter([text])

    def token_bytes(self, token: int) -> bytes:
        return _token_bytes(self.content)[token] if token < self.vocab_size else b""


class WordPieceTokenizer(JSONTokenizer):
    """BERT's (Wu et al., 2016, section 4.1), for encoders alone: it drops spaces and, uncased, case and accents."""

    name = "wordpiece"
    separators = 1

    @functools.cached_property
    def pad(self) -> int | None:
        return self.find_role("pad")

    def split(self, text: str, piece_chars: int) -> Iterator[str]:
        content = self.definition()
        types = [(content.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer")]
        if types == ["BertNormalizer", "BertPreTokenizer"]:  # to which a new line is a space
            return GPT2_TOKENIZER.split(text, piece_chars)
        return iter([text])

    def token_bytes(self, token: int) -> bytes:
        """How the token is spelled: ##ing in a word."""
        return (_load(self.content).id_to_token(token) or "").encode()

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return _load(self.content).decode([*map(int, ids)], skip_special_tokens=False).encode()

    @property
    def byte_lengths(self) -> np.ndarray:
        raise DataError(f"the tokenizer {self.name} has no number of bytes for each token; measure by tokens")

    def for_decoder(self) -> Tokenizer:
        raise DataError(
            f"the tokenizer {self.name} drops spaces, so no text can be written token by token; it is for encoders; "
            "give the tokenizer.json of a byte-level byte-pair encoding"
        )


def read_json_tokenizer(
    where: Path, content: dict[str, Any], end_text: str | None, roles: Roles = UNNAMED
) -> JSONTokenizer:
    """The tokenizer of a tokenizer.json.

    Args:
      where: the file, for errors.
      content: of the file.
      end_text: how the end token is spelled; None: <|endoftext|>, or as an encoder's sep.
      roles: of the tokenizer_config.json beside it.

    Raises:
      DataError: it is neither a byte-level byte-pair encoding nor WordPiece, or has no end token.
    """
    if problem := _find_problem(content):
        raise DataError(f"{where}: {problem}; give the tokenizer.json of a byte-level byte-pair encoding or of BERT")
    is_wordpiece = content["model"].get("type") == "WordPiece"
    cls, post = WordPieceTokenizer if is_wordpiece else BPETokenizer, content.get("post_processor") or {}
    content = content | {"post_processor": None, "truncation": None, "padding": None}
    tokenizer = cls(json.dumps(content, ensure_ascii=False), end_text or ENDOFTEXT, roles)
    try:
        vocabulary = _load(tokenizer.content).get_vocab(with_added_tokens=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the library's PanicException is no Exception
        raise DataError(f"{where}: the library tokenizers can't read it ({_describe(error)})") from None
    if not vocabulary or max(vocabulary.values()) >= MAX_VOCAB:
        raise DataError(f"{where}: its ids must be below {MAX_VOCAB:,}, and there must be some")
    config = where.with_name("tokenizer_config.json")
    if is_wordpiece:
        missing = [role for role in ("mask", "cls", "sep") if tokenizer.find_role(role) is None]
        if missing:
            line = json.dumps({f"{role}_token": "TOKEN" for role in missing})
            raise DataError(f"{where}: WordPiece with no token that is its {missing[0]}; name it in {config}: {line}")
        end_text = _load(tokenizer.content).id_to_token(tokenizer.find_role("sep"))
    elif end_text is None and ENDOFTEXT not in vocabulary and post.get("type") == "RobertaProcessing":
        end_text = post["sep"][0]
    tokenizer = dataclasses.replace(tokenizer, end_text=end_text or ENDOFTEXT)
    end = vocabulary.get(tokenizer.end_text)
    if end is None:
        line = json.dumps({"eos_token": end_text or "TOKEN"}, ensure_ascii=False)
        missing = f", {end_text!r}, is none of its tokens" if end_text else " is not named"
        raise DataError(f"{where}: the token that ends a document{missing}; name it in {config}: {line}")
    added = content.get("added_tokens", [])
    if end not in tokenizer.special_tokens:
        added = [*added, special_token(end, tokenizer.end_text)]
    return dataclasses.replace(tokenizer, content=json.dumps(content | {"added_tokens": added}, ensure_ascii=False))


def _find_problem(content: dict[str, Any]) -> str:
    """What makes a tokenizer.json another kind of tokenizer; "" if nothing."""
    model, added = content.get("model"), content.get("added_tokens", [])
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return "no tokenizer: it has no model with a vocabulary"
    if not isinstance(added, list) or not all(isinstance(each, dict) and type(each.get("id")) is int for each in added):
        return "its added_tokens are no list of tokens with ids"
    if (kind := model.get("type", "BPE")) == "WordPiece":
        unknown = model.get("unk_token")
        is_known = isinstance(unknown, str) and unknown in model["vocab"]
        return "" if is_known else f"its unk_token is {unknown!r:.40}, and none of its tokens"
    if kind != "BPE":
        return f"its model is {kind!r:.40}"
    # By the first a text has other ids each time; with the others the library may abort the process.
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            return f"its {name} is {model[name]!r:.40}"
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
    """A library's message without what it quotes: a vocabulary is made of texts."""
    return re.sub(r"(['\"`]).+?\1", "...", " ".join(str(error).split()))[:200]


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
