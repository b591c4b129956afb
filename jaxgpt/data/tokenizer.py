"""Text <-> token ids: what all tokenizers have in common. open_tokenizer.py finds the one that a flag names."""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.errors import DataError

ENDOFTEXT = "<|endoftext|>"  # GPT-2's token that ends a document; in a text file, a line of it separates two


class Template(NamedTuple):
    """The token ids around a text that gets a label, and between the two texts of a pair."""

    begin: tuple[int, ...]
    between: tuple[int, ...]
    end: tuple[int, ...]


PLAIN = Template((), (), ())  # GPT-2's own tokenizer inserts nothing


class Roles(NamedTuple):
    """How an encoder's special tokens are spelled, as tokenizer_config.json names them; None: it doesn't."""

    mask: str | None = None
    cls: str | None = None
    sep: str | None = None
    pad: str | None = None

    def settings(self) -> dict[str, str]:
        """Those that are named, as tokenizer_config.json has them."""
        return {f"{role}_token": text for role, text in self._asdict().items() if text is not None}


class Tokenizer:
    """A way to write text as token ids; a value: equal ones have equal ids, and it can be sent to another process.

    Attributes:
      name: what messages call it.
      vocab_size: V; the ids are 0 to V - 1.
      end: the id that ends a document; None: there is none.
      end_text: how that token is spelled in a prompt.
      pad: an id that no text has, for the rows of a batch of `transformers` that reads labels; None: there is none.
      mask, cls, sep: for encoders, the ids that hide a token, begin a text and end it; None: a decoder's tokenizer.
      separators: how many `sep` an encoder's template has between the two texts of a pair.
    """

    name: str
    vocab_size: int
    end: int | None = None
    end_text: str = ENDOFTEXT
    pad: int | None = None
    mask: int | None = None
    cls: int | None = None
    sep: int | None = None
    separators: int = 2  # as RoBERTa's, the encoder with a byte-level tokenizer

    @property
    def dtype(self) -> np.dtype:
        """The dtype of ids on the host and the disk: uint16 where they fit, else uint32."""
        return np.dtype("<u2" if self.vocab_size <= 2**16 else "<u4")

    @property
    def cache_name(self) -> str:
        """How the names of its files in the cache begin."""
        return f"{self.name}-{self.sha256[:16]}"

    @property
    def template(self) -> Template:
        """What surrounds a text that gets a label: ours, for a model that is trained on labels."""
        return Template(begin=(), between=tuple(self.encode("\n").tolist()), end=(self.require_end("labels"),))

    def encode(self, text: str) -> np.ndarray:
        """A text's ids, `dtype` (N,). How special tokens are spelled is text."""
        raise NotImplementedError

    def encode_prompt(self, text: str) -> list[int]:
        """As `encode`, but `end_text` in the text is the token, as it is for `transformers`."""
        if self.end is None:
            return self.encode(text).tolist()
        first, *documents = (self.encode(part).tolist() for part in text.split(self.end_text))
        return [*first, *(token for document in documents for token in (self.end, *document))]

    def token_bytes(self, token: int) -> bytes:
        """A token's text in UTF-8; a special token's is how it is spelled."""
        raise NotImplementedError

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no character become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def escape_token(self, token: int) -> str:
        """A token's text, in which bytes that are no character are escaped."""
        return self.token_bytes(token).decode("utf-8", errors="backslashreplace")

    @functools.cached_property
    def byte_lengths(self) -> np.ndarray:
        """Each token's length in bytes of text, int32 (V,); 0 for special tokens."""
        lengths = np.array([len(self.token_bytes(token)) for token in range(self.vocab_size)], np.int32)
        lengths[[*self.special_tokens]] = 0
        return lengths

    @property
    def special_tokens(self) -> Sequence[int]:
        """Ids that are no part of a text."""
        return () if self.end is None else (self.end,)

    def split(self, text: str, piece_chars: int) -> Iterator[str]:
        """A long text in pieces, whose ids one after the other are the text's."""
        del piece_chars
        yield text

    def require_end(self, what: str) -> int:
        """The id that ends a document; DataError: there is none, and `what` needs one."""
        if self.end is None:
            raise DataError(f"the tokenizer {self.name} has no token that ends a document; {what} need one: use bytes")
        return self.end

    def encoder_ids(self) -> tuple[int, int, int, int | None]:
        """An encoder's mask, cls, sep and pad: here a new id, twice the one that ends a document, and `pad`.

        Raises:
          DataError: it can't have them.
        """
        end = self.require_end("encoders")
        return self.vocab_size, end, end, self.pad

    def for_decoder(self) -> "Tokenizer":
        """Itself; DataError: it can't write text token by token."""
        return self

    def definition(self) -> dict[str, Any]:
        """tokenizer.json, the format of Hugging Face's library `tokenizers`, without a post-processor."""
        raise NotImplementedError

    @functools.cached_property
    def sha256(self) -> str:
        """Of all that decides its ids, by which a run, a prepared folder and weights know whether they fit."""
        facts = [self.definition(), self.end is not None and self.end_text]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def text_sha256(self) -> str:
        """Of all that decides the ids of texts, by which shards of token ids know whether they fit."""
        return self.sha256

    def hugging_face_files(
        self, max_length: int | None = None, template: Template | None = None, chat_template: str | None = None
    ) -> dict[str, str]:
        """The files by which `transformers` gives the same ids, by name.

        Args:
          max_length: the most tokens of a text, to which `truncation=True` cuts it; None: any number.
          template: for a model with a head for labels. Its files put this around texts and pairs, and take the end
            token's spelling in a text for text. Their padding is `pad`: the head reads the last token that is none.
          chat_template: Jinja of `transformers`, for a model that answers messages.

        Raises:
          DataError: the template needs a padding, and there is none.
        """
        content, pad = self.definition(), None
        if template:
            if self.pad is None:
                raise DataError(f"the tokenizer {self.name} has no id that no text has, to fill up batches of labels")
            spelling = {id: token for token, id in content["model"]["vocab"].items()}
            spelling |= {self.end: self.end_text}
            content |= {"post_processor": post_processor(spelling, template)}
            pad = spelling[self.pad]
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if self.end is not None:
            settings |= {"bos_token": self.end_text, "eos_token": self.end_text}
        files = {"tokenizer.json": json.dumps(content, ensure_ascii=False)}
        return files | tokenizer_config(settings, max_length, template, chat_template, pad)


# ---- The formats of Hugging Face's library `tokenizers` and of `transformers`


def byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in their files, as in OpenAI's two."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def special_token(token: int, text: str) -> dict[str, Any]:
    """An entry of "added_tokens": a token that is found verbatim in a text."""
    verbatim = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token, "content": text, **verbatim}


def byte_level_json(vocabulary: dict[str, int], merges: list[str], end: int, use_regex: bool) -> dict[str, Any]:
    """tokenizer.json of a byte-pair encoding, after GPT-2's pattern or of whole texts, without a post-processor."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special_token(end, ENDOFTEXT)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocabulary, "merges": merges},
    }


def post_processor(spelling: dict[int, str], template: Template, second_type: int = 0) -> dict[str, Any]:
    """What puts a template around texts and pairs.

    Args:
      spelling: has the text of each id in the template.
      second_type: the token type of the second text of a pair and of what follows it; the first's is 0.
    """

    def special(ids: tuple[int, ...], type_id: int = 0) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": spelling[i], "type_id": type_id}} for i in ids]

    a, b = ({"Sequence": {"id": name, "type_id": type_id}} for name, type_id in (("A", 0), ("B", second_type)))
    begin, between, end = template
    inserted = {spelling[i]: {"id": spelling[i], "ids": [i], "tokens": [spelling[i]]} for ids in template for i in ids}
    pair = [*special(begin), a, *special(between), b, *special(end, second_type)]
    pieces = {"single": [*special(begin), a, *special(end)], "pair": pair}
    return {"type": "TemplateProcessing", **pieces, "special_tokens": inserted}


def tokenizer_config(
    settings: dict[str, Any],
    max_length: int | None,
    template: Template | None,
    chat_template: str | None,
    pad_text: str | None,
) -> dict[str, str]:
    """tokenizer_config.json, by its name.

    Args:
      settings: the class of `transformers` and its special tokens.
      max_length, template, chat_template: those of Tokenizer.hugging_face_files.
      pad_text: how the padding of a template is spelled.
    """
    settings = settings | ({} if max_length is None else {"model_max_length": max_length})
    if template:
        settings |= {"pad_token": pad_text, "padding_side": "right", "split_special_tokens": True}
    else:  # texts of a batch that are continued must all end in the last column
        settings |= {"pad_token": settings.get("eos_token"), "padding_side": "left"}
    if chat_template is not None:
        settings |= {"chat_template": chat_template}
    return {"tokenizer_config.json": json.dumps(settings)}
