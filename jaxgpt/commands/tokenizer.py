"""Train a tokenizer on text: `jaxgpt tokenizer train INPUT... --vocab 8192 --out FOLDER`."""

import dataclasses
import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from jaxgpt import console, signals
from jaxgpt.commands.flags import HELP, parse, positional
from jaxgpt.commands.prepare import require_libraries
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.open_tokenizer import FILES
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError, UsageError, require
from jaxgpt.files import new_folder, require_empty, require_separate
from jaxgpt.prepare.config import PrepareConfig
from jaxgpt.progress_bar import stage

VAL = 0.05  # share of the text that is measured in place of trained on
VAL_CHARS = 4_000_000  # at most so many characters of it
PART_CHARS = 5_000  # of the parts that are for validation or trained on


@dataclasses.dataclass(frozen=True)
class TokenizerTrainConfig:
    """Train a byte-level byte-pair encoding, a tokenizer as GPT-2's, on text of any kind that `jaxgpt prepare` reads.

    `--tokenizer FOLDER` of prepare and train takes the result, and `transformers`' AutoTokenizer reads it.
    """

    inputs: Annotated[tuple[str, ...], *positional("INPUT")]
    """Files and folders: text, .jsonl, .csv, .tsv (.gz, .zst), .parquet, .warc; hf://OWNER/NAME[/CONFIG]; - (stdin)."""
    out: Path
    """Where to write tokenizer.json and tokenizer_config.json; a new folder, or an empty one."""
    vocab: int = 8192
    """Token ids, of which 257 are the bytes and <|endoftext|>; fewer where the text has fewer pairs to merge."""
    files: tuple[str, ...] = ()
    """Which files to take from folders, such as "*.py" "*.rst"; by default those of the kinds above."""
    text_field: str = PrepareConfig.text_field
    """Where the text is in JSONL, CSV, Parquet and datasets."""
    workers: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Threads; the result is the same for any number."""

    def __post_init__(self):
        if not self.inputs:
            raise UsageError("not given: INPUT..." + HELP)
        require(257 <= self.vocab < 2**24, "vocab", self.vocab, "from 257 to 2**24 - 1")
        require(1 <= self.workers <= 4096, "workers", self.workers, "from 1 to 4,096")


def main(argv: Sequence[str]) -> int:
    action, *words = argv or [""]
    if action.startswith("-"):  # --help, or a flag that may be wrong
        parse(TokenizerTrainConfig, argv, command="tokenizer train")
    if action != "train":
        raise UsageError(f"tokenizer {action}: the next word must be train{HELP}")
    config = parse(TokenizerTrainConfig, words, command="tokenizer train")
    require_libraries()
    require_empty(config.out, except_for=FILES)
    inputs = [("the input", name) for name in config.inputs if name != "-"]
    require_separate("--out", config.out, inputs)

    from jaxgpt.data import json_tokenizers

    val: list[str] = []
    temporary = tempfile.TemporaryDirectory(prefix="jaxgpt-tokenizer-")
    with signals.before_exit(temporary.cleanup), temporary as folder, stage("training"):
        texts = read_texts(config, Path(folder), val)
        tokenizer = json_tokenizers.train(texts, config.vocab, config.workers)
    with new_folder(config.out, FILES) as new:
        for name, text in tokenizer.hugging_face_files().items():
            (new / name).write_text(text, encoding="utf-8")
    fewer = f", not {config.vocab:,}: the text has no more pairs to merge" * (tokenizer.vocab_size < config.vocab)
    console.say("vocabulary", f"{tokenizer.vocab_size:,} token ids{fewer}")
    if val:
        sizes = [measure(val, each) for each in (tokenizer, GPT2_TOKENIZER)]
        size = sum(len(text.encode()) for text in val)
        console.say("val", f"{sizes[0]:.3f} bytes per token, and GPT-2's {sizes[1]:.3f}, on {size:,} bytes")
    console.say("saved", str(config.out))
    console.say("train", f"{console.program('train')} --tokenizer {shlex.quote(str(config.out))} --data FILE")
    return 0


def read_texts(config: TokenizerTrainConfig, temporary: Path, val: list[str]) -> Iterator[str]:
    """The parts of the input to train on, in its order; some of the others are put into `val`.

    Args:
      temporary: a folder for what comes through pipes.

    Raises:
      DataError: there is no text.
    """
    from jaxgpt.prepare import sources
    from jaxgpt.prepare.broken import Broken, LineCounter
    from jaxgpt.prepare.documents import split_long_text
    from jaxgpt.prepare.readers import READERS
    from jaxgpt.prepare.tokenize import is_validation

    count = room = 0
    pieces = sources.plan_pieces(sources.save_streams(config.inputs, temporary / "input"), config.files)
    units = [unit for piece in pieces for unit in piece]
    with stage("reading", sum(unit.size for unit in units) / 1e6, unit="MB") as advance:
        for unit in units:
            for _, text in READERS[unit.kind](unit, config.text_field, LineCounter()):
                if isinstance(text, Broken) or not text.strip():
                    continue
                for part in split_long_text(text, PART_CHARS):
                    if room < VAL_CHARS and is_validation(part.encode(), VAL):
                        val.append(part)
                        room += len(part)
                    else:
                        count += 1
                        yield part
            advance(unit.size / 1e6)
    if not count and val:  # a short text: it is trained on, and nothing is measured
        count = len(val)
        yield from val
        val.clear()
    if not count:
        raise DataError(f"{' '.join(config.inputs):.200}: there is no text to train on; give more, or see --text-field")


def measure(texts: Sequence[str], tokenizer: Tokenizer) -> float:
    """Bytes of UTF-8 per token."""
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    return sum(len(text.encode()) for text in texts) / tokens
