"""The flags of `jaxgpt prepare`, checked before anything is read."""

import dataclasses
import os
from pathlib import Path
from typing import Literal

from jaxgpt.errors import UsageError

Step = Literal["none", "unicode", "controls", "boilerplate", "c4", "gopher-repetition", "gopher-quality", "fineweb"]


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """The input, the steps, and the output of a preparation."""

    inputs: tuple[str, ...]
    """Files and folders: text, .jsonl, .csv, .tsv (.gz, .zst), .parquet, .warc; hf://OWNER/NAME[/CONFIG]; - (stdin)."""
    out: Path
    """Folder for the shards, meta.json and the report."""
    files: tuple[str, ...] = ()
    """Which files to take from folders, such as "*.py" "*.rst"; by default those of the kinds above."""
    tokenizer: str = "gpt2"
    """What makes token ids of a text: gpt2, bytes, chars, or a tokenizer.json or a folder with one."""
    text_field: str = "text"
    """Where the text is in JSONL, CSV, Parquet and datasets."""
    clean: tuple[Step, ...] = ("unicode", "controls")
    """Repair: unicode, controls, boilerplate. Filters for web text: c4, gopher-repetition, gopher-quality, fineweb.
    none: no step."""
    language: tuple[str, ...] = ()
    """Keep only these languages, such as en de; by fastText's classifier."""
    min_chars: int = 1
    """Drop documents with fewer characters."""
    max_chars: int = 10**9
    """Drop documents with more; one above a million characters was cut into several before."""
    decontaminate: tuple[Path, ...] = ()
    """Drop documents that share 13 words in a row with these evaluation files, JSONL or text."""
    dedup: Literal["none", "exact", "minhash"] = "exact"
    """Keep one of each text; minhash: and one of those that are nearly alike."""
    against: Path | None = None
    """Drop what an earlier prepared folder had as well."""
    index: bool = True
    """Keep what a later --against needs: 8 bytes a document, and with minhash 900 more."""
    pii: Literal["off", "report", "replace", "drop"] = "off"
    """Personal data (e-mail, phone, IP, credit card, IBAN, national numbers, keys): count it, replace it by <EMAIL>
    and the like, or drop the documents."""
    pii_names: str | None = None
    """A spaCy pipeline, such as en_core_web_sm, whose detected names of persons and places count too."""
    counterfactual: str | None = None
    """Add a mirror image of each training document, with words such as he and she swapped: default, the list that
    ships, or a file in the format of jaxgpt/data/word_swaps.txt."""
    canaries: int = 0
    """Plant this many random secrets, 1, 4 or 16 times each, by which memorisation is measured later."""
    val: float = 0.01
    """Share of the documents in the validation split, chosen by a hash of their text."""
    shard_tokens: int = 100_000_000
    """Tokens of a shard."""
    seed: int = 0
    """Random seed of the canaries."""
    work_dir: Path | None = None
    """Keep the cleaned text in this folder until the end, such as one in memory (/dev/shm) or on an encrypted disk; by
    default in --out."""
    workers: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Processes, or tasks at once on a cluster; the result is the same for any number."""
    executor: Literal["local", "slurm", "ray"] = "local"
    """Where the tasks run; on a cluster --out and the input must be shared."""
    sbatch: tuple[str, ...] = ()
    """Options for SLURM: partition=... time=... and others of sbatch."""
    fresh: bool = False
    """Start over: delete what an earlier preparation left in --out."""

    def __post_init__(self):
        for name, low, high in (
            ("val", 0, 0.5),
            ("canaries", 0, 10**5),
            ("workers", 1, 4096),
            ("min_chars", 1, 10**9),
            ("max_chars", 1, 10**9),
            ("shard_tokens", 1, 2**31 - 1),
            ("seed", 0, 2**31 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} {getattr(self, name)} is out of range: it must be from {low} to {high:,}")
        if self.min_chars > self.max_chars:
            raise UsageError(
                f"--min-chars {self.min_chars} is above --max-chars {self.max_chars}: nothing would be left"
            )
        if "none" in self.clean and len(self.clean) > 1:
            raise UsageError("--clean none stands alone; leave it out, or the other steps")
        if self.against and self.dedup == "none":
            raise UsageError("--against needs --dedup exact or minhash")
        if self.pii_names and self.pii == "off":
            raise UsageError("--pii-names needs --pii report, replace or drop")
        if bad := [option for option in self.sbatch if "=" not in option]:
            raise UsageError(f"--sbatch {bad[0]}: use NAME=VALUE, such as partition=cpu")
        if self.sbatch and self.executor != "slurm":
            raise UsageError("--sbatch needs --executor slurm")
