"""The documents of a text file, by one rule for training, evaluation and preparation."""

import codecs
import json
import os
import re
import shlex
from pathlib import Path

from jaxgpt.data.tokenizer import ENDOFTEXT
from jaxgpt.errors import DataError

BYTE_ORDER_MARK = "\ufeff"
_BLANKS = r"[ \t\r\f\v]*"
_SEPARATOR_LINE = rf"(?m)^(?:{BYTE_ORDER_MARK})?{_BLANKS}{re.escape(ENDOFTEXT)}{_BLANKS}(?:\n|\Z)"
_IN_TEXT, _IN_BYTES = re.compile(_SEPARATOR_LINE), re.compile(_SEPARATOR_LINE.encode())


def is_separator(line: bytes) -> bool:
    """Whether a line of a text file separates two documents: one of `<|endoftext|>` and blanks alone."""
    return bool(_IN_BYTES.fullmatch(line))


def split_documents(text: str) -> list[str]:
    """The parts of a text file between its separators, as `normalize` has them; blank ones are parts too."""
    return [normalize(part) for part in _IN_TEXT.split(text)]


def normalize(text: str) -> str:
    """A document without the byte order mark (U+FEFF) at its beginning, and with a newline for each CR LF."""
    return text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n")


def require_no_utf16(name: str, content: bytes) -> None:
    """Refuse UTF-16 and UTF-32 without a byte order mark, which are UTF-8 too where all is ASCII: with many zeros."""
    zeros = content.count(0)
    if zeros * 10 > len(content):
        width = 32 if zeros * 8 > 5 * len(content) else 16
        order = "LE" if content[1::2].count(0) > content[::2].count(0) else "BE"
        raise DataError(
            f"{name}: {zeros:,} of {len(content):,} bytes are 0, as in UTF-{width} without a byte order mark; "
            f"convert it first: iconv -f UTF-{width}{order} -t UTF-8"
        )


def require_text_format(name: str) -> None:
    """Refuse the formats that nothing here reads and that would be taken for text, with a command that helps."""
    suffix, file = Path(name).suffix.lower(), shlex.quote(name)
    if suffix != ".parquet" and (command := find_jsonl_command(name)):
        raise DataError(f"{name}: a table of the library datasets, not a text; make JSONL of it: {command}")
    if Path(name).is_dir():
        return
    if suffix == ".pdf":
        raise DataError(f"{name}: a PDF is not a text; convert it first: pdftotext {file}")
    if suffix == ".json":
        with open(name, "rb") as content:
            is_list = content.read(1 << 10).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
        convert = f"convert the list: jq -c '.[]' {file} >" if is_list else f"if it has, rename it: mv {file}"
        raise DataError(
            f"{name}: JSON must have one object a line and a name that ends in .jsonl; {convert} {file}l; "
            "or name it .txt to learn JSON itself"
        )


def find_jsonl_command(name: str) -> str:
    """The command that makes JSONL of what the library datasets reads, an hf:// name too; "" for anything else."""
    path, suffix, quoted = Path(name), Path(name).suffix.lower(), json.dumps(name, ensure_ascii=False)
    if name.startswith("hf://"):
        owner, *rest = name.removeprefix("hf://").split("/")
        words = [json.dumps(word) for word in ("/".join([owner, *rest[:1]]), *rest[1:])]
        table = f'load_dataset({", ".join(words)}, split="train")'
    elif os.path.isfile(path / "dataset_dict.json"):  # by save_to_disk, with a folder for each split
        table = f'load_from_disk({quoted})["train"]'
    elif os.path.isfile(path / "state.json") and os.path.isfile(path / "dataset_info.json"):
        table = f"load_from_disk({quoted})"
    elif suffix in (".parquet", ".arrow"):
        table = f"Dataset.{'from_parquet' if suffix == '.parquet' else 'from_file'}({quoted})"
    else:
        return ""
    code = f"import datasets; datasets.{table}.to_json({json.dumps(f'{path.name}.jsonl', ensure_ascii=False)})"
    return f"python -c {shlex.quote(code)}"
