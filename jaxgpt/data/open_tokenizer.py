"""The tokenizer that a flag names, and the one that a run or a prepared folder has kept."""

import contextlib
import os
from pathlib import Path
from typing import Any

from jaxgpt.data.encoder_tokenizer import for_encoder, without_new_mask
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, is_gpt2
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.data.tokenizer import Roles, Tokenizer
from jaxgpt.errors import DataError, UsageError
from jaxgpt.files import new_file
from jaxgpt.json_file import read_object

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"  # of older versions of transformers, and never ours
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
    if not isinstance(tokenizer, CharTokenizer) and (encoder := for_encoder(tokenizer)).sha256 == sha256:
        return encoder
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
    end_text, roles = _read_names(path)
    content = without_new_mask(_read_object(path), roles)
    if is_gpt2(content):
        return GPT2_TOKENIZER
    for tokenizer in (NAMES["bytes"], _char_tokenizer(content)):
        if tokenizer and tokenizer.definition() == content | {"post_processor": None}:
            return tokenizer
    from jaxgpt.data.json_tokenizers import read_json_tokenizer  # a library that only this one needs

    return read_json_tokenizer(path, content, end_text, roles)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path, MAX_BYTES)
    except ValueError as error:
        raise DataError(f"{path}: can't be read ({error}); give a tokenizer.json, or copy it again") from None


def _read_names(path: Path) -> tuple[str | None, Roles]:
    """How the files beside it spell the end token (None: they don't, or are not there), and the roles of an encoder."""
    settings: dict[str, Any] = {}
    for name in (SPECIAL_TOKENS, CONFIG) if path.name == FILE else ():
        with contextlib.suppress(FileNotFoundError):
            settings |= _read_object(path.with_name(name)) | ({"eos_token": None} if name == SPECIAL_TOKENS else {})
    end_token = settings.get("eos_token")
    if end_token is not None and not _read_text(end_token):
        raise DataError(f"{path.with_name(CONFIG)}: eos_token is {end_token!r:.40}, and must be the text of a token")
    return _read_text(end_token), Roles(*(_read_text(settings.get(f"{role}_token")) for role in Roles._fields))


def _read_text(token: Any) -> str | None:
    """The text of a token, for which transformers writes a text or an object; None: it is neither."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and text else None


def _char_tokenizer(content: dict[str, Any]) -> CharTokenizer | None:
    """The characters of a tokenizer.json, if it has nothing longer."""
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not vocabulary or any(len(token) != 1 for token in vocabulary):
        return None
    if list(vocabulary) != sorted(vocabulary):
        return None
    return CharTokenizer("".join(vocabulary), bool(content.get("added_tokens")))
