"""The tokenizer that a flag names, and the one that a run or a prepared folder has kept."""

import os
from pathlib import Path
from typing import Any

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, is_gpt2
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError, UsageError
from jaxgpt.files import new_file
from jaxgpt.json_file import read_json

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
FILES = (FILE, CONFIG)  # what a folder keeps of a tokenizer that is not GPT-2's
MAX_BYTES = 64 << 20  # the largest in use have 33 million
NAMES = {"gpt2": GPT2_TOKENIZER, "bytes": ByteTokenizer()}


def open_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that `--tokenizer` names: gpt2, bytes, a tokenizer.json, or a folder with one.

    `chars` has the characters of a text: datasets.choose_tokenizer.

    Raises:
      UsageError: there is no such file.
      DataError: it is no tokenizer that can be used.
    """
    if name in NAMES:
        return NAMES[name]
    path = Path(name)
    if os.path.isdir(path):  # Path.is_dir raises an error for a name that is too long
        path /= FILE
    try:
        return read_tokenizer(path)
    except FileNotFoundError:
        choices = "gpt2, bytes, chars, a tokenizer.json, or a folder with one"
        raise UsageError(f"--tokenizer {name}: there is no {path}; give {choices}") from None


def read_kept(folder: Path, sha256: str | None) -> Tokenizer:
    """The tokenizer of this hash, which a run or a prepared folder has kept; None: GPT-2's, of an older one.

    Raises:
      DataError: it is not there, or another one.
    """
    for tokenizer in NAMES.values():
        if sha256 in (None, tokenizer.sha256):
            return tokenizer
    try:
        tokenizer = read_tokenizer(folder / FILE)
    except FileNotFoundError:
        raise DataError(f"{folder / FILE}: missing, and {folder} needs it; bring it back") from None
    if tokenizer.sha256 != sha256:
        found = f"its hash is {tokenizer.sha256:.12}, and {sha256!s:.12} was kept"
        raise DataError(f"{folder / FILE}: not the tokenizer of {folder}: {found}; bring that one back")
    return tokenizer


def keep(tokenizer: Tokenizer, folder: Path) -> None:
    """Write what `read_kept` reads of a tokenizer that is not GPT-2's."""
    if tokenizer == GPT2_TOKENIZER:
        return
    for name, text in tokenizer.hugging_face_files().items():
        with new_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, and of the tokenizer_config.json beside it, which names its end token.

    Raises:
      FileNotFoundError: there is no such file.
      DataError: it is no tokenizer that can be used.
    """
    content = _read_object(path)
    if is_gpt2(content):
        return GPT2_TOKENIZER
    for tokenizer in (NAMES["bytes"], _char_tokenizer(content)):
        if tokenizer and tokenizer.definition() == content | {"post_processor": None}:
            return tokenizer
    from jaxgpt.data.json_tokenizers import BPETokenizer  # a library that only this one needs

    return BPETokenizer.read(path, content, _read_end_text(path))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path, MAX_BYTES)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: can't be read ({error}); give a tokenizer.json, or copy it again") from None
    return content


def _read_end_text(path: Path) -> str | None:
    """How tokenizer_config.json spells the end token; None: it doesn't, or is not there."""
    if path.name != FILE:
        return None
    try:
        token = _read_object(path.with_name(CONFIG)).get("eos_token")
    except FileNotFoundError:
        return None
    text = token.get("content") if isinstance(token, dict) else token  # transformers writes both
    if text is not None and not (isinstance(text, str) and text):
        raise DataError(f"{path.with_name(CONFIG)}: eos_token is {token!r:.40}, and must be the text of a token")
    return text


def _char_tokenizer(content: dict[str, Any]) -> CharTokenizer | None:
    """The characters of a tokenizer.json, if it has nothing longer."""
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not vocabulary or any(len(token) != 1 for token in vocabulary):
        return None
    if list(vocabulary) != sorted(vocabulary):
        return None
    return CharTokenizer("".join(vocabulary), bool(content.get("added_tokens")))
