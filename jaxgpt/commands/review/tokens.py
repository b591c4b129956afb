"""The secrets in annotators' addresses, kept beside the judgments: an address works as long as they are there."""

import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from jaxgpt.errors import DataError
from jaxgpt.files import report_write_errors, write_whole
from jaxgpt.json_file import read_object


def tokens_path(out: Path) -> Path:
    """The file of secrets beside the judgments."""
    return out.with_suffix(".tokens.json")


def load_tokens(out: Path, annotators: Sequence[str]) -> dict[str, str]:
    """{token: annotator}; who has none gets one, which is on the disk when this returns, for its owner's eyes alone.

    Raises:
      DataError: the file has something else.
      UsageError: it can't be written.
    """
    path, known = tokens_path(out), read_tokens(out)
    new = {name: secrets.token_urlsafe(16) for name in annotators if name not in known}
    with report_write_errors(out.parent):
        if new:
            write_whole(path, json.dumps(known | new, indent=1, ensure_ascii=False) + "\n")
        os.chmod(path, 0o600)
    return {token: name for name, token in (known | new).items() if name in annotators}


def read_tokens(out: Path) -> dict[str, str]:
    """{annotator: token} of those who have one. DataError: the file has something else."""
    path, known = tokens_path(out), {}
    with contextlib.suppress(FileNotFoundError):
        try:
            known = read_object(path)
        except ValueError as error:
            raise DataError(f"{path}: {error}; delete it, and all annotators get new addresses") from None
    tokens = [*known.values()]
    are_secrets = all(isinstance(token, str) and len(token) >= 16 and token.isascii() for token in tokens)
    if not are_secrets or len({*tokens}) < len(tokens):
        raise DataError(f"{path}: not a file of {{name: secret}}; delete it, and all annotators get new addresses")
    return known
